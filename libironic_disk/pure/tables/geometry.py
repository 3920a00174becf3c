"""Whether the table of a whole-disk image can mean on a disk what it meant where it was made.

Tables count in sectors and an MBR doesn't even say of how many bytes. What is refused here is proven wrong; what
isn't refused isn't proven right.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from libironic_disk.errors import GeometryMismatch, ImageRefused
from libironic_disk.pure.images.superblocks import file_system_size
from libironic_disk.pure.tables.bootrecord import PROTECTIVE, RECORD_SIZE, Slot, slots_of
from libironic_disk.pure.tables.gptcopy import MAGIC
from libironic_disk.pure.tables.model import FoundTable
from libironic_disk.pure.tables.reading import is_file_system
from libironic_disk.units import KIB, in_words

HEAD_SIZE: Final = 68 * KIB
"""How many bytes of an image tell: sector 1 of any size, ISO 9660's first descriptor and superblocks lie within."""

ISO_DESCRIPTOR: Final = 16 * 2048
"""Where ISO 9660's first volume descriptor is, in the 17th sector of 2048 bytes (ECMA-119, section 7.1.1)."""

ISO_MAGIC: Final = b"CD001"
"""What begins in its second byte (section 8.1.2)."""

_SECTOR_SIZES: Final = (512, 1024, 2048, 4096)
# UEFI 2.10, table 5.5.
_LAST_USABLE_AT: Final = 48
_BOOTABLE: Final = b"\x55\xaa"


def check_is_disk(head: bytes, *, image: str) -> None:
    """Check that the first bytes of an image are those of a disk that something could be started from.

    Raises:
        ImageRefused: there is no partition table, no boot sector and no ISO 9660 file system.
    """
    is_gpt = any(head[size : size + len(MAGIC)] == MAGIC for size in _SECTOR_SIZES)
    is_iso = head.startswith(ISO_MAGIC, ISO_DESCRIPTOR + 1)
    if is_gpt or is_iso or head[RECORD_SIZE - len(_BOOTABLE) : RECORD_SIZE] == _BOOTABLE:
        return
    if file_system_size(head) is not None:
        reason = "it is a file system without a partition table: a partition image, and no whole disk"
    else:
        reason = "it has no partition table, no boot sector and no ISO 9660 file system: nothing starts from it"
    raise ImageRefused(image=image, reason=reason)


def check_geometry(
    head: bytes, *, image: str, image_size: int | None, device: str, disk_size: int, sector_size: int
) -> None:
    """Check the first bytes of an image's disk against the disk that it is to be written to.

    Args:
        head: the first :data:`HEAD_SIZE` bytes, or fewer where the image has no more.
        image: its name.
        image_size: its bytes, where they are known.
        device: the disk's name.
        disk_size: its bytes.
        sector_size: its logical sector size.

    Raises:
        GeometryMismatch: the table was made for sectors of another size.
        ImageRefused: the table describes a larger disk.
    """
    slots = slots_of(head[:RECORD_SIZE])
    if slots is None or not all(slot.plausible for slot in slots) or is_file_system(head[:RECORD_SIZE]):
        return
    if any(slot.type_id == PROTECTIVE for slot in slots):
        made_for = [size for size in _SECTOR_SIZES if head[size : size + len(MAGIC)] == MAGIC]
        reach = _reach_of_gpt(head, sector_size)
    else:
        made_for = list(_sizes_that_fit(slots, image_size, sector_size))
        reach = max((slot.first_lba + slot.sectors for slot in slots if slot.sectors), default=0) * sector_size
    if made_for and sector_size not in made_for:
        raise GeometryMismatch(image=image, device=device, made_for=made_for[0], sector_size=sector_size)
    if reach > disk_size:
        reason = f"its partition table is for a disk of at least {in_words(reach)}, {device} has {in_words(disk_size)}"
        raise ImageRefused(image=image, reason=reason)


def cut_off(table: FoundTable | None, image_size: int) -> Iterator[str]:
    """Yield, in words, which partitions of an image's table go on where the image has ended.

    Some images are cut behind their last used byte on purpose, others when a copy of them was.
    """
    for part in table.partitions if table else ():
        if part.end > image_size:
            yield f"it ends {in_words(part.end - image_size)} before its partition {part.number} does"


def _reach_of_gpt(head: bytes, sector_size: int) -> int:
    """Return the first byte behind what partitions may use; a disk that ends before makes the header invalid."""
    at = sector_size + _LAST_USABLE_AT
    if head[sector_size : sector_size + len(MAGIC)] != MAGIC or len(head) < at + 8:
        return 0
    (last_usable,) = struct.unpack_from("<Q", head, at)
    return (int(last_usable) + 1) * sector_size


def _sizes_that_fit(slots: Sequence[Slot], image_size: int | None, sector_size: int) -> Iterator[int]:
    """Yield the sector sizes with which an MBR's partitions lie within the image; none where that proves nothing.

    An image that was cut behind its last used byte fits with none of them.
    """
    if image_size is None:
        return
    ends = [slot.first_lba + slot.sectors for slot in slots if slot.sectors]
    yield from (size for size in {512, sector_size} if ends and max(ends) * size <= image_size)
