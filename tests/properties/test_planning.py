"""Planning: whatever plans can be written, lies where it may, and reads back as it was planned."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from libironic_disk import partitioner
from libironic_disk.errors import LayoutDoesNotFit, RequestError
from libironic_disk.pure.disks.documents import layout_from_json, layout_to_json, plan_from_json, plan_to_json
from libironic_disk.pure.disks.drawing import as_svg, as_text
from libironic_disk.pure.disks.encoding import encode_table
from libironic_disk.pure.disks.facts import DiskFacts, Signature, Topology
from libironic_disk.pure.disks.layout import SMALLEST, Layout, PartitionSpec
from libironic_disk.pure.disks.planner import HEAD
from libironic_disk.pure.disks.planning import Action, Existing, Plan, PlannedPartition
from libironic_disk.pure.disks.sizes import Exact, Remaining, mib
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables import gpt
from libironic_disk.pure.tables.gpt import GptEntry, GptTable
from libironic_disk.pure.tables.model import FoundPartition, FoundTable, TableKind
from libironic_disk.pure.tables.reading import usable
from libironic_disk.units import GIB, MIB, TIB, align_up
from tests.support.hostile import hostile_disk
from tests.support.layouts import layouts, topologies
from tests.support.planning import applied, blank, found_on, plan_for, written
from tests.unit.pure.tables.disks import Disk

SIZES = st.sampled_from([8 * MIB, 64 * MIB, GIB, 10 * GIB, TIB, 3 * TIB, 20 * TIB])


@st.composite
def cases(draw: st.DrawFn, topology: st.SearchStrategy[Topology] | None = None) -> tuple[Layout, DiskFacts, Plan]:
    """A layout, a blank disk and the plan."""
    around = draw(SIZES)
    size = draw(st.integers(around // 2, around * 2))
    layout = draw(layouts(largest=size))
    layout.check()
    facts = blank(size, draw(topology or topologies()))
    try:
        plan = plan_for(layout, facts)
    except RequestError:
        assume(False)
        raise
    event(f"{len(plan.partitions)} partitions, {plan.table}")
    return layout, facts, plan


def step_of(plan: Plan, part: PlannedPartition) -> int:
    """The alignment of a partition's start: what is smaller than a large grain keeps to one of 1 MiB."""
    grain = plan.alignment.grain
    return MIB if part.size < grain and grain % MIB == 0 else grain


def touches(spans: tuple[ByteRange, ...], other: ByteRange) -> bool:
    return any(span.start < other.end and other.start < span.end for span in spans)


@given(cases())
def test_partitions_lie_apart_and_aligned_in_what_the_table_leaves(case: tuple[Layout, DiskFacts, Plan]) -> None:
    layout, facts, plan = case
    sector = facts.topology.sector_size
    first, end = usable(plan.table, facts.size, sector)
    assert all(one.end <= other.start for one, other in pairwise(plan.partitions))
    for part in plan.partitions:
        assert max(first, HEAD) <= part.start < part.end <= min(end, facts.size)
        assert part.start % sector == part.size % sector == 0
        assert (part.start - plan.alignment.offset) % step_of(plan, part) == 0
    records = [part.record for part in plan.partitions if part.record is not None]
    if plan.table is TableKind.GPT:
        assert [part.number for part in plan.partitions] == list(range(1, len(layout.partitions) + 1))
        assert (records, plan.extended) == ([], None)
    elif plan.extended is not None:
        assert plan.extended == ByteRange(records[0], plan.partitions[-1].end)
        for part in plan.partitions:
            assert (part.number > 4) is (part.record is not None) is (part.start >= plan.extended.start)
    for record in records:
        assert not touches(tuple(part.span for part in plan.partitions), ByteRange(record, record + sector))


