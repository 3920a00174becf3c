"""The plan as a value: what will be on the disk and what will be lost, to be printed, drawn, stored and compared.

It has no method that writes. :mod:`libironic_disk.pure.disks.planner` makes it, and :mod:`libironic_disk.partitioner`
applies it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from libironic_disk.pure.disks.alignment import Alignment
from libironic_disk.pure.disks.facts import DiskKind, Fingerprint, Signature, Topology
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.model import FoundTable, TableKind


class Existing(StrEnum):
    """What to do with a disk that already is as the layout says."""

    MATCH = "match"
    """Nothing, the plan is empty."""
    REPLACE = "replace"
    """Make it anew all the same, as every deployment does."""


class Action(StrEnum):
    """What applying a plan does to the partition table."""

    NOTHING = "nothing"
    """The disk already is as it should be."""
    MAKE = "make"
    """A new table takes the old one's place."""
    KEEP = "keep"
    """The table stays, because a partition is kept; all others are made anew in their places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPartition:
    """One partition as it will be; ``start`` and ``size`` in bytes.

    ``type_id``, ``uuid`` and ``filesystem_uuid`` are written as the kernel and blkid write them. ``attributes`` is
    GPT's 64-bit field, ``bootable`` MBR's active flag. ``record`` is where a logical partition's extended boot record
    goes.
    """

    number: int
    name: str
    role: Role
    start: int
    size: int
    type_id: str
    uuid: str
    attributes: int = 0
    bootable: bool = False
    filesystem: FileSystem | None = None
    label: str = ""
    filesystem_uuid: str = ""
    mount_point: str | None = None
    keep: bool = False
    record: int | None = None

    @property
    def end(self) -> int:
        """The first byte behind the partition."""
        return self.start + self.size

    @property
    def span(self) -> ByteRange:
        """The bytes of the partition."""
        return ByteRange(self.start, self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be done to one disk.

    Attributes:
        device: the path that was observed.
        kind: whether it is a block device or a plain file.
        size: bytes of the disk.
        topology: its sector sizes.
        fingerprint: what must still be true when the plan is applied.
        action: what happens to the partition table.
        table: the kind of table.
        disk_id: the disk GUID, or ``0x1234abcd`` on an MBR.
        alignment: where partitions may start, and why.
        partitions: all of them, in their order on the disk.
        extended: the container of an MBR's logical partitions.
        replaces: the table that was found.
        destroys: every signature that will be gone afterwards.
        wipes: the byte ranges that are zeroed.
        notes: what the caller should know and need not act upon.
    """

    device: str
    kind: DiskKind
    size: int
    topology: Topology
    fingerprint: Fingerprint
    action: Action
    table: TableKind
    disk_id: str
    alignment: Alignment
    partitions: tuple[PlannedPartition, ...]
    extended: ByteRange | None = None
    replaces: FoundTable | None = None
    destroys: tuple[Signature, ...] = ()
    wipes: tuple[ByteRange, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether the disk already is as it should be."""
        return self.action is Action.NOTHING

    @property
    def makes(self) -> tuple[PlannedPartition, ...]:
        """The partitions on which a file system or swap area will be made."""
        if self.is_empty:
            return ()
        return tuple(part for part in self.partitions if part.filesystem is not None and not part.keep)

    def partition(self, role: Role) -> PlannedPartition | None:
        """Return the first partition with this role."""
        return next((part for part in self.partitions if part.role is role), None)
