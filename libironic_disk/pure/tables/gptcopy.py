"""One copy of a GPT, header and entries, as bytes: UEFI 2.10, section 5.3.2.

A header that was read is distrusted to the last field: what it declares decides neither how much memory is
taken nor how far is read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from libironic_disk.pure.tables.model import Reader
from libironic_disk.units import KIB, MIB, align_up

MAGIC: Final = b"EFI PART"
ENTRY_SIZE: Final = 128
LEAST_ENTRIES: Final = 16 * KIB
"""Bytes that are kept free for entries at least, whatever their number (UEFI 2.10, section 5.3.1)."""
# Linux gives up at 4 MiB (KMALLOC_MAX_SIZE), known writers don't pass 128 KiB.
MOST_ENTRIES: Final = 1 * MIB

_REVISION: Final = 0x00010000
_HEADER: Final = struct.Struct("<8sIIIIQQQQ16sQIII")


class Header(NamedTuple):
    """A header's fields in their order, by their names in UEFI 2.10, table 5.5, shortened."""

    signature: bytes
    revision: int
    header_size: int
    header_crc: int
    reserved: int
    my_lba: int
    alternate_lba: int
    first_usable: int
    last_usable: int
    disk_guid: bytes
    entries_lba: int
    slots: int
    entry_size: int
    entries_crc: int

    @property
    def entries_size(self) -> int:
        """Bytes of all entries."""
        return self.slots * self.entry_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A valid copy: its header, and its entries as bytes."""

    header: Header
    entries: bytes


def sectors_for(size: int, sector_size: int) -> int:
    """Return how many sectors ``size`` bytes take."""
    return align_up(size, sector_size) // sector_size


def encode_header(
    *,
    my_lba: int,
    alternate_lba: int,
    usable: tuple[int, int],
    disk_guid: bytes,
    entries_lba: int,
    entries: bytes,
    sector_size: int,
) -> bytes:
    """Return the sector of a header for ``entries``, whose bytes must not be padded."""
    header = Header(
        signature=MAGIC,
        revision=_REVISION,
        header_size=_HEADER.size,
        header_crc=0,
        reserved=0,
        my_lba=my_lba,
        alternate_lba=alternate_lba,
        first_usable=usable[0],
        last_usable=usable[1],
        disk_guid=disk_guid,
        entries_lba=entries_lba,
        slots=len(entries) // ENTRY_SIZE,
        entry_size=ENTRY_SIZE,
        entries_crc=zlib.crc32(entries),
    )
    checked = header._replace(header_crc=zlib.crc32(_HEADER.pack(*header)))
    return _HEADER.pack(*checked).ljust(sector_size, b"\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class GptReader:
    """A disk of ``sectors`` sectors on which copies are looked for; nothing outside it is asked for."""

    read: Reader
    sector_size: int
    sectors: int

    def copy(self, lba: int) -> Copy | str:
        """Return the copy whose header is at ``lba``, or what is wrong with it."""
        if not 1 <= lba < self.sectors:
            return f"would be at sector {lba}, the disk has {self.sectors}"
        sector = self.read(lba * self.sector_size, self.sector_size)
        if len(sector) < self.sector_size or not sector.startswith(MAGIC):
            return f"has no header at sector {lba}"
        header = Header(*_HEADER.unpack_from(sector))
        defect = _header_defect(header, sector, lba, self.sectors)
        if defect:
            return f"has a header at sector {lba} {defect}"
        size = header.entries_size
        if header.entries_lba + sectors_for(size, self.sector_size) > self.sectors:
            return f"has its entries at sector {header.entries_lba}, the disk has {self.sectors}"
        entries = self.read(header.entries_lba * self.sector_size, size)
        if len(entries) < size or zlib.crc32(entries) != header.entries_crc:
            return f"has entries at sector {header.entries_lba} with a wrong checksum"
        return Copy(header=header, entries=entries)

    def has_magic(self, lba: int) -> bool:
        """Return whether a sector begins like a header, valid or not."""
        return 1 <= lba < self.sectors and self.read(lba * self.sector_size, len(MAGIC)) == MAGIC

    def other_sector_sizes(self) -> Iterator[str]:
        """Yield for which sector sizes there is a header: Linux looks for it in sector 1 and nowhere else."""
        for size in (512, 1024, 2048, 4096):
            if size != self.sector_size and self.read(size, len(MAGIC)) == MAGIC:
                yield f"there is a GPT made for sectors of {size} bytes, these have {self.sector_size}"

    def oddities(self, header: Header) -> Iterator[str]:
        """Yield what would be lost by writing the copy anew, legal though some of it is."""
        last = self.sectors - 1
        found = max(header.my_lba, header.alternate_lba)
        if found != last:
            yield f"the backup copy of the GPT is at sector {found}, the last one of the disk is {last}"
        yield from self.unknown(header)
        if header.my_lba == 1 and header.entries_lba != 2:
            yield f"the primary copy of the GPT has its entries at sector {header.entries_lba}, not 2"

    def unknown(self, header: Header) -> Iterator[str]:
        """Yield what nobody could write anew: another revision, other entries, a table that would use its own place."""
        if header.revision != _REVISION:
            yield f"the GPT has the revision {header.revision:#010x}"
        if header.entry_size != ENTRY_SIZE:
            yield f"the GPT has entries of {header.entry_size} bytes, Linux reads only those of {ENTRY_SIZE}"
        reserved = sectors_for(header.entries_size, self.sector_size)
        if header.first_usable < 2 + reserved or header.last_usable > self.sectors - 2 - reserved:
            yield f"the usable sectors {header.first_usable} to {header.last_usable} reach into the GPT"


def _header_defect(header: Header, sector: bytes, lba: int, disk_sectors: int) -> str:
    """Return the first reason not to believe a header, empty for none."""
    if not _HEADER.size <= header.header_size <= len(sector):
        return f"of {header.header_size} bytes"
    if zlib.crc32(sector[:16] + bytes(4) + sector[20 : header.header_size]) != header.header_crc:
        return "with a wrong checksum"
    if header.my_lba != lba:
        return f"that says it is for sector {header.my_lba}"
    if header.entry_size < ENTRY_SIZE or header.entry_size & (header.entry_size - 1):
        return f"with entries of {header.entry_size} bytes"
    if not 0 < header.entries_size <= MOST_ENTRIES:
        return f"with {header.slots} entries of {header.entry_size} bytes"
    if header.entries_lba < 2:
        return f"with its entries at sector {header.entries_lba}"
    if not header.first_usable <= header.last_usable < disk_sectors:
        declared = f"with the usable sectors {header.first_usable} to {header.last_usable}"
        return f"{declared}, the disk has {disk_sectors}"
    return ""
