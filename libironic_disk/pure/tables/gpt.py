"""The GUID partition table: UEFI 2.10, chapter 5.

Both copies are always written, and always compared when reading. Entries are never trusted: a hostile table
is read to its end and its defects are listed.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Self
from uuid import UUID

from libironic_disk.errors import TableInvalid, TableLimit
from libironic_disk.pure.tables.bootrecord import (
    PROTECTIVE,
    RECORD_SIZE,
    Slot,
    boot_record,
    slots_of,
    with_boot_code,
)
from libironic_disk.pure.tables.gptcopy import (
    ENTRY_SIZE,
    LEAST_ENTRIES,
    MOST_ENTRIES,
    Copy,
    GptReader,
    encode_header,
    sectors_for,
)
from libironic_disk.pure.tables.model import Extent, FoundPartition, Reader
from libironic_disk.pure.tables.sectors import Span, in_sectors, overlaps

_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_NAME_SIZE: Final = 72
_UNUSED: Final = bytes(16)
_ATTRIBUTES_LIMIT: Final = 1 << 64
# UEFI 2.10, table 5.4: cylinder, head and sector of LBA 1, and "not possible to represent".
_FIRST_CHS: Final = b"\x00\x02\x00"
_LAST_CHS: Final = b"\xff\xff\xff"
LARGEST_PROTECTED: Final = 0xFFFFFFFF
"""The sectors that stand for "not possible to represent"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GptEntry:
    """A partition, in sectors; ``last_lba`` is its last sector. ``name`` has at most 36 UTF-16 code units."""

    number: int
    first_lba: int
    last_lba: int
    type_guid: UUID
    guid: UUID
    name: str = ""
    attributes: int = 0

    @classmethod
    def at(
        cls,
        *,
        number: int,
        start: int,
        size: int,
        sector_size: int,
        type_guid: UUID,
        guid: UUID,
        name: str = "",
        attributes: int = 0,
    ) -> Self:
        """Return the entry for a partition given in bytes.

        Raises:
            ValueError: ``start`` or ``size`` isn't a whole number of sectors.
        """
        first = in_sectors(start, sector_size)
        return cls(
            number=number,
            first_lba=first,
            last_lba=first + in_sectors(size, sector_size) - 1,
            type_guid=type_guid,
            guid=guid,
            name=name,
            attributes=attributes,
        )

    @property
    def span(self) -> Span:
        """Its sectors."""
        return Span(self.first_lba, self.last_lba + 1, f"partition {self.number}")

    def found(self, sector_size: int) -> FoundPartition:
        """Return it in bytes."""
        return FoundPartition(
            number=self.number,
            start=self.first_lba * sector_size,
            size=(self.last_lba - self.first_lba + 1) * sector_size,
            type_id=str(self.type_guid),
            uuid=str(self.guid),
            name=self.name,
            attributes=self.attributes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GptTable:
    """A GPT: its partitions by number, and the first and the last sector that they may use."""

    disk_guid: UUID
    sector_size: int
    disk_sectors: int
    first_usable: int
    last_usable: int
    entries: tuple[GptEntry, ...] = ()
    entry_slots: int = 128

    @classmethod
    def new(
        cls,
        *,
        disk_size: int,
        sector_size: int,
        disk_guid: UUID,
        entries: Iterable[GptEntry] = (),
        entry_slots: int = 128,
    ) -> Self:
        """Return a table that leaves as much usable as UEFI allows: at least 16 KiB are for entries."""
        disk_sectors = disk_size // sector_size
        reserved = sectors_for(max(entry_slots * ENTRY_SIZE, LEAST_ENTRIES), sector_size)
        return cls(
            disk_guid=disk_guid,
            sector_size=sector_size,
            disk_sectors=disk_sectors,
            first_usable=2 + reserved,
            last_usable=disk_sectors - 2 - reserved,
            entries=tuple(sorted(entries, key=lambda entry: entry.number)),
            entry_slots=entry_slots,
        )


def encode(table: GptTable, *, device: str, boot_code: bytes = b"") -> tuple[Extent, ...]:
    """Return the bytes of a table: the backup copy, the primary one, and sector 0 with the protective MBR.

    Written in this order, there is a whole copy at any moment, and sector 0, without which nothing boots,
    comes last.

    Raises:
        TableLimit: a GPT can't express it, or it contradicts itself.
        ValueError: the boot code doesn't fit.
    """
    limit = next(_limits(table), None)
    if limit is not None:
        raise TableLimit(device=device, limit=limit)
    packed = _encode_entries(table)
    entries = packed.ljust(sectors_for(len(packed), table.sector_size) * table.sector_size, b"\0")
    last = table.disk_sectors - 1
    backup_entries = last - len(entries) // table.sector_size
    header = partial(
        encode_header,
        usable=(table.first_usable, table.last_usable),
        disk_guid=table.disk_guid.bytes_le,
        entries=packed,
        sector_size=table.sector_size,
    )
    backup = entries + header(my_lba=last, alternate_lba=1, entries_lba=backup_entries)
    primary = header(my_lba=1, alternate_lba=last, entries_lba=2) + entries
    protective = Slot(0, _FIRST_CHS, PROTECTIVE, _LAST_CHS, 1, min(last, LARGEST_PROTECTED))
    return (
        Extent(backup_entries * table.sector_size, backup),
        Extent(table.sector_size, primary),
        Extent(0, with_boot_code(boot_record([protective], table.sector_size), boot_code)),
    )


def _encode_entries(table: GptTable) -> bytes:
    packed = bytearray(table.entry_slots * ENTRY_SIZE)
    for entry in table.entries:
        at = (entry.number - 1) * ENTRY_SIZE
        packed[at : at + ENTRY_SIZE] = encode_entry(entry)
    return bytes(packed)


def encode_entry(entry: GptEntry) -> bytes:
    """Return the bytes of an entry (UEFI 2.10, table 5.6)."""
    return _ENTRY.pack(
        entry.type_guid.bytes_le,
        entry.guid.bytes_le,
        entry.first_lba,
        entry.last_lba,
        entry.attributes,
        entry.name.encode("utf-16-le"),
    )


def _limits(table: GptTable) -> Iterator[str]:
    """Yield why a table can't be written."""
    size = table.entry_slots * ENTRY_SIZE
    reserved = sectors_for(size, table.sector_size)
    if not 0 < size <= MOST_ENTRIES:
        yield f"a GPT with {table.entry_slots} entries is not supported"
    if not 2 + reserved <= table.first_usable <= table.last_usable <= table.disk_sectors - 2 - reserved:
        yield (
            f"a GPT with {table.entry_slots} entries and the usable sectors {table.first_usable} to "
            f"{table.last_usable} does not fit on {table.disk_sectors} sectors of {table.sector_size} bytes"
        )
    for entry in table.entries:
        yield from _entry_limits(entry, table.entry_slots)
    yield from _range_defects(table)


def _entry_limits(entry: GptEntry, slots: int) -> Iterator[str]:
    name = f"partition {entry.number}"
    if not 1 <= entry.number <= slots:
        yield f"there is no entry for {name}, the table has {slots}"
    if entry.last_lba < entry.first_lba:
        yield f"{name} has no sectors"
    if entry.type_guid.bytes == _UNUSED or entry.guid.bytes == _UNUSED:
        yield f"{name} must have a type and a GUID other than zero"
    if not 0 <= entry.attributes < _ATTRIBUTES_LIMIT:
        yield f"{name} has attributes of more than 64 bits"
    try:
        fits = len(entry.name.encode("utf-16-le")) <= _NAME_SIZE and "\0" not in entry.name
    except UnicodeEncodeError:
        fits = False
    if not fits:
        yield f"the name {entry.name!r} is not UTF-16 of at most 36 code units without NUL"


def _range_defects(table: GptTable) -> Iterator[str]:
    """Yield what is wrong with where the partitions are and with what identifies them."""
    for entry in table.entries:
        if entry.first_lba < table.first_usable or entry.last_lba > table.last_usable:
            yield (
                f"partition {entry.number} covers the sectors {entry.first_lba} to {entry.last_lba}, "
                f"usable are {table.first_usable} to {table.last_usable}"
            )
    yield from overlaps(entry.span for entry in table.entries)
    yield from _repeated("the number", (str(entry.number) for entry in table.entries))
    yield from _repeated("the GUID", (str(entry.guid) for entry in table.entries))


def _repeated(what: str, values: Iterable[str]) -> Iterator[str]:
    for value, times in Counter(values).items():
        if times > 1:
            yield f"{times} partitions have {what} {value}"


def decode(read: Reader, *, device: str, disk_size: int, sector_size: int) -> tuple[GptTable, tuple[str, ...]]:
    """Return the table on a disk and, in words, what is wrong with it.

    The primary copy counts where it is valid, otherwise the backup copy in the last sector. Entries outside
    the disk are left out, as Linux does (block/partitions/efi.c).

    Raises:
        TableInvalid: neither copy is valid.
    """
    disk = GptReader(read=read, sector_size=sector_size, sectors=disk_size // sector_size)
    primary = disk.copy(1)
    backup = disk.copy(disk.sectors - 1 if isinstance(primary, str) else primary.header.alternate_lba)
    problems = [
        f"the {name} copy of the GPT {copy}"
        for name, copy in (("primary", primary), ("backup", backup))
        if isinstance(copy, str)
    ]
    found = backup if isinstance(primary, str) else primary
    if isinstance(found, str):
        raise TableInvalid(device=device, problems=(*problems, *disk.other_sector_sizes()))
    if not isinstance(primary, str) and not isinstance(backup, str):
        problems += _differences(primary, backup)
    table, defects = _table_of(found, disk)
    problems += [*disk.oddities(found.header), *defects, *_range_defects(table)]
    return table, (*_protective_defects(read(0, RECORD_SIZE), disk.sectors), *problems)


def unchangeable(copy: Copy, disk: GptReader) -> Iterator[str]:
    """Yield why the table of a valid copy can't be changed without losing what it says, or what it is."""
    # On a disk that is a little too small for its backup copy, partitions may all fit nevertheless.
    most = disk.sectors - 2 - sectors_for(copy.header.entries_size, disk.sector_size)
    copy = replace(copy, header=copy.header._replace(last_usable=min(copy.header.last_usable, most)))
    table, defects = _table_of(copy, disk)
    yield from disk.unknown(copy.header)
    if copy.header.entries_lba + sectors_for(len(copy.entries), disk.sector_size) > table.first_usable:
        yield f"the GPT has its entries at sector {copy.header.entries_lba}, where partitions may be"
    yield from defects
    yield from _range_defects(table)


def _table_of(copy: Copy, disk: GptReader) -> tuple[GptTable, list[str]]:
    entries, defects = decode_entries(copy, disk.sectors)
    table = GptTable(
        disk_guid=UUID(bytes_le=copy.header.disk_guid),
        sector_size=disk.sector_size,
        disk_sectors=disk.sectors,
        first_usable=copy.header.first_usable,
        last_usable=copy.header.last_usable,
        entries=tuple(entries),
        entry_slots=copy.header.slots,
    )
    return table, defects


def _differences(primary: Copy, backup: Copy) -> Iterator[str]:
    """Yield how the backup copy disagrees with the primary one."""
    first, second = primary.header, backup.header
    if second.alternate_lba != first.my_lba:
        yield f"the backup copy of the GPT names sector {second.alternate_lba} as the primary one's"
    shared = [(h.disk_guid, h.first_usable, h.last_usable, h.slots, h.entry_size) for h in (first, second)]
    if shared[0] != shared[1] or primary.entries != backup.entries:
        yield "the backup copy of the GPT is not the same table as the primary one"


def decode_entries(copy: Copy, disk_sectors: int) -> tuple[list[GptEntry], list[str]]:
    """Return the partitions of a copy, and in words which entries are none and what else is wrong with them."""
    entries: list[GptEntry] = []
    problems: list[str] = []
    size = copy.header.entry_size
    for at in range(copy.header.slots):
        type_guid, guid, first, last, attributes, name = _ENTRY.unpack_from(copy.entries, at * size)
        if type_guid == _UNUSED:
            continue
        if not first <= last < disk_sectors:
            problems.append(
                f"partition {at + 1} would cover the sectors {first} to {last}, the disk has {disk_sectors}"
            )
            continue
        text = name.decode("utf-16-le", "replace").partition("\0")[0]
        if not name.startswith(text.encode("utf-16-le")):
            problems.append(f"the name of partition {at + 1} is not valid UTF-16")
        entries.append(
            GptEntry(
                number=at + 1,
                first_lba=first,
                last_lba=last,
                type_guid=UUID(bytes_le=type_guid),
                guid=UUID(bytes_le=guid),
                name=text,
                attributes=attributes,
            )
        )
    return entries, problems


def _protective_defects(record: bytes, disk_sectors: int) -> Iterator[str]:
    """Yield what is wrong with the protective MBR (UEFI 2.10, section 5.2.3)."""
    slots = slots_of(record) or ()
    protective = [slot for slot in slots if slot.type_id == PROTECTIVE]
    if not protective:
        yield "there is no protective MBR, without which firmware and Linux don't see the GPT"
        return
    if any(slot.type_id not in (0, PROTECTIVE) for slot in slots):
        yield "the MBR is a hybrid: it describes partitions besides the GPT"
    if protective[0].first_lba != 1:
        yield f"the protective MBR begins at sector {protective[0].first_lba}, not 1"
    elif protective[0].sectors not in (disk_sectors - 1, LARGEST_PROTECTED):
        yield f"the protective MBR covers {protective[0].sectors} sectors, not {disk_sectors - 1}"
