"""The boot catalog of El Torito: Bootable CD-ROM Format Specification 1.0, sections 2.0 to 2.5.

Platform 0xEF, EFI, is UEFI's addition (UEFI 2.10, section 13.3.2.1).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from libironic_disk.errors import IsoInvalid
from libironic_disk.pure.iso.volumes import SECTOR
from libironic_disk.pure.ropes import Base

BLOCK: Final = 512
"""Bytes of what the catalog calls a sector when it says how much to load."""

_ENTRY: Final = 32
_MOST_SECTORS: Final = 16
_MOST_ENTRIES: Final = 256
_VALIDATION: Final = 0x01
_BOOTABLE: Final = 0x88
_MORE_HEADERS, _LAST_HEADER, _EXTENSION = 0x90, 0x91, 0x44
_LOAD_SIZE_AT: Final = 6
_EMULATION: Final = 0x0F


class Platform(IntEnum):
    """Whose entry an entry is; there are others."""

    X86 = 0x00
    EFI = 0xEF


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """One image to boot.

    Attributes:
        at: where the entry is, in bytes of the ISO image.
        platform: whose it is.
        bootable: whether it says so.
        emulated: whether it is a disk that the BIOS emulates.
        blocks: how many blocks of 512 bytes are loaded.
        offset: where the image is.
    """

    at: int
    platform: int
    bootable: bool
    emulated: bool
    blocks: int
    offset: int

    def edit(self, *, sector: int, blocks: int) -> tuple[int, bytes]:
        """Return where which bytes go if the image is elsewhere."""
        return self.at + _LOAD_SIZE_AT, struct.pack("<HI", blocks, sector)


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All of it: where it is, how many bytes of it were read, and its entries."""

    offset: int
    size: int
    origin: int
    entries: tuple[CatalogEntry, ...]


def read_catalog(base: Base, *, offset: int, origin: int, size: int, name: str) -> Catalog:
    """Read the catalog at ``offset``, whose addresses count from ``origin``.

    Args:
        base: the image's bytes.
        offset: where the boot record says that the catalog is.
        origin: what its addresses count from.
        size: bytes of the image.
        name: the image's in errors.

    Raises:
        IsoInvalid: it isn't there, or its checksum is wrong.
    """
    data = base.read_at(offset, max(0, min(_MOST_SECTORS * SECTOR, size - offset)))
    head = data[:_ENTRY]
    words = struct.unpack(f"<{len(head) // 2}H", head) if len(head) == _ENTRY else (1,)
    if head[:1] != bytes((_VALIDATION,)) or head[30:] != b"\x55\xaa" or sum(words) & 0xFFFF:
        raise IsoInvalid(
            iso=name, problems=(f"it says that there is a boot catalog at byte {offset}, and there is none",)
        )
    entries = []
    end = 2 * _ENTRY
    for at, platform in _places(data):
        entries.append(_entry(data, at, platform, offset, origin))
        end = max(end, at + _ENTRY)
        if len(entries) > _MOST_ENTRIES:
            raise IsoInvalid(iso=name, problems=(f"its boot catalog has more than {_MOST_ENTRIES} entries",))
    for entry in entries:
        if entry.bootable and not 0 <= entry.offset < size:
            problem = f"its boot catalog leads to byte {entry.offset}, behind its end: it was cut off"
            raise IsoInvalid(iso=name, problems=(problem,))
    return Catalog(offset=offset, size=end, origin=origin, entries=tuple(entries))


def _places(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield where an entry is in the catalog, and its platform (2.2 to 2.5)."""
    if len(data) >= 2 * _ENTRY:
        yield _ENTRY, data[1]
    at = 2 * _ENTRY
    while at + _ENTRY <= len(data) and data[at] in {_MORE_HEADERS, _LAST_HEADER}:
        last, platform = data[at] == _LAST_HEADER, data[at + 1]
        left = int.from_bytes(data[at + 2 : at + 4], "little")
        at += _ENTRY
        while left and at + _ENTRY <= len(data):
            if data[at] != _EXTENSION:
                yield at, platform
                left -= 1
            at += _ENTRY
        while at + _ENTRY <= len(data) and data[at] == _EXTENSION:
            at += _ENTRY
        if last:
            return


def _entry(data: bytes, at: int, platform: int, offset: int, origin: int) -> CatalogEntry:
    indicator, media, blocks, sector = struct.unpack_from("<BB4xHI", data, at)
    return CatalogEntry(
        at=offset + at,
        platform=platform,
        bootable=indicator == _BOOTABLE,
        emulated=bool(media & _EMULATION),
        blocks=blocks,
        offset=origin + sector * SECTOR,
    )
