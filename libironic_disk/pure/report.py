"""What a deployment left behind, as a value: for the caller's records and for Ironic's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from libironic_disk.pure.images.inspection import Proof
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.model import TableKind

_IRONIC_NAMES = {
    Role.ESP: "efi system partition",
    Role.BIOS_BOOT: "BIOS Boot partition",
    Role.PREP: "PReP Boot partition",
    Role.EPHEMERAL: "ephemeral",
    Role.SWAP: "swap",
    Role.CONFIG_DRIVE: "configdrive",
    Role.ROOT: "root",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedPartition:
    """A partition as it is on the disk.

    ``node`` is its device, and empty where the disk is a plain file. ``start`` and ``size`` are bytes. ``partuuid`` and
    ``filesystem_uuid`` are written as blkid writes them; what holds no file system has none. ``mount_point`` is the
    layout's. A whole-disk image's partitions have a role where it can be told: the config drive, the root file system,
    the EFI system partition.
    """

    number: int
    name: str
    role: Role | None
    node: str
    start: int
    size: int
    partuuid: str
    filesystem: str = ""
    label: str = ""
    filesystem_uuid: str = ""
    mount_point: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployResult:
    """A disk that boots what was asked for.

    Attributes:
        device: the disk.
        table: its kind of partition table; None where a whole-disk image has none that is known here.
        disk_id: the disk GUID, or ``0x1234abcd`` on an MBR; empty where a whole-disk image gave the disk none.
        partitions: all of them, in their order on the disk; of a whole-disk image, in the order of its table.
        is_whole_disk: whether the disk has a whole-disk image.
        boot_entries: the ids of GRUB's menu entries, the default first; none without a local boot loader.
        proof: what shows that the image came whole.
        warnings: what went otherwise than one would wish and doesn't keep the machine from booting.
    """

    device: str
    table: TableKind | None
    disk_id: str
    partitions: tuple[DeployedPartition, ...]
    is_whole_disk: bool = False
    boot_entries: tuple[str, ...] = ()
    proof: Proof = Proof.NONE
    warnings: tuple[str, ...] = ()

    def partition(self, role: Role) -> DeployedPartition | None:
        """Return the first partition with this role."""
        return next((part for part in self.partitions if part.role is role), None)

    @property
    def root_uuid(self) -> str:
        """The UUID of the root file system, which the kernel is given as ``root=UUID=``."""
        root = self.partition(Role.ROOT)
        return root.filesystem_uuid if root else ""

    @property
    def esp_uuid(self) -> str:
        """The UUID of the EFI system partition's file system; empty without one."""
        esp = self.partition(Role.ESP)
        return esp.filesystem_uuid if esp else ""

    def as_ironic(self) -> dict[str, str | dict[str, str]]:
        """Return what ironic-python-agent reports, by its keys; what isn't there is absent.

        Of a whole-disk image that is the disk's identifier, which takes the place of the root file system's UUID, and
        this beside it where it can be told.
        """
        return dict(self._ironic_items())

    def _ironic_items(self) -> Iterator[tuple[str, str | dict[str, str]]]:
        if self.is_whole_disk and self.disk_id:
            yield "disk identifier", self.disk_id
        if self.root_uuid or not self.is_whole_disk:
            yield "root uuid", self.root_uuid
        if self.esp_uuid:
            yield "efi system partition uuid", self.esp_uuid
        prep = self.partition(Role.PREP)
        if prep is not None:
            yield "PReP Boot partition uuid", prep.partuuid
        if self.is_whole_disk:
            return
        known = [part for part in self.partitions if part.role in _IRONIC_NAMES and part.node]
        yield "partitions", {_IRONIC_NAMES[part.role]: part.node for part in known if part.role}