@given(cases())
def test_sizes_are_what_the_layout_allows(case: tuple[Layout, DiskFacts, Plan]) -> None:
    layout, facts, plan = case
    sector = facts.topology.sector_size
    for spec, part in zip(layout.partitions, plan.partitions, strict=True):
        match spec.size:
            case Exact(size=size):
                assert part.size == align_up(size, sector)
            case Remaining(minimum=minimum, maximum=maximum):
                assert part.size >= minimum
                assert maximum is None or part.size <= max(maximum, align_up(minimum, sector))
            case share:
                assert part.size <= max(share.of(facts.size), sector)
        if spec.filesystem is not None:
            assert part.size >= SMALLEST[spec.filesystem]


@given(cases())
def test_what_remains_is_shared_by_weight_and_nothing_is_wasted(case: tuple[Layout, DiskFacts, Plan]) -> None:
    layout, facts, plan = case
    grain = plan.alignment.grain
    shared = [
        (spec.size, part.size)
        for spec, part in zip(layout.partitions, plan.partitions, strict=True)
        if isinstance(spec.size, Remaining)
    ]
    assume(shared)
    # One share per weight, of which each has its multiple, rounded down to the grain, unless its bounds forbid.
    least, most = Fraction(0), Fraction(facts.size)
    full = True
    for wanted, size in shared:
        weight = wanted.weight or 1
        at_least = size <= max(align_up(wanted.minimum, grain), facts.topology.sector_size)
        at_most = wanted.maximum is not None and size + grain > wanted.maximum
        if not at_least:
            least = max(least, Fraction(size, weight))
        if not at_most:
            most = min(most, Fraction(size + grain + 1, weight))
            full = False
    assert least <= most
    if not full:
        end = usable(plan.table, facts.size, facts.topology.sector_size)[1]
        assert end - plan.partitions[-1].end < (len(shared) + 1) * grain


@given(cases())
def test_identities_are_unique_and_follow_from_the_seed(case: tuple[Layout, DiskFacts, Plan]) -> None:
    layout, facts, plan = case
    assert plan == plan_for(layout, facts)
    identities = [plan.disk_id, *(part.uuid for part in plan.partitions)]
    identities += [part.filesystem_uuid for part in plan.makes]
    assert len(set(identities)) == len(identities)
    assert all(identities)
    if layout.seed is None:
        other = plan_for(layout, facts, seed=b"another")
        assert other.disk_id != plan.disk_id
        assert {part.uuid for part in other.partitions}.isdisjoint(identities)
    else:
        assert plan_for(layout, facts, seed=b"another") == plan


@given(cases())
def test_layouts_and_plans_read_back_from_their_documents(case: tuple[Layout, DiskFacts, Plan]) -> None:
    layout, _, plan = case
    assert layout_from_json(layout_to_json(layout)) == layout
    assert plan_from_json(plan_to_json(plan)) == plan


@given(cases(), st.integers(0, 200))
def test_every_plan_can_be_drawn(case: tuple[Layout, DiskFacts, Plan], width: int) -> None:
    plan = case[2]
    text = as_text(plan, width=width)
    assert all(part.name in text for part in plan.partitions)
    assert as_svg(plan).count("<rect") >= 2 * len(plan.partitions)


@given(cases())
def test_the_bytes_of_a_plan_decode_to_the_plan(case: tuple[Layout, DiskFacts, Plan]) -> None:
    _, facts, plan = case
    found = found_on(written(plan), facts.topology.sector_size)
    assert found is not None
    assert (found.kind, found.disk_id, found.problems) == (plan.table, plan.disk_id, ())
    gpt = plan.table is TableKind.GPT
    assert found.partitions == tuple(
        FoundPartition(
            number=part.number,
            start=part.start,
            size=part.size,
            type_id=part.type_id,
            uuid=part.uuid,
            name=part.name if gpt else "",
            attributes=part.attributes,
            bootable=part.bootable,
        )
        for part in plan.partitions
    )


