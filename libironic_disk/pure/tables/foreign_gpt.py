"""Change a GPT that somebody else made: move its backup copy, make a partition larger, add one; nothing else changes.

What its maker put into the entries that stay, into the boot code and beside the protective entry is kept to the bit.
That is why this works on the bytes of a copy and not on :class:`~libironic_disk.pure.tables.gpt.GptTable`, which knows
what UEFI says and no more. Sections are those of UEFI 2.10.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Final, Self

from libironic_disk.errors import TableInvalid, TableLimit
from libironic_disk.pure.ranges import ByteRange, without
from libironic_disk.pure.tables import gpt
from libironic_disk.pure.tables.bootrecord import PROTECTIVE, RECORD_SIZE, slots_of, with_slot
from libironic_disk.pure.tables.gptcopy import (
    ENTRY_SIZE,
    LEAST_ENTRIES,
    Copy,
    GptReader,
    Header,
    encode_header,
    sectors_for,
)
from libironic_disk.pure.tables.model import Extent, FoundPartition, NewPartition, Reader, TableKind
from libironic_disk.pure.tables.sectors import in_sectors

_UNUSED: Final = bytes(16)
_FIRST_LBA_AT: Final = 32  # table 5.6
_LAST_LBA_AT: Final = 40
_NAME_AT: Final = 56


@dataclass(frozen=True)
class ForeignGpt:
    """A valid GPT as it will be.

    Attributes:
        device: its disk's or image's name in errors.
        header: of the primary copy, as it was found.
        entries: all of them, as bytes.
        record: sector 0.
        sector_size: bytes of the disk's logical sectors.
        disk_sectors: how many the disk has.
        stale: an older backup copy, somewhere before the end of the disk.
    """

    device: str
    header: Header
    entries: bytes
    record: bytes
    sector_size: int
    disk_sectors: int
    stale: tuple[ByteRange, ...] = ()

    kind = TableKind.GPT

    @classmethod
    def read(cls, read: Reader, *, device: str, disk_size: int, sector_size: int) -> Self:
        """Read the primary copy of a table; the backup copy need not be there, nor be of this table.

        Raises:
            TableInvalid: there is no such copy, or it says what can't be kept: overlapping partitions, entries of
                another size, a table within its own usable sectors.
        """
        disk = GptReader(read=read, sector_size=sector_size, sectors=disk_size // sector_size)
        copy = disk.copy(1)
        if isinstance(copy, str):
            raise TableInvalid(device=device, problems=(f"the primary copy of the GPT {copy}",))
        problems = tuple(gpt.unchangeable(copy, disk))
        if problems:
            raise TableInvalid(device=device, problems=problems)
        return cls(
            device=device,
            header=copy.header,
            entries=copy.entries,
            record=read(0, sector_size),
            sector_size=sector_size,
            disk_sectors=disk.sectors,
            stale=_stale(disk, copy.header),
        )

    @cached_property
    def partitions(self) -> tuple[FoundPartition, ...]:
        """All of them, by number."""
        found, _ = gpt.decode_entries(Copy(header=self.header, entries=self.entries), self.disk_sectors)
        return tuple(entry.found(self.sector_size) for entry in found)

    @property
    def usable(self) -> ByteRange:
        """What partitions may use, once the backup copy is at the end of the disk (5.3.1)."""
        return ByteRange(self.header.first_usable * self.sector_size, (self._last_usable + 1) * self.sector_size)

    @property
    def rooms(self) -> tuple[ByteRange, ...]:
        """What no partition uses, in the order of the disk."""
        return without([self.usable], (ByteRange(part.start, part.end) for part in self.partitions))

    def room_behind(self, number: int) -> int:
        """Return where the partition of this number could end at most."""
        part = self._partition(number)
        return min((each.start for each in self.partitions if each.start >= part.end), default=self.usable.end)

    def for_sectors(self, sector_size: int, disk_size: int) -> Self:
        """Return the same partitions, to the byte, in a table for sectors of another size.

        What firmware finds in them is another question: a FAT of smaller sectors than the disk's is none to it.

        Raises:
            TableInvalid: a partition doesn't begin and end with such sectors, or begins where the new table is.
        """
        old, first = self.sector_size, 2 + sectors_for(max(len(self.entries), LEAST_ENTRIES), sector_size)
        problems = tuple(
            f"partition {part.number}, {part.size} bytes from {part.start} on, has no whole sectors behind the table"
            for part in self.partitions
            if part.start % sector_size or part.size % sector_size or part.start < first * sector_size
        )
        if problems:
            raise TableInvalid(device=self.device, problems=problems)
        entries = bytearray(self.entries)
        for part in self.partitions:
            at = (part.number - 1) * ENTRY_SIZE + _FIRST_LBA_AT
            struct.pack_into("<QQ", entries, at, part.start // sector_size, part.end // sector_size - 1)
        old_end = (self.header.entries_lba + sectors_for(len(self.entries), old)) * old
        return replace(
            self,
            header=self.header._replace(entries_lba=2, first_usable=first),
            entries=bytes(entries),
            # What its own sector had behind the record lies in other sectors now.
            record=self.record[:RECORD_SIZE].ljust(sector_size, b"\0"),
            sector_size=sector_size,
            disk_sectors=disk_size // sector_size,
            stale=(*self.stale, ByteRange(old, max(old_end, first * sector_size))),
        )

    def check_entry(self) -> None:
        """Check that there is an unused entry.

        Raises:
            TableLimit: there is none.
        """
        self._unused()

    def with_end(self, number: int, end: int) -> Self:
        """Let a partition end at another byte, in a hybrid's MBR too.

        Raises:
            ValueError: ``end`` is no multiple of the sector size.
        """
        last = in_sectors(end, self.sector_size) - 1
        part, record = self._partition(number), self.record
        first, sectors = part.start // self.sector_size, part.size // self.sector_size
        # A hybrid's MBR has some of the partitions too, and must not contradict.
        for at, slot in enumerate(slots_of(record) or ()):
            if slot.type_id not in (0, PROTECTIVE) and (slot.first_lba, slot.sectors) == (first, sectors):
                record = with_slot(record, at, slot._replace(sectors=min(last + 1 - first, gpt.LARGEST_PROTECTED)))
        grown = self._with_bytes((number - 1) * ENTRY_SIZE + _LAST_LBA_AT, struct.pack("<Q", last))
        return replace(grown, record=record)

    def with_partition(self, wanted: NewPartition) -> tuple[Self, int]:
        """Add a partition, behind the last one's number where there is an unused one; return that too.

        Raises:
            TableLimit: every entry is used.
            ValueError: the partition isn't a whole number of sectors.
        """
        number = self._unused()
        entry = gpt.GptEntry.at(
            number=number,
            start=wanted.span.start,
            size=wanted.span.size,
            sector_size=self.sector_size,
            type_guid=wanted.type_guid,
            guid=wanted.guid,
            name=wanted.name,
        )
        return self._with_bytes((number - 1) * ENTRY_SIZE, gpt.encode_entry(entry)), number

    def without_name(self, number: int) -> Self:
        """Take a partition's name away."""
        return self._with_bytes((number - 1) * ENTRY_SIZE + _NAME_AT, bytes(ENTRY_SIZE - _NAME_AT))

    def extents(self) -> tuple[Extent, ...]:
        """Return what to write so that both copies are of this table, sector 0 at the end."""
        last, size = self.disk_sectors - 1, self.sector_size
        room = sectors_for(len(self.entries), size)
        padded = self.entries.ljust(room * size, b"\0")
        header = partial(
            encode_header,
            usable=(self.header.first_usable, self._last_usable),
            disk_guid=self.header.disk_guid,
            entries=self.entries,
            sector_size=size,
        )
        first = self.header.entries_lba
        own = (
            Extent((last - room) * size, padded + header(my_lba=last, alternate_lba=1, entries_lba=last - room)),
            Extent(first * size, padded),
            Extent(size, header(my_lba=1, alternate_lba=last, entries_lba=first)),
            Extent(0, self._protected()),
        )
        kept = [ByteRange(part.start, part.end) for part in self.partitions]
        kept += [ByteRange(offset, offset + len(data)) for offset, data in own]
        return (*(Extent(span.start, bytes(span.size)) for span in without(self.stale, kept)), *own)

    @property
    def _last_usable(self) -> int:
        """Leave the room that 5.3.1 wants for entries, unless there is a partition already."""
        left = self.disk_sectors - 2 - sectors_for(max(len(self.entries), LEAST_ENTRIES), self.sector_size)
        return max(left, max((part.end // self.sector_size - 1 for part in self.partitions), default=0))

    def _partition(self, number: int) -> FoundPartition:
        return next(part for part in self.partitions if part.number == number)

    def _with_bytes(self, at: int, data: bytes) -> Self:
        return replace(self, entries=self.entries[:at] + data + self.entries[at + len(data) :])

    def _unused(self) -> int:
        slots = range(1, self.header.slots + 1)
        free = [at for at in slots if self.entries[(at - 1) * ENTRY_SIZE :][:16] == _UNUSED]
        if not free:
            raise TableLimit(device=self.device, limit=f"all {self.header.slots} entries of its GPT are used")
        last = max((part.number for part in self.partitions), default=0)
        return next((number for number in free if number > last), free[0])

    def _protected(self) -> bytes:
        """Return sector 0 with a protective entry that covers the disk; a hybrid's stays as its maker wanted it."""
        slots = slots_of(self.record) or ()
        used = [at for at, slot in enumerate(slots) if slot.type_id]
        if len(used) != 1 or slots[used[0]].type_id != PROTECTIVE:
            return self.record
        covers = min(self.disk_sectors - 1, gpt.LARGEST_PROTECTED)
        return with_slot(self.record, used[0], slots[used[0]]._replace(sectors=covers))


def _stale(disk: GptReader, header: Header) -> tuple[ByteRange, ...]:
    """Name what a backup copy takes that isn't where it should be: whoever looks there would find an old table."""
    at, size = header.alternate_lba, disk.sector_size
    # A header can name any sector. What lies before the end of what is usable is not a backup copy's.
    if at <= header.last_usable or at == disk.sectors - 1 or not disk.has_magic(at):
        return ()
    copy = disk.copy(at)
    spans = [ByteRange(at * size, (at + 1) * size)]
    if not isinstance(copy, str) and copy.header.entries_lba > header.last_usable:
        first = copy.header.entries_lba
        spans.append(ByteRange(first * size, (first + sectors_for(copy.header.entries_size, size)) * size))
    return tuple(spans)
