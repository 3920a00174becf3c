"""Plans applied to real disks, judged by sfdisk, sgdisk, blkid and the file systems' own checkers."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from libironic_disk import partitioner
from libironic_disk.pure.disks.layout import FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.planning import Action, Existing, Plan
from libironic_disk.pure.disks.presets import bios_boot, config_drive, ephemeral, esp, root, swap
from libironic_disk.pure.disks.sizes import Percent, Remaining, mib
from libironic_disk.pure.roles import Attribute, Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import GIB, MIB
from tests.conftest import Bench
from tests.support import oracles
from tests.support.disks import mounted

pytestmark = pytest.mark.loopdevice

SEED = b"a node's seed"


def every_role(table: TableKind) -> Layout:
    """Return a layout with each role and each file system once."""
    gpt = table is TableKind.GPT
    firmware = (bios_boot(),) if gpt else ()
    attributes = frozenset({Attribute.NO_AUTO}) if gpt else frozenset[Attribute]()
    return Layout(
        table=table,
        seed=SEED,
        partitions=(
            esp(mib(280)),
            *firmware,
            PartitionSpec(role=Role.PREP, size=mib(8)),
            PartitionSpec(
                role=Role.MULTIBOOT,
                size=mib(100),
                filesystem=FileSystem.EXT4,
                label="multiboot",
                attributes=attributes,
            ),
            ephemeral(mib(64), FileSystem.EXT3),
            swap(mib(64)),
            config_drive(100_000),
            PartitionSpec(
                role=Role.DATA, name="home", size=Percent(share=15), filesystem=FileSystem.XFS, mount_point="/home"
            ),
            PartitionSpec(role=Role.DATA, name="srv", size=mib(200), filesystem=FileSystem.BTRFS, mount_point="/srv"),
            PartitionSpec(role=Role.DATA, name="old", size=mib(32), filesystem=FileSystem.EXT2, label="old"),
            root(),
        ),
    )


def check_against_programs(node: str, plan: Plan, nodes: dict[int, str]) -> None:
    """Assert that sfdisk, sgdisk, blkid and each fsck see exactly what the plan says."""
    seen = oracles.sfdisk(node)
    assert seen.label == ("gpt" if plan.table is TableKind.GPT else "dos")
    assert seen.disk_id == plan.disk_id
    containers = {"f", "5"} if plan.table is TableKind.MBR else set()
    rows = [row for row in seen.rows if row.type_id not in containers]
    sector = plan.topology.sector_size
    assert [(row.start * sector, row.size * sector) for row in rows] == [(p.start, p.size) for p in plan.partitions]
    if plan.table is TableKind.GPT:
        oracles.check_gpt(node)
        assert [(row.uuid, row.name, row.type_id) for row in rows] == [
            (part.uuid, part.name, part.type_id) for part in plan.partitions
        ]
    else:
        assert [f"0x{int(row.type_id, 16):02x}" for row in rows] == [part.type_id for part in plan.partitions]
        assert [row.bootable for row in rows] == [part.bootable for part in plan.partitions]
    for part in plan.partitions:
        probed = oracles.blkid(nodes[part.number])
        assert probed.get("PART_ENTRY_UUID") == part.uuid
        if part.filesystem is None:
            assert "TYPE" not in probed
            continue
        assert (probed["TYPE"], probed.get("LABEL", ""), probed["UUID"]) == (
            part.filesystem,
            part.label,
            part.filesystem_uuid,
        )
        oracles.check_filesystem(part.filesystem, nodes[part.number])


@pytest.mark.parametrize("table", list(TableKind))
def test_every_role_is_seen_by_other_programs_as_planned(bench: Bench, sector_size: int, table: TableKind) -> None:
    disk = bench.disk(3 * GIB, sector_size)
    plan = partitioner.plan(every_role(table), partitioner.observe(disk.node))
    applied = partitioner.apply(plan)
    check_against_programs(disk.node, plan, dict(applied.nodes))


@pytest.mark.parametrize("table", list(TableKind))
def test_a_second_plan_is_empty_and_applying_it_changes_no_byte(
    bench: Bench, sector_size: int, table: TableKind
) -> None:
    disk = bench.disk(3 * GIB, sector_size)
    for seed in (SEED, None):
        layout = Layout(table=table, seed=seed, partitions=every_role(table).partitions)
        partitioner.apply(partitioner.plan(layout, partitioner.observe(disk.node), existing=Existing.REPLACE))
        before = disk.digest()
        again = partitioner.plan(layout, partitioner.observe(disk.node))
        assert again.is_empty
        assert (again.destroys, again.wipes, again.makes) == ((), (), ())
        nodes = partitioner.apply(again).nodes
        assert sorted(nodes) == [part.number for part in again.partitions]
        assert disk.digest() == before


def test_a_changed_label_makes_the_second_plan_a_new_disk(bench: Bench) -> None:
    disk = bench.disk(GIB, 512)
    first = Layout(table=TableKind.GPT, partitions=(swap(mib(64)), ephemeral(mib(64)), root()))
    applied = partitioner.apply(partitioner.plan(first, partitioner.observe(disk.node)))
    subprocess.run(["e2label", applied.nodes[2], "other"], check=True)
    again = partitioner.plan(first, partitioner.observe(disk.node))
    assert again.action is Action.MAKE
    assert [signature.label for signature in again.destroys] == ["swap1", "other"]


def rebuild(table: TableKind, *, keep: bool, drive: bool = True, swap_mib: int = 64) -> Layout:
    """Return a layout with an ephemeral volume that is kept or not."""
    return Layout(
        table=table,
        partitions=(
            *((esp(mib(280)),) if table is TableKind.GPT else ()),
            ephemeral(mib(128), keep=keep),
            swap(mib(swap_mib)),
            *((config_drive(1),) if drive else ()),
            root(),
        ),
    )


def span_digest(file: Path, start: int, size: int) -> str:
    """Return the SHA-256 of some bytes of a file."""
    with file.open("rb") as opened:
        opened.seek(start)
        return hashlib.sha256(opened.read(size)).hexdigest()


@pytest.mark.parametrize("table", list(TableKind))
def test_a_rebuild_keeps_every_byte_of_the_ephemeral_volume(
    bench: Bench, tmp_path: Path, sector_size: int, table: TableKind
) -> None:
    disk = bench.disk(GIB, sector_size)
    first = partitioner.plan(rebuild(table, keep=False), partitioner.observe(disk.node))
    nodes = partitioner.apply(first).nodes
    kept = first.partition(Role.EPHEMERAL)
    assert kept is not None
    with mounted(nodes[kept.number], tmp_path / "mnt") as top:
        (top / "precious").write_text("do not lose me")
    subprocess.run(["blockdev", "--flushbufs", nodes[kept.number]], check=True)
    before = span_digest(disk.file, kept.start, kept.size)

    plan = partitioner.plan(rebuild(table, keep=True), partitioner.observe(disk.node), existing=Existing.REPLACE)
    assert plan.action is Action.KEEP
    assert kept.number not in {signature.partition for signature in plan.destroys}
    applied = partitioner.apply(plan)

    assert span_digest(disk.file, kept.start, kept.size) == before
    check_against_programs(disk.node, plan, dict(applied.nodes))
    with mounted(applied.nodes[kept.number], tmp_path / "mnt", "-o", "ro") as top:
        assert (top / "precious").read_text() == "do not lose me"


def test_the_new_swap_of_a_rebuild_has_a_new_uuid(bench: Bench) -> None:
    disk = bench.disk(GIB, 512)
    partitioner.apply(partitioner.plan(rebuild(TableKind.GPT, keep=False), partitioner.observe(disk.node)))
    found = partitioner.observe(disk.node)
    plan = partitioner.plan(rebuild(TableKind.GPT, keep=True), found, existing=Existing.REPLACE)
    new = plan.partition(Role.SWAP)
    assert new is not None
    assert new.filesystem_uuid not in {signature.uuid for signature in found.signatures}
    assert found.table is not None
    assert [part.uuid for part in plan.partitions] == [part.uuid for part in found.table.partitions]


@pytest.mark.parametrize("table", list(TableKind))
def test_ironic_9_4_old_superblocks_do_not_come_back_in_new_partitions_of_the_same_place(
    bench: Bench, sector_size: int, table: TableKind
) -> None:
    disk = bench.disk(2 * GIB, sector_size)
    blank = Layout(
        table=table,
        partitions=tuple(PartitionSpec(role=Role.DATA, name=f"d{at}", size=Remaining(weight=1)) for at in range(4)),
    )
    nodes = partitioner.apply(partitioner.plan(blank, partitioner.observe(disk.node))).nodes
    numbers = sorted(nodes)
    for number, argv in zip(
        numbers, (["mkfs.ext4", "-q"], ["mkfs.btrfs", "-q"], ["mkfs.xfs", "-q"], ["mkswap"]), strict=True
    ):
        subprocess.run([*argv, nodes[number]], check=True, capture_output=True)
    plan = partitioner.plan(blank, partitioner.observe(disk.node), existing=Existing.REPLACE)
    assert {"ext4", "btrfs", "xfs", "swap"} == {signature.kind for signature in plan.destroys}
    nodes = partitioner.apply(plan).nodes
    for number in numbers:
        assert "TYPE" not in oracles.blkid(nodes[number])
        assert oracles.output("wipefs", "--no-act", "--noheadings", "--output", "TYPE", nodes[number]).split() == []


def test_a_gpt_leaves_no_trace_under_an_mbr(bench: Bench) -> None:
    disk = bench.disk(GIB, 512)
    for table in (TableKind.GPT, TableKind.MBR):
        partitioner.apply(partitioner.plan(rebuild(table, keep=False), partitioner.observe(disk.node)))
    kinds = oracles.output("wipefs", "--no-act", "--noheadings", "--output", "TYPE", disk.node).split()
    assert kinds == ["dos"]


def test_a_file_system_on_the_whole_disk_is_destroyed_and_named(bench: Bench) -> None:
    disk = bench.disk(GIB, 512)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-L", "whole", disk.node], check=True)
    plan = partitioner.plan(rebuild(TableKind.MBR, keep=False), partitioner.observe(disk.node))
    assert [str(signature) for signature in plan.destroys] == ["ext4 labelled 'whole' on the disk"]
    partitioner.apply(plan)
    assert oracles.blkid(disk.node).get("TYPE") is None


def test_a_plain_file_becomes_a_disk_without_leaving_a_loop_device(bench: Bench, sector_size: int) -> None:
    file = bench.blank_file(GIB)
    plan = partitioner.plan(
        rebuild(TableKind.GPT, keep=False), partitioner.observe(str(file), file_sector_size=sector_size)
    )
    partitioner.apply(plan)
    assert oracles.output("losetup", "--associated", str(file)) == ""
    disk = bench.attach(file, sector_size)
    assert [row.name for row in oracles.sfdisk(disk.node).rows] == [part.name for part in plan.partitions]
    oracles.check_gpt(disk.node)


def test_an_mbr_on_a_disk_of_three_tebibytes_ends_where_it_can_reach(bench: Bench) -> None:
    disk = bench.disk(3072 * GIB, 512)
    layout = Layout(table=TableKind.MBR, partitions=(swap(mib(64)), config_drive(64 * MIB), root()))
    plan = partitioner.plan(layout, partitioner.observe(disk.node))
    assert plan.notes == ("1 TiB lie behind what an MBR can reach and stay unused",)
    applied = partitioner.apply(plan)
    check_against_programs(disk.node, plan, dict(applied.nodes))
    assert plan.partitions[-1].end <= 2**32 * 512


@pytest.mark.parametrize("table", list(TableKind))
def test_a_bios_goes_on_from_a_disk_that_has_no_boot_loader(bench: Bench, table: TableKind) -> None:
    disk = bench.disk(64 * MIB, 512)
    layout = Layout(table=table, partitions=(root(),))
    partitioner.apply(partitioner.plan(layout, partitioner.observe(disk.node)))
    with Path(disk.node).open("rb") as node:
        first = node.read(512)
    # Interrupt 18h (BIOS Boot Specification 1.01, appendix D): without it the machine hangs in zeros.
    assert (first[:2], first[510:]) == (b"\xcd\x18", b"\x55\xaa")
