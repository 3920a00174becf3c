"""From an image, as a file or already on the disk, to how its partition table ends up there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from libironic_disk.errors import ImageRefused, TableInvalid
from libironic_disk.machine.disks import blkid
from libironic_disk.machine.trees import growing
from libironic_disk.pure.disks.facts import Signature
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.tables.foreign import ForeignTable, read_foreign
from libironic_disk.pure.tables.geometry import check_geometry, check_is_disk
from libironic_disk.pure.tables.model import FoundPartition, Reader, TableKind
from libironic_disk.pure.tables.reading import kind_of_table
from libironic_disk.pure.wholedisks.finishing import DRIVE_NAME, Finish, Wishes, finish


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The disk that an image is for: its name in errors, its bytes, and those of its logical sectors."""

    name: str
    size: int
    sector_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What is in the partitions of an image that can be read: an open file or the disk that has it."""

    fd: int
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
            return FileSystem(kinds[0])
        held = " and ".join(kinds) or "nothing that is known"
        known = ", ".join(sorted(growing.GROWABLE))
        reason = f"its last partition, {part.number}, can't grow: it holds {held}, and those that can are {known}"
        raise ImageRefused(image=self.name, reason=reason)

    def signatures(self, part: FoundPartition) -> tuple[Signature, ...]:
        """Return every superblock in a partition.

        Raises:
            DeviceFailed: libblkid can't read it.
        """
        span = ByteRange(part.start, min(part.end, self.size))
        if span.size <= 0:
            return ()
        return blkid.signatures(self.fd, span, device=self.name, sector_size=self.sector_size, partition=part.number)


def check_head(head: bytes, image_size: int | None, *, image: str, disk: Place) -> None:
    """Check by the first bytes of an image that it is one of a disk, and of one like this.

    Raises:
        ImageRefused: it isn't, or its table is for a larger one.
        GeometryMismatch: the table was made for sectors of another size.
    """
    check_is_disk(head, image=image)
    check_geometry(
        head,
        image=image,
        image_size=image_size,
        device=disk.name,
        disk_size=disk.size,
        sector_size=disk.sector_size,
    )


def is_drive_by_name(part: FoundPartition) -> bool:
    """Whether a partition is named for a config drive, as one that its image's maker left blank for it."""
    return part.name.lower() == DRIVE_NAME


def finish_of(
    read: Reader, disk: Place, wishes: Wishes, *, image: str, is_drive: Callable[[FoundPartition], bool]
) -> Finish | None:
    """Decide how the table of an image ends up on its disk; None where it stays as it is.

    Args:
        read: of the image, as if it were on the disk.
        disk: where it goes, or is.
        wishes: what is wanted besides.
        image: its name in errors.
        is_drive: whether a partition of the image is its config drive.

    Raises:
        LayoutDoesNotFit: there is no room for the config drive.
        TableLimit: the table has no entry for it.
        ImageRefused: the image has no table that can be changed, and something is wished that needs it.
    """
    table = _table_of(read, disk, wishes, image)
    if table is None or (table.kind is TableKind.MBR and not wishes.change_partitions):
        return None
    drives = [part.number for part in table.partitions if is_drive(part)] if wishes.drive_size else []
    return finish(table, wishes, drives=drives, disk=disk.name, sector_size=disk.sector_size)


def _table_of(read: Reader, disk: Place, wishes: Wishes, image: str) -> ForeignTable | None:
    kind = kind_of_table(read, disk_size=disk.size, sector_size=disk.sector_size)
    try:
        if kind is not None:
            return read_foreign(read, kind, device=image, disk_size=disk.size, sector_size=disk.sector_size)
        reason = "it has no partition table"
    except TableInvalid as error:
        reason = f"its partition table can only stay as it is: {'; '.join(error.problems)}"
    if wishes.change_partitions:
        wanted = " and ".join(
            what
            for what, is_wished in (("a config drive", wishes.drive_size), ("a larger last partition", wishes.grow))
            if is_wished
        )
        raise ImageRefused(image=image, reason=f"{reason}, but {wanted} was asked for")
    return None