@given(cases())
def test_the_bytes_of_a_plan_lie_on_the_disk_and_in_no_partition(case: tuple[Layout, DiskFacts, Plan]) -> None:
    _, facts, plan = case
    extents = encode_table(plan, b"")
    spans = [ByteRange(extent.offset, extent.offset + len(extent.data)) for extent in extents]
    assert extents[-1].offset == 0
    for span in spans:
        assert 0 <= span.start < span.end <= facts.size
        assert not touches(tuple(part.span for part in plan.partitions), span)
    assert all(other.end <= one.start for one, other in pairwise(spans))


@given(cases(), st.binary(min_size=1, max_size=8))
def test_planning_again_gives_an_empty_plan_and_replacing_a_full_one(
    case: tuple[Layout, DiskFacts, Plan], seed: bytes
) -> None:
    layout, facts, plan = case
    now = applied(plan, facts)
    again = plan_for(layout, now, seed=seed)
    assert again.action is Action.NOTHING
    assert again.partitions == plan.partitions
    anew = plan_for(layout, now, seed=seed, existing=Existing.REPLACE)
    assert anew.action is Action.MAKE
    assert anew.destroys == now.signatures
    assert [part.span for part in anew.partitions] == [part.span for part in plan.partitions]


def kept(layout: Layout, which: Callable[[int], bool]) -> Layout:
    """The layout with some of its volumes kept."""
    keepable = {Role.EPHEMERAL, Role.DATA}
    specs = [replace(spec, keep=spec.role in keepable and which(at)) for at, spec in enumerate(layout.partitions)]
    return replace(layout, partitions=tuple(specs))


@given(cases(), st.integers(1, 255), st.lists(st.integers(0, 20 * TIB), max_size=6))
def test_no_byte_of_a_kept_volume_or_of_its_table_is_wiped(
    case: tuple[Layout, DiskFacts, Plan], which: int, places: list[int]
) -> None:
    layout, facts, plan = case
    wanted = kept(layout, lambda at: bool(which >> at & 1))
    assume(any(spec.keep for spec in wanted.partitions))
    now = applied(plan, facts)
    # Superblocks anywhere: those of others, whose block may reach into the volume, and the volume's own.
    strangers = [
        Signature(kind="linux_raid_member", offset=place % facts.size, partition=number)
        for place in places
        for number in (0, 1)
    ]
    near = [Signature(kind="LVM2_member", offset=max(part.start - 1, 0), partition=0) for part in plan.partitions]
    now = replace(now, signatures=(*now.signatures, *strangers, *near))
    again = plan_for(wanted, now, existing=Existing.REPLACE)
    assert again.action is Action.KEEP
    assert now.table is not None
    untouched = [part.span for part in again.partitions if part.keep]
    untouched += [ByteRange(offset, offset + length) for offset, length in now.table.regions]
    for span in untouched:
        assert not touches(again.wipes, span)
    kept_numbers = {part.number for part in again.partitions if part.keep}
    assert kept_numbers.isdisjoint(found.partition for found in again.destroys)
    for part in again.partitions:
        if not part.keep:
            assert touches(again.wipes, part.span)


@given(layouts(largest=64 * MIB), st.integers(0, HEAD), topologies())
def test_a_disk_without_any_room_is_refused_as_too_small(layout: Layout, size: int, topology: Topology) -> None:
    with pytest.raises(LayoutDoesNotFit) as refused:
        plan_for(layout, blank(size, topology))
    assert 0 == refused.value.available < refused.value.wanted


