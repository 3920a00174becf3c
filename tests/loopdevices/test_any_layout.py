"""Any layout that plans applies, reads back equal by other programs and plans empty the second time."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from libironic_disk import partitioner
from libironic_disk.errors import DeviceFailed, RequestError
from libironic_disk.pure.disks.facts import Topology
from libironic_disk.pure.disks.layout import MOST_PARTITIONS, FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.planning import Existing, Plan
from libironic_disk.pure.disks.presets import root, swap
from libironic_disk.pure.disks.sizes import Exact, mib
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support import oracles
from tests.support.disks import attach
from tests.support.layouts import layouts
from tests.support.planning import blank, plan_for

pytestmark = pytest.mark.loopdevice

KINDS = (FileSystem.EXT2, FileSystem.EXT4, FileSystem.VFAT)
CONTAINERS = {"5", "f"}
NAMED_BITS = {"RequiredPartition": 0, "LegacyBIOSBootable": 2}


@st.composite
def deployments(draw: st.DrawFn) -> tuple[int, int, list[Layout]]:
    """The size of a disk and of its sectors, and two layouts that fit on it, to be made one after the other."""
    size = draw(st.integers(64 * MIB, 200 * MIB)) // 4096 * 4096
    sector = draw(st.sampled_from([512, 4096]))
    wanted = [draw(layouts(largest=size, most=7, kinds=KINDS)) for _ in range(2)]
    for layout in wanted:
        try:
            plan = plan_for(layout, blank(size, Topology(sector_size=sector, physical_sector_size=sector)))
        except RequestError:
            assume(False)
            raise
        event(f"{plan.table} with {len(plan.partitions)} partitions and {len(plan.makes)} file systems, {sector}")
    return size, sector, wanted


def bits(attributes: str) -> int:
    """The attributes of a GPT entry as sfdisk writes them: ``RequiredPartition GUID:59,63``."""
    mask = 0
    for word in attributes.split():
        numbers = word.removeprefix("GUID:").split(",") if word.startswith("GUID:") else [str(NAMED_BITS[word])]
        mask |= sum(1 << int(number) for number in numbers)
    return mask


def assert_sfdisk_reads(plan: Plan, node: str) -> None:
    """Assert that sfdisk reads from a disk exactly what was planned."""
    seen = oracles.sfdisk(node)
    sector = plan.topology.sector_size
    gpt = plan.table is TableKind.GPT
    assert (seen.label, seen.disk_id) == ("gpt" if gpt else "dos", plan.disk_id)
    containers = [row for row in seen.rows if not gpt and row.type_id in CONTAINERS]
    if plan.extended is None:
        assert containers == []
    else:
        assert [(row.start * sector, row.size * sector) for row in containers] == [
            (plan.extended.start, plan.extended.size)
        ]
    for row, part in zip([row for row in seen.rows if row not in containers], plan.partitions, strict=True):
        assert (row.start * sector, row.size * sector) == (part.start, part.size)
        if gpt:
            assert (row.type_id, row.uuid, row.name) == (part.type_id, part.uuid, part.name)
            assert bits(row.attributes) == part.attributes
        else:
            assert (int(row.type_id, 16), row.bootable) == (int(part.type_id, 16), part.bootable)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(case=deployments())
def test_any_layout_that_plans_applies_and_reads_back_and_plans_empty(
    bench: Bench, case: tuple[int, int, list[Layout]]
) -> None:
    size, sector, wanted = case
    file = bench.blank_file(size)
    with attach(file, sector) as disk:
        for layout in wanted:
            plan = partitioner.plan(layout, partitioner.observe(disk.node), existing=Existing.REPLACE)
            nodes = partitioner.apply(plan).nodes
            assert_sfdisk_reads(plan, disk.node)
            if plan.table is TableKind.GPT:
                oracles.check_gpt(disk.node)
            for part in plan.partitions:
                seen = oracles.blkid(nodes[part.number])
                assert seen["PART_ENTRY_UUID"] == part.uuid
                assert (seen.get("TYPE", ""), seen.get("UUID", "")) == (part.filesystem or "", part.filesystem_uuid)
            again = partitioner.plan(layout, partitioner.observe(disk.node))
            assert again.is_empty
            assert again.partitions == plan.partitions
    file.unlink()


@pytest.mark.parametrize("table", list(TableKind))
def test_as_many_partitions_as_a_layout_may_have_apply(bench: Bench, sector_size: int, table: TableKind) -> None:
    specs = (PartitionSpec(role=Role.DATA, name=f"d{at}", size=Exact(size=MIB)) for at in range(MOST_PARTITIONS[table]))
    disk = bench.disk(256 * MIB, sector_size)
    layout = Layout(table=table, partitions=tuple(specs))
    plan = partitioner.plan(layout, partitioner.observe(disk.node))
    assert len(partitioner.apply(plan).nodes) == MOST_PARTITIONS[table]
    assert_sfdisk_reads(plan, disk.node)
    assert partitioner.plan(layout, partitioner.observe(disk.node)).is_empty


@pytest.mark.parametrize("rest", [1, 511, 512, 4095])
def test_a_file_that_ends_within_a_sector_becomes_a_disk_of_whole_ones(
    bench: Bench, sector_size: int, rest: int
) -> None:
    file = bench.blank_file(64 * MIB + rest)
    facts = partitioner.observe(str(file), file_sector_size=sector_size)
    assert facts.size == (64 * MIB + rest) // sector_size * sector_size
    layout = Layout(table=TableKind.GPT, partitions=(swap(mib(1)), root()))
    plan = partitioner.plan(layout, facts)
    partitioner.apply(plan)
    assert partitioner.plan(layout, partitioner.observe(str(file), file_sector_size=sector_size)).is_empty
    disk = bench.attach(file, sector_size)
    assert partitioner.plan(layout, partitioner.observe(disk.node)).partitions == plan.partitions
    # sfdisk can't read the last block of the kernel's device, as it is no whole one.
    with file.open("r+b") as opened:
        opened.truncate(facts.size)
    whole = bench.attach(file, sector_size)
    assert_sfdisk_reads(plan, whole.node)
    oracles.check_gpt(whole.node)


@pytest.mark.parametrize("size", [-512, 0, 1, 256, 513, 1000, 131072])
def test_a_sector_size_that_no_disk_has_is_refused(bench: Bench, size: int) -> None:
    file = bench.blank_file(16 * MIB)
    with pytest.raises(DeviceFailed, match=f"not {size}$"):
        partitioner.observe(str(file), file_sector_size=size)
