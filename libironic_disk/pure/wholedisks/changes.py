"""How the partition table of a whole-disk image ends up on a larger disk: a pure function from table and wishes.

The same function answers before the image is written, from what can be read of it by then, and again from what is on
the disk: the first answer is shown and may refuse, the second one is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from libironic_disk.errors import ImageRefused, LayoutDoesNotFit
from libironic_disk.pure.disks import ids
from libironic_disk.pure.disks.losses import EDGE
from libironic_disk.pure.ranges import ByteRange, edges
from libironic_disk.pure.roles import Architecture, Role, gpt_type, mbr_type
from libironic_disk.pure.tables.foreign import ForeignTable
from libironic_disk.pure.tables.model import Extent, FoundPartition, NewPartition
from libironic_disk.units import MIB, align_down, align_up

DRIVE_NAME: Final = "config-2"
_PAGE: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the disk is to have besides the image.

    Attributes:
        drive_size: bytes of the config drive; 0 for none.
        grow: whether the last partition gets what is free behind it.
        other_sectors: whether a GPT for sectors of another size is written anew for the disk's.
        drive_guid: identifies a new partition on a GPT.
    """

    drive_size: int = 0
    grow: bool = False
    other_sectors: bool = False
    drive_guid: UUID

    @classmethod
    def of(cls, *, drive_size: int, grow: bool, seed: bytes, other_sectors: bool = False) -> Wishes:
        """Return wishes whose identities follow from a seed."""
        guid = ids.guid(seed, f"partition/{DRIVE_NAME}")
        return cls(drive_size=drive_size, grow=grow, other_sectors=other_sectors, drive_guid=guid)

    @property
    def change_partitions(self) -> bool:
        """Whether the image's table alone can't be right."""
        return self.drive_size > 0 or self.grow


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """A table as it will be on its disk.

    Attributes:
        partitions: all of them, by number.
        extents: what has to be written for that, sector 0 at the end.
        drive: the partition that gets the config drive.
        drive_is_new: whether the image had no such partition, or too small a one.
        superseded: where an image's own config drive would still be recognised beside the new one.
        grown: the partition that gets larger, as it will be.
        added: what it gets.
        notes: what the caller should know.
    """

    partitions: tuple[FoundPartition, ...]
    extents: tuple[Extent, ...]
    drive: FoundPartition | None = None
    drive_is_new: bool = False
    superseded: tuple[ByteRange, ...] = ()
    grown: FoundPartition | None = None
    added: ByteRange | None = None
    notes: tuple[str, ...] = ()

    @property
    def images_own(self) -> tuple[FoundPartition, ...]:
        """The partitions whose contents are the image's."""
        return tuple(part for part in self.partitions if part != self.drive)


def decide(table: ForeignTable, wishes: Wishes, *, drives: Sequence[int], disk: str, sector_size: int) -> Changes:
    """Decide where the config drive goes and which partition grows.

    Args:
        table: the image's, on the disk.
        wishes: what the disk is to have.
        drives: the numbers of the partitions that hold a config drive already.
        disk: its name in errors.
        sector_size: of the disk.

    Raises:
        LayoutDoesNotFit: there is no room for the config drive.
        TableLimit: the table has no entry for it.
        ImageRefused: two partitions of the image are config drives; or what should grow can't.
    """
    current, drive, is_new, old = table, None, False, None
    superseded: tuple[ByteRange, ...] = ()
    if wishes.drive_size:
        old = _existing(table, drives)
        if old is not None and old.size >= wishes.drive_size:
            drive = old.number
        else:
            if old is not None:
                superseded = edges(ByteRange(old.start, old.end), EDGE)
                current = current.without_name(old.number)
            current, drive = _with_drive(current, wishes, disk, sector_size)
            is_new = True
    last = _last(table) if wishes.grow else None
    notes: tuple[str, ...] = ()
    if last is not None:
        current, notes = _grown(current, last, is_drive=old is not None and last.number == old.number)
    parts = {part.number: part for part in current.partitions}
    grown = parts[last.number] if last is not None and parts[last.number].size > last.size else None
    added = ByteRange(last.end, grown.end) if last is not None and grown is not None else None
    return Changes(
        partitions=current.partitions,
        extents=current.extents(),
        drive=parts[drive] if drive is not None else None,
        drive_is_new=is_new,
        superseded=superseded,
        grown=grown,
        added=added,
        notes=notes,
    )


def _existing(table: ForeignTable, drives: Sequence[int]) -> FoundPartition | None:
    found = [part for part in table.partitions if part.number in drives]
    if len(found) > 1:
        numbers = " and ".join(str(part.number) for part in found)
        reason = f"its partitions {numbers} are both labelled {DRIVE_NAME}: nothing says which one its system reads"
        raise ImageRefused(image=table.device, reason=reason)
    return found[0] if found else None


def _with_drive(table: ForeignTable, wishes: Wishes, disk: str, sector_size: int) -> tuple[ForeignTable, int]:
    """Add a partition of exactly the size needed, as near to the end of the disk as there is room."""
    size = align_up(wishes.drive_size, sector_size)
    # Before the first partition may be what no table names: a boot loader that firmware finds by its place.
    first = min((part.start for part in table.partitions), default=0)
    rooms = [room for room in table.rooms if room.start >= first]
    spans = [span for room in rooms if (span := _at_the_end(room, size, sector_size)) is not None]
    if not spans:
        table.check_entry()
        largest = max((room.size for room in rooms), default=0)
        detail = f"for a config drive beside the {len(table.partitions)} partitions of the image"
        raise LayoutDoesNotFit(device=disk, wanted=size, available=largest, detail=detail)
    role = Role.CONFIG_DRIVE
    wanted = NewPartition(
        span=spans[-1],
        name=DRIVE_NAME,
        type_guid=gpt_type(role, Architecture.X86_64, None),
        guid=wishes.drive_guid,
        mbr_type=mbr_type(role),
    )
    return table.with_partition(wanted)


def _at_the_end(room: ByteRange, size: int, sector_size: int) -> ByteRange | None:
    """Return a span at the end of a room, as well aligned as it can be; None if there is too little room."""
    for grain in (MIB, _PAGE, sector_size):
        start = align_down(room.end - size, grain)
        if start >= room.start:
            return ByteRange(start, start + size)
    return None


def _last(table: ForeignTable) -> FoundPartition:
    if not table.partitions:
        raise ImageRefused(image=table.device, reason="it has no partition that could grow")
    return max(table.partitions, key=lambda part: part.end)


def _grown(table: ForeignTable, last: FoundPartition, *, is_drive: bool) -> tuple[ForeignTable, tuple[str, ...]]:
    if is_drive:
        return table, (f"the last partition, {last.number}, is a config drive: nothing grows",)
    if last.start < EDGE:
        reason = f"its last partition, {last.number}, begins in the first MiB, which is withheld: it can't grow"
        raise ImageRefused(image=table.device, reason=reason)
    end = align_down(table.room_behind(last.number), _PAGE)
    if end <= last.end:
        return table, (f"there is no room behind the last partition, {last.number}: nothing grows",)
    return table.with_end(last.number, end), ()
