"""The second engine: xorriso makes a whole new ISO with the same changes.

It loads the tree, replaces files and writes everything anew, with boot images, boot catalog and partition tables
replayed from what it found (xorriso manual, "-boot_image any replay"). It copies everything, and knows its own way of
each layout: so it is a second opinion, and helps where ranges of the old file wouldn't.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from libironic_disk.errors import BootIsoRefused
from libironic_disk.events import Cancellation
from libironic_disk.machine import process, scratch
from libironic_disk.machine.isos.opening import OpenFile
from libironic_disk.machine.isos.writing import check_room
from libironic_disk.machine.replacing import parts_of, replacing, require_plain, sync
from libironic_disk.pure.iso.changing import IsoEdit
from libironic_disk.pure.iso.image import IsoImage, read_image
from libironic_disk.pure.ropes import Base, Rope

TOOL: Final = "xorriso"
TIMEOUT: Final = 3600.0
"""Seconds; a whole ISO is written."""
NOT_WHOLE: Final = "xorriso says that it made a whole ISO, and there is none"
_SPARE: Final = 16 * 1024 * 1024  # directories and padding of its own


def rewrite(
    source: OpenFile,
    image: IsoImage,
    base: Base,
    edit: IsoEdit,
    destination: Path,
    *,
    timeout: float = TIMEOUT,
    cancel: Cancellation | None = None,
) -> None:
    """Have xorriso write the ISO with other files into a file that has its name only when it is complete.

    Args:
        source: the ISO.
        image: what it is.
        base: what the ropes are made of.
        edit: new contents, and the volume's new name; an implanted checksum isn't renewed.
        destination: the file.
        timeout: seconds after which xorriso is killed.
        cancel: thrown by the caller, it kills xorriso.

    Raises:
        BootIsoRefused: a boot image that changed is neither in the tree nor a partition.
        ToolMissing, ProgramFailed, ProgramTimedOut: xorriso.
        NotEnoughRoom: there are too few free bytes for the ISO; nothing was written.
        PathFailed: the file can't be made or written; nothing is left of it.
        SourceFailed, SourceChanged: the ISO can't be read, or was written to.
        Cancelled: the caller wished so.
    """
    process.require((TOOL,))
    new = {index: _partition_number(image, index, source.name) for index in edit.boot_images}
    changed = sum(rope.size for rope in (*edit.files.values(), *edit.boot_images.values()))
    check_room(destination.parent, source.size + changed + _SPARE)
    require_plain(destination)
    with replacing(destination) as temporary, scratch.directory_at(parts_of(temporary)) as made:
        arguments = [*_updates(edit.files, base, made)]
        for index, number in new.items():
            path = made / f"boot-image-{index}"
            _spill(edit.boot_images[index], base, path)
            arguments += ["-append_partition", str(number), _type_of(image, number), str(path)]
        if edit.volume_id is not None:
            arguments += ["-volid", edit.volume_id]
        # It writes to what is there as if that were a medium with sessions, unless it is empty.
        process.run(
            # What it can't read it fills with zeros: that is a MISHAP, and by its own measure a success.
            *(TOOL, "-no_rc", "-abort_on", "MISHAP", "-return_with", "MISHAP", "32"),
            *("-indev", f"stdio:{source.name}", "-outdev", f"stdio:{temporary}"),
            *("-boot_image", "any", "replay", *arguments, "-commit", "-end"),
            timeout=timeout,
            cancel=cancel,
        )
        source.check_unchanged()
        for index, number in new.items():
            rope = edit.boot_images[index]
            if not is_partition(temporary, number, rope.read_at(base, 0, rope.size)):
                raise BootIsoRefused(iso=source.name, reason=f"{NOT_WHOLE} in {temporary.parent}")
        sync(temporary)


def is_partition(iso: Path, number: int | None, content: bytes) -> bool:
    """Whether a partition of an ISO begins with some bytes; any if there is no number.

    Of one that it appends, xorriso doesn't say at all that it couldn't read it.

    Raises:
        IsoInvalid, IsoUnsupported: it is no ISO.
        SourceFailed: it can't be read.
    """
    with OpenFile(iso) as file:
        partitions = read_image(file, name=file.name).partitions
        return any(
            file.read_at(partition.start, len(content)) == content
            for partition in partitions
            if number in {None, partition.number}
        )


def _updates(files: Mapping[str, Rope], base: Base, made: Path) -> Iterator[str]:
    for number, (path, rope) in enumerate(sorted(files.items())):
        spilled = made / str(number)
        _spill(rope, base, spilled)
        yield from ("-overwrite", "on", "-map", str(spilled), path)


def _spill(rope: Rope, base: Base, path: Path) -> None:
    with path.open("wb") as file:
        for chunk in rope.chunks(base):
            file.write(chunk)
    path.chmod(0o444)


def _partition_number(image: IsoImage, index: int, name: str) -> int:
    """Return the number of the partition that is a boot image."""
    wanted = image.boot_images[index]
    for partition in image.partitions:
        if partition.start == wanted.offset:
            return partition.number
    raise BootIsoRefused(iso=name, reason=f"boot image {index} is neither in the tree nor a partition")


def _type_of(image: IsoImage, number: int) -> str:
    return next(partition.type_id for partition in image.partitions if partition.number == number)
