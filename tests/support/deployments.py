"""Deployments of each kind, small enough to be made many times, and what a disk is like that one of them was put on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lab.systemdisk import FILES
from libironic_disk import deploy, multiboot, partitioner, switching
from libironic_disk.deploy import DeployPlan
from libironic_disk.events import Cancellation, EventSink, ignore
from libironic_disk.images import ImageSource, ImageType
from libironic_disk.multiboot import MultibootPlan, MultibootRequest
from libironic_disk.pure.disks.planning import Existing, Plan
from libironic_disk.pure.disks.presets import ironic_layout
from libironic_disk.pure.roles import Firmware, Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.request import DeployRequest, FirmwareEntry
from libironic_disk.units import GIB
from tests.support import documents, oracles, wholedisks
from tests.support.disks import LoopDisk

DISK_SIZE = GIB
"""How large a disk each of them fits on."""

Planned = DeployPlan | MultibootPlan | Plan


class Kind(StrEnum):
    """What is asked for."""

    PARTITION_IMAGE = "partition image"
    WHOLE_DISK = "whole disk"
    TABLE = "table"
    SYSTEMS = "systems"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One of them, whose identities all follow from a seed."""

    kind: Kind
    device: str
    image: ImageSource
    seed: str = ""
    firmware: Firmware = Firmware.UEFI

    def plan(self) -> Planned:
        """Look at the disk and decide."""
        seed = self.seed.encode()
        match self.kind:
            case Kind.PARTITION_IMAGE:
                return deploy.plan(
                    DeployRequest(
                        device=self.device,
                        image=self.image,
                        swap_mb=16,
                        root_mb=64,
                        seed=seed,
                        firmware=self.firmware,
                        firmware_entry=FirmwareEntry.NEVER,
                        config_drive={"meta_data": {"uuid": self.seed}},
                    )
                )
            case Kind.WHOLE_DISK:
                return deploy.plan(
                    DeployRequest(
                        device=self.device,
                        image=self.image,
                        image_type=ImageType.WHOLE_DISK,
                        firmware_entry=FirmwareEntry.NEVER,
                    )
                )
            case Kind.TABLE:
                layout = ironic_layout(root_mb=32, swap_mb=16, ephemeral_mb=64, firmware=self.firmware, seed=seed)
                return partitioner.plan(layout, partitioner.observe(self.device), existing=Existing.REPLACE)
            case Kind.SYSTEMS:
                return multiboot.plan(self._systems(seed))

    def _systems(self, seed: bytes) -> MultibootRequest:
        names = ("one", "two")
        volumes = [
            {"type": "partition", "mount": "/", "images": [name], "size": "64", "name": f"root-{name}"}
            for name in names
        ]
        described = {
            "images": documents.images(dict.fromkeys(names, self.image)),
            "partitions": [
                {"type": "disk", "id": {"type": "name", "value": self.device}, "volumes": volumes},
            ],
            "partitions_policy": "clean",
            "deploy_data": {"kernel_params": "console=ttyS0"},
        }
        return MultibootRequest(
            description=multiboot.read(described),
            menu_timeout=1,
            seed=seed,
            os_prober=False,
            firmware_entry=FirmwareEntry.NEVER,
        )


def apply(
    wanted: Planned, *, sink: EventSink = ignore, cancel: Cancellation | None = None, lock_timeout: float = 60.0
) -> None:
    """Do what was planned."""
    match wanted:
        case DeployPlan():
            deploy.apply(wanted, sink=sink, cancel=cancel, lock_timeout=lock_timeout)
        case MultibootPlan():
            multiboot.apply(wanted, sink=sink, cancel=cancel, lock_timeout=lock_timeout)
        case Plan():
            partitioner.apply(wanted, sink=sink, cancel=cancel, lock_timeout=lock_timeout)


def files_of(name: str) -> dict[str, bytes]:
    """Return what is in the system of a name, file by file."""
    return FILES | {"/etc/os-release": f'PRETTY_NAME="{name}"\n'.encode(), "/etc/hostname": name.encode()}


def system_image(path: Path, name: str, *, megabytes: int = 24) -> Path:
    """Make a partition image, an ext4 with kernels of sorts, whose os-release and hostname have a name."""
    tree = path.with_name(f"{path.name}.tree")
    for inside, content in files_of(name).items():
        file = tree / inside.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    oracles.output("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", str(tree), str(path), f"{megabytes}M")
    return path


def judge(wanted: Planned, disk: LoopDisk, image: Path, name: str) -> None:
    """Assert that a disk is exactly what a plan asked for, by programs that nobody here wrote and by our own reader.

    Args:
        wanted: the plan.
        disk: the disk, whose partitions the kernel knows.
        image: what was put on it, raw.
        name: what the os-release of a partition image says.
    """
    match wanted:
        case DeployPlan(disk=Plan() as table):
            judge_table(table, disk)
            root = table.partition(Role.ROOT)
            assert root is not None
            judge_root(f"{disk.node}p{root.number}", name)
            drive = table.partition(Role.CONFIG_DRIVE)
            if drive is not None:
                assert oracles.blkid(f"{disk.node}p{drive.number}")["LABEL"].lower() == "config-2"
        case DeployPlan():
            wholedisks.assert_has_image(disk, image)
        case MultibootPlan():
            table = wanted.storage.disks[0]
            judge_table(table, disk)
            for part in table.partitions:
                if part.name.startswith("root-"):
                    judge_root(f"{disk.node}p{part.number}", name)
            multiboot_part = table.partition(Role.MULTIBOOT)
            assert multiboot_part is not None
            entries = switching.list_entries(f"{disk.node}p{multiboot_part.number}")
            assert {entry.image for entry in entries} == {"one", "two"}
        case Plan():
            judge_table(wanted, disk)


def judge_table(wanted: Plan, disk: LoopDisk) -> None:
    """Assert that a disk has the planned table, and each partition what is made in it."""
    seen = oracles.sfdisk(disk.node)
    assert seen.disk_id == wanted.disk_id.lower()
    if wanted.table is TableKind.GPT:
        oracles.check_gpt(disk.node)
    container = (wanted.extended.start, wanted.extended.size) if wanted.extended else None
    rows = [(row.start * disk.sector_size, row.size * disk.sector_size) for row in seen.rows]
    spans = [(part.start, part.size) for part in wanted.partitions]
    assert sorted(row for row in rows if row != container) == sorted(spans)
    ours = partitioner.observe(disk.node).table
    assert ours is not None
    assert (ours.disk_id, ours.problems) == (wanted.disk_id, ())
    for part in wanted.makes:
        node = f"{disk.node}p{part.number}"
        assert part.filesystem is not None
        oracles.check_filesystem(part.filesystem, node)
        found = oracles.blkid(node)
        assert (found["UUID"].lower(), found.get("LABEL", "")) == (part.filesystem_uuid.lower(), part.label)


def judge_root(node: str, name: str) -> None:
    """Assert that a root is sound, and that of the image with a name."""
    oracles.check_filesystem("ext4", node)
    assert f'PRETTY_NAME="{name}"' in oracles.output("debugfs", "-R", "cat /etc/os-release", node)
