"""What is on a disk that got a whole-disk image, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from libironic_disk.pure.disks.facts import Signature
from libironic_disk.pure.images.inspection import Proof
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.model import FoundPartition, FoundTable
from libironic_disk.pure.wholedisks.roots import is_esp

_NO_ID: Final = "0x00000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeDiskWritten:
    """A disk that has the whole image, confirmed by the kernel and read back where it says what the disk is.

    Attributes:
        device: the disk.
        table: the image's partition table as it is on the disk, with what is wrong with it; None where it has none.
        nodes: from partition numbers to devices. They are missing where the disk is a plain file, and where the kernel
            refuses a partition, which ``warnings`` then says.
        contents: what is in the partitions, by their numbers.
        root: the number of the partition with the root file system; None where that can't be told.
        drive: the number of the partition that has the config drive.
        bytes_read: how many bytes the source gave.
        bytes_written: how much of the disk, from its start, is the image, its zeros included.
        proof: what shows that the image came whole.
        seconds: how long it all took.
        warnings: what is not as one would wish.
    """

    device: str
    table: FoundTable | None
    nodes: Mapping[int, str]
    contents: Mapping[int, Signature]
    root: int | None
    drive: int | None
    bytes_read: int
    bytes_written: int
    proof: Proof
    seconds: float
    warnings: tuple[str, ...] = ()

    @property
    def disk_id(self) -> str:
        """The disk GUID, or ``0x1234abcd`` on an MBR; empty where the image gave the disk none."""
        return "" if self.table is None or self.table.disk_id == _NO_ID else self.table.disk_id

    def role_of(self, part: FoundPartition) -> Role | None:
        """Return what a partition of the table is for, where that is known."""
        if part.number == self.drive:
            return Role.CONFIG_DRIVE
        if part.number == self.root:
            return Role.ROOT
        return Role.ESP if self.table is not None and is_esp(self.table, part) else None
