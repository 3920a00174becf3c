"""What boot loaders have inside of them about where they are.

A boot loader of a BIOS is loaded in part only and reads the rest by itself. So mkisofs and its kin write a table into
it (option -boot-info-table): sector of the volume descriptor, its own sector, its size and a checksum. GRUB has one
more number (--grub2-boot-info), and the code in the MBR has the loader's address too (isohybrid, --grub2-mbr).
"""

from __future__ import annotations

import struct
from typing import Final

from libironic_disk.errors import IsoUnsupported
from libironic_disk.pure.iso.hybrid import SECTOR
from libironic_disk.pure.iso.volumes import SECTOR as ISO_SECTOR
from libironic_disk.pure.iso.volumes import SYSTEM_AREA
from libironic_disk.pure.ropes import Base, Rope
from libironic_disk.units import MIB

_TABLE_AT: Final = 8
_TABLE: Final = struct.Struct("<IIII40x")
_SUMMED_FROM: Final = 64
_LARGEST: Final = 16 * MIB
_GRUB_AT: Final = 2548
_GRUB_BLOCKS: Final = 5
"""GRUB's number is the block of 512 bytes that is so many behind the loader's first."""
_MBR_AT: Final = 432
_MBR_BLOCKS: Final = (0, 4)
"""ISOLINUX's MBR has the loader's own block, GRUB's the one that is four behind it."""
_NUMBER: Final = struct.Struct("<Q")


def with_boot_info(content: Rope, base: Base, *, old: Rope, was: int, now: int, name: str) -> Rope:
    """Return what a file has to contain: if it had a table that was right, it gets one.

    Args:
        content: its new contents.
        base: what they have ranges of.
        old: its old contents.
        was: where these began in the image.
        now: where the new ones will.
        name: the image's in errors.

    Raises:
        IsoUnsupported: it is too large for a boot loader.
    """
    head = old.read_at(base, 0, _GRUB_AT + _NUMBER.size)
    if len(head) < _SUMMED_FROM or content.size < _SUMMED_FROM:
        return content
    descriptor, sector, size, _ = _TABLE.unpack_from(head, _TABLE_AT)
    if sector * ISO_SECTOR != was or size != old.size or descriptor * ISO_SECTOR != SYSTEM_AREA:
        return content
    if content.size > _LARGEST:
        raise IsoUnsupported(iso=name, reason=f"a boot loader of {content.size} bytes can't be put into it")
    edits: dict[int, bytes | Rope] = {}
    if _number(head, _GRUB_AT) == was // SECTOR + _GRUB_BLOCKS and content.size >= _GRUB_AT + _NUMBER.size:
        edits[_GRUB_AT] = _NUMBER.pack(now // SECTOR + _GRUB_BLOCKS)
    content = content.overlaid(edits)
    table = _TABLE.pack(descriptor, now // ISO_SECTOR, content.size, _sum(content, base))
    return content.overlaid({_TABLE_AT: table})


def loader_edit(record: bytes, was: int, now: int) -> tuple[int, bytes] | None:
    """Return where which bytes go in the MBR if its code loads what moves; None if it doesn't."""
    for blocks in _MBR_BLOCKS:
        if was and _number(record, _MBR_AT) == was // SECTOR + blocks:
            return _MBR_AT, _NUMBER.pack(now // SECTOR + blocks)
    return None


def _number(data: bytes, at: int) -> int | None:
    if len(data) < at + _NUMBER.size:
        return None
    number: int = _NUMBER.unpack_from(data, at)[0]
    return number


def _sum(content: Rope, base: Base) -> int:
    data = content.read_at(base, _SUMMED_FROM, content.size - _SUMMED_FROM)
    data += bytes(-len(data) % 4)
    total: int = sum(word for (word,) in struct.iter_unpack("<I", data))
    return total & 0xFFFFFFFF
