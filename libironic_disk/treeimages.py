"""Images that are archives of files: recognised, and unpacked onto volumes with file systems of their own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from libironic_disk import images
from libironic_disk.errors import ImageRefused
from libironic_disk.events import Cancellation, EventSink
from libironic_disk.images import ImageFormat, InspectedImage
from libironic_disk.machine.images.metering import Meter
from libironic_disk.machine.images.reading import image_read
from libironic_disk.machine.trees import archive
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.disks.layout import FileSystem

_HEAD = 512


def is_tree(image: InspectedImage, *, cancel: Cancellation | None = None) -> bool:
    """Whether an image is a tar archive, inside of the compression around it.

    Raises:
        SourceFailed, ImageDamaged, Cancelled: as :func:`libironic_disk.images.first_bytes`.
    """
    if image.format is not ImageFormat.RAW:
        return False
    head = images.first_bytes(image, _HEAD, cancel=cancel)
    return head is not None and archive.is_archive(head)


def unpack(
    image: InspectedImage,
    volumes: Mapping[str, tuple[str, FileSystem]],
    *,
    sink: EventSink,
    cancel: Cancellation | None = None,
) -> int:
    """Unpack an image onto its volumes, and return how many files and directories it had.

    Args:
        image: an archive.
        volumes: nodes and their file systems, by the mount points that the image will have them at.
        sink: gets :class:`~libironic_disk.events.BytesMoved` about ten times a second.
        cancel: asked all the time.

    Raises:
        ImageRefused: no volume is its root.
        ImageDamaged: it is no sound archive.
        ChecksumMismatch: it isn't the one that its owner described.
        PathFailed: a member leads out of the tree, or a volume is full.
        DeviceFailed: a volume can't be mounted or written.
        SourceFailed: it failed, or ended early.
        Cancelled: the caller wished so.
    """
    if "/" not in volumes:
        raise ImageRefused(image=image.name, reason="no volume is to be its root")
    meter = Meter(sink, image.source.size, cancel)
    with ExitStack() as stack:
        trees = {
            mount: RootDir(stack.enter_context(mounted(node, filesystem, read_only=False)), tree=node)
            for mount, (node, filesystem) in volumes.items()
        }
        with image_read(image, meter=meter, cancel=cancel) as reading:
            count = archive.unpack(reading, trees)
            reading.check()
    meter.ended()
    return count