@st.composite
def found_tables(draw: st.DrawFn) -> FoundTable:
    """Any table that reading might ever return, overlaps and partitions behind the end of the disk included."""
    kind = draw(st.sampled_from(TableKind))
    spans = draw(st.lists(st.tuples(st.integers(0, 4 * GIB), st.integers(1, 4 * GIB)), max_size=6))
    parts = tuple(
        FoundPartition(number=at + 1, start=start, size=size, type_id="0x83", uuid=f"u{at}")
        for at, (start, size) in enumerate(spans)
    )
    regions = tuple(draw(st.lists(st.tuples(st.integers(0, GIB), st.integers(0, 70_000)), max_size=4)))
    problems = tuple(draw(st.lists(st.just("it is damaged"), max_size=1)))
    return FoundTable(
        kind=kind, disk_id=draw(st.sampled_from(["", "x"])), partitions=parts, problems=problems, regions=regions
    )


@given(layouts(largest=GIB), found_tables(), st.lists(st.integers(0, GIB - 1), max_size=5), topologies())
def test_any_table_on_the_disk_is_wiped_within_the_disk(
    layout: Layout, table: FoundTable, places: list[int], topology: Topology
) -> None:
    signatures = tuple(Signature(kind="zfs_member", offset=place) for place in places)
    facts = replace(blank(GIB, topology), table=table, signatures=signatures)
    try:
        plan = plan_for(layout, facts)
    except RequestError:
        assume(False)
        raise
    assert plan.action is Action.MAKE
    assert all(0 <= span.start < span.end <= GIB for span in plan.wipes)
    assert all(touches(plan.wipes, ByteRange(place, place + 1)) for place in places)


# Hostile bytes, through the same door as a real disk's.


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=200)
@given(st.integers(0, 2**32), st.sampled_from([512, 4096]), st.sampled_from(TableKind), st.booleans())
def test_no_table_on_a_disk_gets_the_better_of_planning(
    tmp_path: Path, seed: int, sector: int, table: TableKind, keep: bool
) -> None:
    chance = random.Random(seed)
    disk = hostile_disk(chance, sector)
    path = disk.save(tmp_path / "disk.img")
    facts = partitioner.observe(path, file_sector_size=sector)
    found = facts.table
    event(f"{found.kind if found else 'no'} table, {'with' if found and found.partitions else 'without'} partitions")
    specs = [PartitionSpec(role=Role.DATA, name="first", size=mib(3)), PartitionSpec(role=Role.ROOT, size=Remaining())]
    if found and found.partitions and chance.random() < 0.5:
        # What is there, as far as a layout can say it: as near to being kept as a stranger's table gets.
        specs[0] = replace(specs[0], size=Exact(size=found.partitions[0].size))
    specs[0] = replace(specs[0], keep=keep)
    try:
        plan = partitioner.plan(Layout(table=table, partitions=tuple(specs)), facts, existing=Existing.REPLACE)
    except RequestError:
        return
    assert plan.action is (Action.KEEP if keep else Action.MAKE)
    assert plan_from_json(plan_to_json(plan)) == plan
    assert all(0 <= span.start < span.end <= facts.size for span in plan.wipes)
    assert not keep or not touches(plan.wipes, plan.partitions[0].span)
    assert as_text(plan)


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("lba", [34, 40])
def test_a_partition_right_behind_the_table_is_replaced_without_complaint(
    tmp_path: Path, sector: int, lba: int
) -> None:
    size = 64 * MIB
    entry = GptEntry(number=1, first_lba=lba, last_lba=lba + 1000, type_guid=UUID(int=1), guid=UUID(int=2))
    table = GptTable.new(disk_size=size, sector_size=sector, disk_guid=UUID(int=3), entries=[entry])
    path = Disk(size, gpt.encode(table, device="/dev/test")).save(tmp_path / "disk.img")
    facts = partitioner.observe(path, file_sector_size=sector)
    assert facts.table is not None
    assert [part.start for part in facts.table.partitions] == [lba * sector]
    plan = partitioner.plan(
        Layout(table=TableKind.GPT, partitions=(PartitionSpec(role=Role.ROOT, size=Remaining()),)), facts
    )
    assert plan.partitions[0].start == MIB
    assert touches(plan.wipes, ByteRange(lba * sector, lba * sector + 1))
