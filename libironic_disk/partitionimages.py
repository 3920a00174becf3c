"""Images of one file system: refused where they are something else or too large, and written onto their volume."""

from __future__ import annotations

from pathlib import Path

from libironic_disk import filesystems, grub, images
from libironic_disk.errors import BootImpossible, ImageRefused, ImageTooLarge
from libironic_disk.events import Cancellation, EventSink
from libironic_disk.filesystems import Probed
from libironic_disk.images import ImageWritten, InspectedImage


def check(
    image: InspectedImage, *, target: str, capacity: int, boots: bool, device: str, cancel: Cancellation | None = None
) -> str | None:
    """Refuse what isn't the image of one file system, as far as it can be looked into; a stream is when it is written.

    Args:
        image: what was inspected.
        target: what it will be written to, for messages.
        capacity: how many bytes that has.
        boots: whether GRUB is to start a kernel from it.
        device: the disk, for messages.
        cancel: asked while it is read.

    Returns:
        Which file system it holds, None where it can't be looked into.

    Raises:
        ImageRefused: it holds a partition table, several file systems, or nothing that is known.
        ImageTooLarge: it, or the file system in it, has more bytes than its target.
        ImageDamaged: it was cut off.
        BootImpossible: GRUB can't start from its file system.
        SourceFailed, ProgramError: it can't be read.
        Cancelled: the caller wished so.
    """
    images.check_room(image, target, capacity)
    inside = images.look_inside(image, cancel=cancel)
    if inside is None:
        return None
    kinds = [found.kind for found in inside.signatures]
    if len(kinds) > 1:
        raise ImageRefused(image=image.name, reason=f"it is {' and '.join(kinds)} at the same time")
    if not kinds and inside.has_table:
        reason = "it has a partition table: it looks like a whole-disk image, and a partition image is deployed here"
        raise ImageRefused(image=image.name, reason=reason)
    if not kinds:
        raise ImageRefused(image=image.name, reason="it holds no file system that is known here")
    images.check_whole(image, inside.file_system_size, image.virtual_size)
    if inside.file_system_size is not None and inside.file_system_size > capacity:
        raise ImageTooLarge(image=image.name, target=target, wanted=inside.file_system_size, available=capacity)
    if boots and kinds[0] not in grub.ROOT_FILE_SYSTEMS:
        reason = f"the image {image.name} holds {kinds[0]}, and GRUB can't start from it"
        raise BootImpossible(device=device, reason=reason)
    return kinds[0]


def write(
    image: InspectedImage,
    node: str,
    *,
    capacity: int,
    sink: EventSink,
    cancel: Cancellation | None = None,
    spool_dir: Path | None = None,
    verify: bool = False,
) -> tuple[ImageWritten, Probed]:
    """Write an image, and return what is on ``node`` then.

    Raises:
        ImageRefused: of a stream: it holds no file system that is known here.
        ImageDamaged: of a stream: it was cut off.
        DiskError: what :func:`libironic_disk.images.write_image` raises.
    """
    written = images.write_image(
        image, node, capacity=capacity, sink=sink, cancel=cancel, spool_dir=spool_dir, verify=verify
    )
    # Of an image that couldn't be looked into before.
    images.check_whole(image, filesystems.size_of(node), written.bytes_written)
    found = filesystems.read(node)
    if found is None:
        raise ImageRefused(image=image.name, reason="it holds no file system that is known here")
    return written, found
