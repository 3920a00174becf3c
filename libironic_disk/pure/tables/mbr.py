"""The MBR and its extended boot records as bytes.

Layout of a record and the conventions of the chain are those of Linux (block/partitions/msdos.c): a logical
partition starts relative to the boot record that describes it, a link to the next record is relative to the
extended partition. Cylinders, heads and sectors are written as "too large to say", which makes every reader
use the sector numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Self

from libironic_disk.errors import TableInvalid, TableLimit
from libironic_disk.pure.tables.bootrecord import (
    ACTIVE,
    PROTECTIVE,
    RECORD_SIZE,
    SLOTS,
    Slot,
    boot_record,
    is_extended,
    signature_of,
    slots_of,
    with_boot_code,
)
from libironic_disk.pure.tables.model import Extent, FoundPartition, Reader
from libironic_disk.pure.tables.sectors import Span, in_sectors, overlaps

SECTOR_LIMIT: Final = 1 << 32
"""An MBR counts sectors with 32 bits."""

_FIRST_LOGICAL: Final = SLOTS + 1
_LARGEST_CHAIN: Final = 256
_EXTENDED_LBA: Final = 0x0F
LINK: Final = 0x05
"""The type by which a boot record leads to the next one."""
NO_CHS: Final = b"\xfe\xff\xff"
"""The address that stands for "too large to say"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MbrEntry:
    """A partition, in sectors; ``record_lba`` is where a logical one's boot record lies, None for the others."""

    number: int
    first_lba: int
    sectors: int
    type_id: int
    bootable: bool = False
    record_lba: int | None = None

    @classmethod
    def at(
        cls,
        *,
        number: int,
        start: int,
        size: int,
        sector_size: int,
        type_id: int,
        bootable: bool = False,
        record: int | None = None,
    ) -> Self:
        """Return the entry for a partition given in bytes; ``record`` is where a logical one's boot record goes.

        Raises:
            ValueError: a value isn't a whole number of sectors.
        """
        return cls(
            number=number,
            first_lba=in_sectors(start, sector_size),
            sectors=in_sectors(size, sector_size),
            type_id=type_id,
            bootable=bootable,
            record_lba=None if record is None else in_sectors(record, sector_size),
        )

    @property
    def end_lba(self) -> int:
        """The first sector behind the partition."""
        return self.first_lba + self.sectors

    @property
    def logical(self) -> bool:
        """Whether the kernel numbers it from 5 on."""
        return self.number > SLOTS

    @property
    def span(self) -> Span:
        """Its sectors."""
        return Span(self.first_lba, self.end_lba, f"partition {self.number}")

    def found(self, sector_size: int, signature: int, disk_sectors: int) -> FoundPartition:
        """Return it in bytes; Linux cuts one that ends behind its disk (block/partitions/core.c)."""
        return FoundPartition(
            number=self.number,
            start=self.first_lba * sector_size,
            size=(min(self.end_lba, disk_sectors) - self.first_lba) * sector_size,
            type_id=f"{self.type_id:#04x}",
            uuid=f"{signature:08x}-{self.number:02x}",
            bootable=self.bootable,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MbrTable:
    """An MBR: its partitions by number, and the extended partition that holds the logical ones."""

    signature: int
    sector_size: int
    disk_sectors: int
    entries: tuple[MbrEntry, ...]
    extended: MbrEntry | None = None

    @classmethod
    def new(cls, *, disk_size: int, sector_size: int, signature: int, entries: Iterable[MbrEntry]) -> Self:
        """Return a table whose extended partition, in the first free slot, just holds the logical ones."""
        entries = tuple(sorted(entries, key=lambda entry: entry.number))
        logicals = [entry for entry in entries if entry.logical]
        extended = None
        if logicals:
            first = min(entry.first_lba if entry.record_lba is None else entry.record_lba for entry in logicals)
            taken = {entry.number for entry in entries}
            extended = MbrEntry(
                number=next(number for number in range(1, len(taken) + 2) if number not in taken),
                first_lba=first,
                sectors=max(entry.end_lba for entry in logicals) - first,
                type_id=_EXTENDED_LBA,
            )
        return cls(
            signature=signature,
            sector_size=sector_size,
            disk_sectors=disk_size // sector_size,
            entries=entries,
            extended=extended,
        )

    @property
    def primaries(self) -> tuple[MbrEntry, ...]:
        """What the MBR itself describes, the extended partition included."""
        own = () if self.extended is None else (self.extended,)
        return (*(entry for entry in self.entries if not entry.logical), *own)

    @property
    def logicals(self) -> tuple[MbrEntry, ...]:
        """What the extended boot records describe, in the order of their chain."""
        return tuple(entry for entry in self.entries if entry.logical)


def encode(table: MbrTable, *, device: str, boot_code: bytes = b"") -> tuple[Extent, ...]:
    """Return the bytes of a table, in the order in which to write them: the chain first, sector 0 last.

    Raises:
        TableLimit: an MBR can't express it, or it contradicts itself.
        ValueError: the boot code doesn't fit.
    """
    limit = next(_limits(table), None)
    if limit is not None:
        raise TableLimit(device=device, limit=limit)
    slots: list[Slot | None] = [None] * SLOTS
    for entry in table.primaries:
        slots[entry.number - 1] = _slot(entry, entry.first_lba)
    first = with_boot_code(boot_record(slots, table.sector_size, table.signature), boot_code)
    return (*_encode_chain(table), Extent(0, first))


def _slot(entry: MbrEntry, first_lba: int) -> Slot:
    indicator = ACTIVE if entry.bootable else 0
    return Slot(indicator, NO_CHS, entry.type_id, NO_CHS, first_lba, entry.sectors)


def _encode_chain(table: MbrTable) -> Iterator[Extent]:
    if table.extended is None:
        return
    head = table.extended.first_lba
    chain: list[tuple[int, MbrEntry | None]] = [(entry.record_lba or 0, entry) for entry in table.logicals]
    # Readers look for the first record at the very start of the extended partition and nowhere else.
    if not chain or chain[0][0] != head:
        chain.insert(0, (head, None))
    following = [*chain[1:], None]
    for (lba, entry), link in zip(chain, following, strict=True):
        slots: list[Slot | None] = [_slot(entry, entry.first_lba - lba) if entry else None]
        if link is not None and link[1] is not None:
            slots.append(Slot(0, NO_CHS, LINK, NO_CHS, link[0] - head, link[1].end_lba - link[0]))
        yield Extent(lba * table.sector_size, boot_record(slots, table.sector_size))


def _limits(table: MbrTable) -> Iterator[str]:
    """Yield why a table can't be written."""
    if not 0 <= table.signature < SECTOR_LIMIT:
        yield f"the disk signature {table.signature:#x} has more than 32 bits"
    numbers = [entry.number for entry in table.primaries]
    if len(set(numbers)) < len(numbers) or not all(1 <= number <= SLOTS for number in numbers):
        yield f"an MBR has room for four primary partitions, numbered 1 to 4; these are {sorted(numbers)}"
    logicals = [entry.number for entry in table.logicals]
    if logicals != list(range(_FIRST_LOGICAL, _FIRST_LOGICAL + len(logicals))):
        yield f"logical partitions are numbered from 5 on without a gap, these are {logicals}"
    if len(logicals) >= _LARGEST_CHAIN:
        yield f"{len(logicals)} logical partitions are more than {_LARGEST_CHAIN - 1}"
    for entry in (*table.primaries, *table.logicals):
        yield from _entry_limits(entry, is_container=entry is table.extended)
    yield from _range_defects(table)


def _entry_limits(entry: MbrEntry, *, is_container: bool) -> Iterator[str]:
    name = f"partition {entry.number}"
    if entry.sectors < 1:
        yield f"{name} has no sectors"
    if entry.end_lba > SECTOR_LIMIT or entry.sectors >= SECTOR_LIMIT:
        yield f"{name} reaches beyond 2^32 sectors, where an MBR's 32 bits end; use GPT"
    known = 0 < entry.type_id <= 0xFF and entry.type_id != PROTECTIVE
    if not known or is_extended(entry.type_id) is not is_container:
        yield f"{name} can't have the type {entry.type_id:#04x}"
    if entry.logical is (entry.record_lba is None):
        yield f"{name} must{'' if entry.logical else ' not'} have a boot record of its own"


def _range_defects(table: MbrTable) -> Iterator[str]:
    """Yield what is wrong with where the partitions and boot records are."""
    for entry in table.primaries:
        if entry.first_lba < 1:
            yield f"partition {entry.number} covers sector 0, where the table itself is"
        if entry.end_lba > table.disk_sectors:
            yield f"partition {entry.number} ends at sector {entry.end_lba}, the disk at {table.disk_sectors}"
    yield from overlaps(entry.span for entry in table.primaries)
    logicals = table.logicals
    if not logicals:
        return
    if table.extended is None:
        yield "there are logical partitions and no extended one"
        return
    # Two partitions in one record share it: another writer's habit, and no overlap.
    records = {entry.record_lba for entry in logicals if entry.record_lba is not None} | {table.extended.first_lba}
    spans = [Span(lba, lba + 1, f"the boot record at sector {lba}") for lba in records]
    spans += [entry.span for entry in logicals]
    for span in spans:
        if span.first < table.extended.first_lba or span.end > table.extended.end_lba:
            yield f"{span.name} is not inside the extended partition"
    for entry in logicals:
        if entry.record_lba is not None and entry.first_lba <= entry.record_lba:
            yield f"partition {entry.number} does not lie behind its boot record"
    yield from overlaps(spans)


def decode(read: Reader, *, device: str, disk_size: int, sector_size: int) -> tuple[MbrTable, tuple[str, ...]]:
    """Return the table on a disk and, in words, what is wrong with it.

    Partitions are numbered as Linux numbers them. At most 256 boot records are followed, none of them twice.

    Raises:
        TableInvalid: sector 0 isn't an MBR.
    """
    record = read(0, RECORD_SIZE)
    slots = slots_of(record)
    if slots is None:
        raise TableInvalid(device=device, problems=("sector 0 does not end with 55 AA",))
    if not all(slot.plausible for slot in slots):
        raise TableInvalid(device=device, problems=("sector 0 is a boot sector without partitions",))
    used = [_entry(slot, number, 0) for number, slot in enumerate(slots, 1) if slot.sectors]
    containers = [entry for entry in used if is_extended(entry.type_id)]
    entries = [entry for entry in used if not is_extended(entry.type_id)]
    problems = [f"partition {entry.number} has the type 0" for entry in entries if not entry.type_id]
    if len(containers) > 1:
        problems.append("there is more than one extended partition; only the first one's contents are listed")
    disk_sectors = disk_size // sector_size
    extended = containers[0] if containers else None
    if extended is not None:
        chain = _Chain(read=read, sector_size=sector_size, disk_sectors=disk_sectors, container=extended)
        logicals, defects = chain.follow()
        entries += logicals
        problems += defects
    table = MbrTable(
        signature=signature_of(record),
        sector_size=sector_size,
        disk_sectors=disk_sectors,
        entries=tuple(entries),
        extended=extended,
    )
    return table, (*problems, *_range_defects(table))


def _entry(slot: Slot, number: int, base: int, record_lba: int | None = None) -> MbrEntry:
    return MbrEntry(
        number=number,
        first_lba=base + slot.first_lba,
        sectors=slot.sectors,
        type_id=slot.type_id,
        bootable=slot.indicator == ACTIVE,
        record_lba=record_lba,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    """The boot records of an extended partition, each of which may name the next."""

    read: Reader
    sector_size: int
    disk_sectors: int
    container: MbrEntry

    def follow(self) -> tuple[list[MbrEntry], list[str]]:
        entries: list[MbrEntry] = []
        problems: list[str] = []
        seen: set[int] = set()
        at: int | None = self.container.first_lba
        while at is not None:
            refused = self._refused(at, seen)
            slots = None if refused else slots_of(self.read(at * self.sector_size, RECORD_SIZE))
            if slots is None:
                problems.append(refused or f"there is no boot record at sector {at}, where the chain leads")
                break
            seen.add(at)
            data = [slot for place, slot in enumerate(slots) if self._is_data(slot, place, at)]
            if len(data) > 1:
                problems.append(f"the boot record at sector {at} describes {len(data)} partitions, not one")
            entries += [_entry(slot, number, at, at) for number, slot in enumerate(data, _FIRST_LOGICAL + len(entries))]
            links = (slot for slot in slots if slot.sectors and is_extended(slot.type_id))
            at = next((self.container.first_lba + link.first_lba for link in links), None)
        return entries, problems

    def _refused(self, at: int, seen: set[int]) -> str:
        if at in seen:
            return f"the chain of boot records returns to sector {at}"
        if at >= self.disk_sectors:
            return f"the chain of boot records leaves the disk at sector {at}"
        return f"the chain has more than {_LARGEST_CHAIN} boot records" if len(seen) >= _LARGEST_CHAIN else ""

    def _is_data(self, slot: Slot, place: int, at: int) -> bool:
        """Whether the kernel takes an entry for a partition; in the last two it expects garbage."""
        if not slot.sectors or is_extended(slot.type_id):
            return False
        end = at + slot.first_lba + slot.sectors
        return place < 2 or end <= self.container.end_lba
