"""Disks of each bus, with each name that partitions can have: planned, filled, read by others and by the kernel."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from libironic_disk import configdrive, partitioner
from libironic_disk.machine.disks import sysfs
from libironic_disk.pure.disks.layout import FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.planning import Existing
from libironic_disk.pure.disks.presets import config_drive, ephemeral, esp, root, swap
from libironic_disk.pure.disks.sizes import mib
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import MIB
from tests.support import oracles
from tests.support.disks import mounted
from tests.support.machinedisks import Child, blank, children, reread, scsi

pytestmark = pytest.mark.inside

FULL = pytest.mark.full
SCSI = {"scsi-512": (512, False), "scsi-4096": (4096, False), "scsi-removable": (512, True)}
SERIALS = {
    "nvme-512": "nvme-512",
    "nvme-4096": "nvme-4096",
    "virtio-512": "virtio-512",
    "virtio-4096": "virtio-4096",
    "mmc": "0xdeadbeef",
}
# With a p in the partitions' names and without one, of both sector sizes.
ALSO_MBR = ("nvme-512", "scsi-4096")
NAMES = {"nvme": "nvme", "virtio": "vd", "mmc": "mmcblk", "scsi": "sd"}


EVERY_DISK = pytest.mark.parametrize(
    ("kind", "table"),
    [(kind, TableKind.GPT) for kind in (*SERIALS, *SCSI)]
    + [pytest.param(kind, TableKind.MBR, marks=FULL) for kind in (*SERIALS, *SCSI) if kind not in ALSO_MBR]
    + [(kind, TableKind.MBR) for kind in ALSO_MBR],
)
# As the kernel names partitions, with each size of sectors; all disks are filled above.
ONE_OF_EACH = {
    ("nvme-512", "gpt"),
    ("nvme-512", "mbr"),
    ("virtio-4096", "gpt"),
    ("mmc", "gpt"),
    ("scsi-removable", "gpt"),
}
EACH_NAMING = pytest.mark.parametrize(
    ("kind", "table"),
    [
        pytest.param(kind, table, marks=() if (kind, table) in ONE_OF_EACH else FULL)
        for table in (TableKind.GPT, TableKind.MBR)
        for kind in (*SERIALS, *SCSI)
    ],
)


@pytest.fixture
def disk(kind: str) -> Iterator[str]:
    """A blank disk of that kind."""
    if kind in SCSI:
        size, removable = SCSI[kind]
        with scsi(size, removable=removable) as node:
            yield node
    else:
        yield blank(SERIALS[kind])


def layout(table: TableKind, sector: int) -> Layout:
    """Return a layout with something of each kind; FAT32 has to have 65525 clusters, each of a sector or more."""
    return Layout(
        table=table,
        partitions=(
            esp(mib(280 if sector == 4096 else 40)),
            swap(mib(16)),
            ephemeral(mib(32), FileSystem.EXT4),
            PartitionSpec(role=Role.DATA, name="data", size=mib(16), filesystem=FileSystem.EXT4, label="data"),
            config_drive(MIB),
            root(),
        ),
    )


@EVERY_DISK
def test_a_disk_of_any_kind_is_filled_and_found_again(disk: str, kind: str, table: TableKind, tmp_path: Path) -> None:
    bus, _, size = kind.partition("-")
    sector = 4096 if size == "4096" else 512
    assert disk.removeprefix("/dev/").startswith(NAMES[bus])
    plan = partitioner.plan(layout(table, sector), partitioner.observe(disk))
    assert plan.topology.sector_size == sector
    assert sysfs.is_lent(disk) == (kind == "scsi-removable")
    drive = configdrive.load({"meta_data": {"uuid": "an instance"}}, sector_size=sector)
    with partitioner.stage(plan) as staged:
        partitioner.make_filesystems(staged)
        for part in plan.partitions:
            if part.role is Role.CONFIG_DRIVE:
                configdrive.place(drive, staged.nodes[part.number], capacity=part.size, lock_timeout=None)
            if part.role is Role.ROOT:
                subprocess.run(["mkfs.ext4", "-q", "-E", "nodiscard", staged.nodes[part.number]], check=True)
        staged.commit()
        nodes = dict(staged.nodes)

    # What the kernel's own parser makes of the table is the same as it was told.
    told = children(disk)
    reread(disk)
    parsed = children(disk)
    wanted = {Child(node=nodes[p.number], start=p.start, size=p.size, uuid=p.uuid) for p in plan.partitions}
    assert set(told) == wanted
    # An MBR has a further one, which holds the logical ones and is two sectors or one for the kernel.
    extended = {child for child in parsed if child.size == max(1024, sector)}
    assert len(extended) == (table is TableKind.MBR)
    assert set(parsed) - extended == wanted

    for part in plan.partitions:
        if part.filesystem:
            assert oracles.blkid(nodes[part.number])["UUID"] == part.filesystem_uuid
            oracles.check_filesystem(part.filesystem, nodes[part.number])
        if part.role in (Role.ESP, Role.EPHEMERAL, Role.DATA):
            with mounted(nodes[part.number], tmp_path / part.role) as where:
                (where / "file").write_text("contents")
        if part.role is Role.CONFIG_DRIVE:
            with mounted(nodes[part.number], tmp_path / "drive", "-o", "ro") as where:
                assert '"an instance"' in (where / "openstack/latest/meta_data.json").read_text()
    assert partitioner.plan(layout(table, sector), partitioner.observe(disk)).is_empty


@EACH_NAMING
def test_partitions_that_the_kernel_found_itself_are_replaced(disk: str, table: TableKind) -> None:
    """Sfdisk made them, and had the kernel read the table."""
    label = "gpt" if table is TableKind.GPT else "dos"
    subprocess.run(["sfdisk", "--quiet", disk], input=f"label: {label}\n,16M\n,32M\n,\n", text=True, check=True)
    old = children(disk)
    assert len(old) == 3
    facts = partitioner.observe(disk)
    assert facts.table is not None
    assert [(p.start, p.size) for p in facts.table.partitions] == [(child.start, child.size) for child in old]
    wanted = Layout(table=TableKind.GPT, partitions=(ephemeral(mib(64)), swap(mib(16)), root()))
    plan = partitioner.plan(wanted, facts, existing=Existing.REPLACE)
    nodes = partitioner.apply(plan).nodes
    assert [(child.node, child.start, child.uuid) for child in children(disk)] == [
        (nodes[part.number], part.start, part.uuid) for part in plan.partitions
    ]
    oracles.check_gpt(disk)
