"""From an image, as a file or already on the disk, to how its partition table ends up there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

from libironic_disk.errors import GeometryMismatch, ImageRefused, TableInvalid
from libironic_disk.machine.disks import blkid
from libironic_disk.machine.trees import growing
from libironic_disk.pure.disks.facts import Signature
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.images.superblocks import NEEDED, largest_sector
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.tables.foreign import ForeignTable, read_foreign
from libironic_disk.pure.tables.foreign_gpt import ForeignGpt
from libironic_disk.pure.tables.geometry import check_geometry, check_is_disk
from libironic_disk.pure.tables.gptcopy import MAGIC
from libironic_disk.pure.tables.model import FoundPartition, Reader, TableKind
from libironic_disk.pure.tables.reading import kind_of_table
from libironic_disk.pure.wholedisks.changes import DRIVE_NAME, Changes, Wishes, decide


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The disk that an image is for: its name in errors, its bytes, and those of its logical sectors."""

    name: str
    size: int
    sector_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What is in the partitions of an image that can be read: an open file or the disk that has it.

    ``opened`` gives a descriptor for a range of it, and where it is there.
    """

    opened: Callable[[ByteRange], AbstractContextManager[tuple[int, ByteRange]]]
    size: int
    name: str
    sector_size: int

    def is_drive(self, part: FoundPartition) -> bool:
        """Whether a partition holds a config drive, or is named for one.

        Raises:
            DeviceFailed: libblkid can't read it.
        """
        return is_drive_by_name(part) or any(found.label.lower() == DRIVE_NAME for found in self.signatures(part))

    def file_system(self, part: FoundPartition) -> FileSystem:
        """Return which file system a partition that is to grow holds.

        Raises:
            ImageRefused: none that can grow.
            DeviceFailed: libblkid can't read it.
        """
        kinds = [found.kind for found in self.signatures(part)]
        if len(kinds) == 1 and kinds[0] in growing.GROWABLE:
            filesystem = FileSystem(kinds[0])
            why = growing.unable(filesystem, part.size)
            if not why:
                return filesystem
        else:
            held = " and ".join(kinds) or "nothing that is known"
            why = f"it holds {held}, and those that can are {', '.join(sorted(growing.GROWABLE))}"
        raise ImageRefused(image=self.name, reason=f"its last partition, {part.number}, can't grow: {why}")

    def signatures(self, part: FoundPartition) -> tuple[Signature, ...]:
        """Return every superblock in a partition.

        Raises:
            DeviceFailed: libblkid can't read it.
        """
        span = ByteRange(part.start, min(part.end, self.size))
        if span.size <= 0:
            return ()
        with self.opened(span) as (fd, where):
            return blkid.signatures(fd, where, device=self.name, sector_size=self.sector_size, partition=part.number)


def opened_as(fd: int) -> Callable[[ByteRange], AbstractContextManager[tuple[int, ByteRange]]]:
    """Return what :class:`Labels` opens where every byte is where it belongs."""
    return lambda span: nullcontext((fd, span))


def check_head(head: bytes, image_size: int | None, *, image: str, disk: Place, other_sectors: bool) -> int:
    """Check by the first bytes of an image that it is one of a disk, and of one like this.

    Returns:
        The bytes of the sectors in which its table counts: the disk's, but for a GPT with ``other_sectors``.

    Raises:
        ImageRefused: it isn't, or its table is for a larger one.
        GeometryMismatch: the table was made for sectors of another size.
    """
    check_is_disk(head, image=image)
    check = partial(check_geometry, head, image=image, image_size=image_size, device=disk.name, disk_size=disk.size)
    try:
        check(sector_size=disk.sector_size)
    except GeometryMismatch as error:
        if not other_sectors or head[error.made_for : error.made_for + len(MAGIC)] != MAGIC:
            raise
        check(sector_size=error.made_for)
        return error.made_for
    return disk.sector_size


def check_contents(read: Reader, labels: Labels, partitions: Iterable[FoundPartition], disk: Place) -> None:
    """Prove that what is in the partitions of an image works in the disk's sectors, which aren't those it was made for.

    Raises:
        ImageRefused: some of it doesn't, or nobody knows.
        DeviceFailed: libblkid can't read it.
    """
    for part in partitions:
        head = read(part.start, min(NEEDED, part.size))
        found = labels.signatures(part)
        if not found and not any(head):
            continue
        largest = largest_sector(head) if len(found) == 1 else None
        if largest is None or largest < disk.sector_size:
            held = " and ".join(each.kind for each in found) or "what isn't known"
            made = "can't be shown to work" if largest is None else f"was made for sectors of at most {largest} bytes"
            reason = f"its partition {part.number} holds {held}, which {made} on a disk with {disk.sector_size}"
            raise ImageRefused(image=labels.name, reason=reason)


def is_drive_by_name(part: FoundPartition) -> bool:
    """Whether a partition is named for a config drive, as one that its image's maker left blank for it."""
    return part.name.lower() == DRIVE_NAME


def changes_of(
    read: Reader,
    disk: Place,
    wishes: Wishes,
    *,
    image: str,
    is_drive: Callable[[FoundPartition], bool],
    sectors: int | None = None,
) -> Changes | None:
    """Decide how the table of an image ends up on its disk; None where it stays as it is.

    Args:
        read: of the image, as if it were on the disk.
        disk: where it goes, or is.
        wishes: what is wanted besides.
        image: its name in errors.
        is_drive: whether a partition of the image is its config drive.
        sectors: the bytes of those in which its table counts, where they aren't the disk's.

    Raises:
        LayoutDoesNotFit: there is no room for the config drive.
        TableLimit: the table has no entry for it.
        ImageRefused: the image has no table that can be changed, and something is wished that needs it.
    """
    table = _table_of(read, disk, wishes, image, sectors or disk.sector_size)
    if table is None or (table.kind is TableKind.MBR and not wishes.change_partitions):
        return None
    drives = [part.number for part in table.partitions if is_drive(part)] if wishes.drive_size else []
    return decide(table, wishes, drives=drives, disk=disk.name, sector_size=disk.sector_size)


def _table_of(read: Reader, disk: Place, wishes: Wishes, image: str, sectors: int) -> ForeignTable | None:
    kind = kind_of_table(read, disk_size=disk.size, sector_size=sectors)
    try:
        if kind is not None:
            table = read_foreign(read, kind, device=image, disk_size=disk.size, sector_size=sectors)
            if sectors != disk.sector_size and isinstance(table, ForeignGpt):
                return table.for_sectors(disk.sector_size, disk.size)
            return table
        reason = "it has no partition table"
    except TableInvalid as error:
        reason = f"its partition table can only stay as it is: {'; '.join(error.problems)}"
    asked_for = (
        ("a config drive", wishes.drive_size > 0),
        ("a larger last partition", wishes.grow),
        ("a table for other sectors", sectors != disk.sector_size),
    )
    wanted = " and ".join(what for what, is_wished in asked_for if is_wished)
    if wanted:
        raise ImageRefused(image=image, reason=f"{reason}, but {wanted} was asked for")
    return None
