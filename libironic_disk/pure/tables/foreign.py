"""A table that somebody else made, of either kind, as something that can be changed without losing what they wrote."""

from __future__ import annotations

from typing import Protocol, Self

from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.tables.foreign_gpt import ForeignGpt
from libironic_disk.pure.tables.foreign_mbr import ForeignMbr
from libironic_disk.pure.tables.model import Extent, FoundPartition, NewPartition, Reader, TableKind


class ForeignTable(Protocol):
    """A table as it will be; each change returns another one, and nothing is written."""

    @property
    def kind(self) -> TableKind:
        """Which of the two."""

    @property
    def device(self) -> str:
        """The name of its disk or image in errors."""

    @property
    def partitions(self) -> tuple[FoundPartition, ...]:
        """All of them, by number."""

    @property
    def rooms(self) -> tuple[ByteRange, ...]:
        """Where a new partition could go, in the order of the disk, if :meth:`check_entry` finds an entry for it."""

    def room_behind(self, number: int) -> int:
        """Return where the partition of this number could end at most."""

    def check_entry(self) -> None:
        """Check that the table can name one partition more.

        Raises:
            TableLimit: it can't.
        """

    def with_end(self, number: int, end: int) -> Self:
        """Let a partition end at another byte, a multiple of the sector size."""

    def with_partition(self, wanted: NewPartition) -> tuple[Self, int]:
        """Add a partition that lies in one of the :attr:`rooms`, and return its number too.

        Raises:
            TableLimit: there is no entry for one.
        """

    def without_name(self, number: int) -> Self:
        """Take a partition's name away, where it has one."""

    def extents(self) -> tuple[Extent, ...]:
        """Return what to write for all this to be so; sector 0, where it changes, at the end."""


def read_foreign(
    read: Reader, kind: TableKind, *, device: str, disk_size: int, sector_size: int
) -> ForeignGpt | ForeignMbr:
    """Read a table that is to be changed.

    Args:
        read: of the disk, or of what will be on it.
        kind: what :func:`~libironic_disk.pure.tables.reading.read_table` found.
        device: the name of the disk or image in errors.
        disk_size: bytes of the disk that the table will be on.
        sector_size: of that disk.

    Raises:
        TableInvalid: it is damaged, or says what would be lost.
    """
    of_kind = ForeignGpt if kind is TableKind.GPT else ForeignMbr
    return of_kind.read(read, device=device, disk_size=disk_size, sector_size=sector_size)
