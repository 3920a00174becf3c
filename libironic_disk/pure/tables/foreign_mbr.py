"""Change an MBR that somebody else made: make a partition larger, add one; nothing else changes.

Each boot record, the MBR and those of the chain of logical partitions, is kept to the bit but for the slots that have
to say something new. What those mean, and relative to what, is written in :mod:`~libironic_disk.pure.tables.mbr`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Self

from libironic_disk.errors import ImageRefused, TableInvalid, TableLimit
from libironic_disk.pure.ranges import ByteRange, without
from libironic_disk.pure.tables import mbr
from libironic_disk.pure.tables.bootrecord import (
    RECORD_SIZE,
    SLOTS,
    Slot,
    boot_record,
    is_extended,
    slots_of,
    with_slot,
)
from libironic_disk.pure.tables.model import Extent, FoundPartition, NewPartition, Reader, TableKind
from libironic_disk.pure.tables.sectors import Span, in_sectors, overlaps
from libironic_disk.units import MIB

_HEAD: Final = MIB
_RECORD_ROOM: Final = 4096
"""How far before a new logical partition its boot record goes: no page of the disk has bytes of both."""


@dataclass(frozen=True)
class ForeignMbr:
    """A valid MBR as it will be.

    Attributes:
        device: its disk's or image's name in errors.
        records: every boot record by its sector's number; 0 is the MBR.
        sector_size: bytes of the disk's logical sectors.
        disk_sectors: how many the disk has.
        changed: the records that aren't as they were found.
    """

    device: str
    records: Mapping[int, bytes]
    sector_size: int
    disk_sectors: int
    changed: frozenset[int] = frozenset()

    kind = TableKind.MBR

    @classmethod
    def read(cls, read: Reader, *, device: str, disk_size: int, sector_size: int) -> Self:
        """Read a table with all its boot records.

        Raises:
            TableInvalid: it isn't one that can be kept: a broken chain, overlapping partitions, several in one record.
        """
        records: dict[int, bytes] = {}

        def noting(offset: int, length: int) -> bytes:
            lba = offset // sector_size
            records[lba] = read(lba * sector_size, sector_size)
            return records[lba][:length]

        table, problems = mbr.decode(noting, device=device, disk_size=disk_size, sector_size=sector_size)
        # Of records that describe no partition, too: a link that is added would be written there.
        used = [entry.span for entry in table.entries]
        used += [Span(lba, lba + 1, f"the boot record at sector {lba}") for lba in records if lba]
        problems = problems or tuple(overlaps(used))
        if problems:
            raise TableInvalid(device=device, problems=problems)
        return cls(device=device, records=records, sector_size=sector_size, disk_sectors=disk_size // sector_size)

    @cached_property
    def _table(self) -> mbr.MbrTable:
        def read(offset: int, length: int) -> bytes:
            return self.records.get(offset // self.sector_size, b"")[:length]

        size = self.disk_sectors * self.sector_size
        return mbr.decode(read, device=self.device, disk_size=size, sector_size=self.sector_size)[0]

    @property
    def partitions(self) -> tuple[FoundPartition, ...]:
        """All of them but the extended one, by number."""
        return tuple(
            entry.found(self.sector_size, self._table.signature, self.disk_sectors) for entry in self._table.entries
        )

    @property
    def rooms(self) -> tuple[ByteRange, ...]:
        """What no partition uses and a new one could: a primary one where an entry is free, else a logical one."""
        return self._primary_rooms if self._free_slot is not None else self._logical_rooms

    def room_behind(self, number: int) -> int:
        """Return where the partition of this number could end at most; the extended partition would grow with it."""
        entry = self._entry(number)
        others = [other.first_lba for other in self._table.primaries if other is not self._table.extended]
        if entry.logical:
            others += [other.first_lba for other in self._table.logicals]
            others += self._chain
        elif self._table.extended is not None:
            others.append(self._table.extended.first_lba)
        return min((lba for lba in others if lba >= entry.end_lba), default=self._end) * self.sector_size

    def check_entry(self) -> None:
        """Check that there is a free entry, or an extended partition for a logical one.

        Raises:
            TableLimit: there is neither.
        """
        if self._free_slot is None and self._table.extended is None:
            raise self._full()

    def with_end(self, number: int, end: int) -> Self:
        """Let a partition end at another byte.

        Raises:
            ValueError: ``end`` is no multiple of the sector size.
        """
        entry, lba = self._entry(number), in_sectors(end, self.sector_size)
        if not entry.logical:
            return self._with_slot(0, number - 1, self._slots(0)[number - 1]._replace(sectors=lba - entry.first_lba))
        record = entry.record_lba or 0
        at = next(at for at, slot in enumerate(self._slots(record)) if slot.sectors and not is_extended(slot.type_id))
        slot = self._slots(record)[at]._replace(sectors=lba - entry.first_lba)
        return self._with_slot(record, at, slot)._with_link_to(record, lba)._with_container_to(lba)

    def with_partition(self, wanted: NewPartition) -> tuple[Self, int]:
        """Add a partition that lies in one of the :attr:`rooms`; return its number too.

        Raises:
            TableLimit: all four entries are used, and there is no extended partition.
            ValueError: the partition isn't a whole number of sectors.
        """
        first, sectors = in_sectors(wanted.span.start, self.sector_size), in_sectors(wanted.span.size, self.sector_size)
        slot = Slot(0, mbr.NO_CHS, wanted.mbr_type, mbr.NO_CHS, first, sectors)
        free = self._free_slot
        if free is not None:
            return self._with_slot(0, free, slot), free + 1
        container = self._table.extended
        if container is None:
            raise self._full()
        record = first - self._record_sectors
        last = self._last_record(container)
        link = Slot(0, mbr.NO_CHS, mbr.LINK, mbr.NO_CHS, record - container.first_lba, first + sectors - record)
        new = boot_record([slot._replace(first_lba=self._record_sectors)], self.sector_size)
        grown = replace(self, records={**self.records, record: new}, changed=self.changed | {record})
        linked = grown._with_slot(last, _link_place(self._slots(last)), link)
        return linked._with_container_to(first + sectors), SLOTS + len(self._table.logicals) + 1

    def without_name(self, number: int) -> Self:
        """Return the same table: an MBR has no names."""
        del number
        return self

    def extents(self) -> tuple[Extent, ...]:
        """Return what to write, sector 0 at the end."""
        order = sorted(self.changed, reverse=True)
        return tuple(Extent(lba * self.sector_size, self.records[lba]) for lba in order)

    def _full(self) -> TableLimit:
        return TableLimit(device=self.device, limit="all four primary partitions of its MBR are used")

    @property
    def _chain(self) -> list[int]:
        """The sectors of all boot records but the MBR, those that describe no partition as well."""
        return [lba for lba in self.records if lba]

    @property
    def _end(self) -> int:
        return min(self.disk_sectors, mbr.SECTOR_LIMIT)

    @property
    def _record_sectors(self) -> int:
        return max(_RECORD_ROOM // self.sector_size, 1)

    @property
    def _free_slot(self) -> int | None:
        return next((at for at, slot in enumerate(self._slots(0)) if not slot.sectors and not slot.type_id), None)

    @property
    def _primary_rooms(self) -> tuple[ByteRange, ...]:
        whole = ByteRange(_HEAD, self._end * self.sector_size)
        return without([whole], (self._bytes(entry.first_lba, entry.end_lba) for entry in self._table.primaries))

    @property
    def _logical_rooms(self) -> tuple[ByteRange, ...]:
        """Where logical partitions could be, without the sectors before them that their boot records need."""
        container = self._table.extended
        if container is None:
            return ()
        others = [entry.first_lba for entry in self._table.primaries if entry.first_lba >= container.end_lba]
        whole = self._bytes(container.first_lba, min(others, default=self._end))
        free = without([whole], self._used_by_logicals())
        room = self._record_sectors * self.sector_size
        return tuple(ByteRange(span.start + room, span.end) for span in free if span.size > room)

    def _used_by_logicals(self) -> Iterator[ByteRange]:
        for record in self._chain:
            yield self._bytes(record, record + 1)
        for entry in self._table.logicals:
            yield self._bytes(entry.first_lba, entry.end_lba)

    def _bytes(self, first: int, end: int) -> ByteRange:
        return ByteRange(first * self.sector_size, end * self.sector_size)

    def _entry(self, number: int) -> mbr.MbrEntry:
        return next(entry for entry in self._table.entries if entry.number == number)

    def _last_record(self, container: mbr.MbrEntry) -> int:
        """Return the sector of the record at which the chain ends."""
        at = container.first_lba
        while (link := next(self._links(at), None)) is not None:
            at = container.first_lba + link[1].first_lba
        return at

    def _links(self, record: int) -> Iterator[tuple[int, Slot]]:
        for at, slot in enumerate(self._slots(record)):
            if slot.sectors and is_extended(slot.type_id):
                yield at, slot

    def _slots(self, record: int) -> tuple[Slot, ...]:
        return slots_of(self.records[record][:RECORD_SIZE]) or ()

    def _with_slot(self, record: int, at: int, slot: Slot) -> Self:
        data = with_slot(self.records[record], at, slot)
        return replace(self, records={**self.records, record: data}, changed=self.changed | {record})

    def _with_link_to(self, record: int, end: int) -> Self:
        """Let the link that leads to a record say where its partition ends, as other writers of tables do."""
        container = self._table.extended
        if container is None:
            return self
        for lba in self._chain:
            for at, slot in self._links(lba):
                if container.first_lba + slot.first_lba == record:
                    return self._with_slot(lba, at, slot._replace(sectors=end - record))
        return self

    def _with_container_to(self, end: int) -> Self:
        """Let the extended partition reach at least as far as what is in it."""
        container = self._table.extended
        if container is None or container.end_lba >= end:
            return self
        slot = self._slots(0)[container.number - 1]
        larger = self._with_slot(0, container.number - 1, slot._replace(sectors=end - container.first_lba))
        # What the kernel passes over as garbage, because it lies outside, would be a partition from now on.
        if len(larger._table.entries) != len(self._table.entries):
            reason = "its boot records have rests of other partitions in them, which would come to life"
            raise ImageRefused(image=self.device, reason=reason)
        return larger


def _link_place(slots: tuple[Slot, ...]) -> int:
    """Return where in a record the link to the next one goes: the second slot, unless its partition is there."""
    return 1 if not slots[1].sectors else 0
