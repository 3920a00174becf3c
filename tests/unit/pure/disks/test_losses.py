"""Where on a disk lies what would be recognised if it stayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pytest

from libironic_disk.pure.disks.facts import DiskFacts, Signature, Topology
from libironic_disk.pure.disks.losses import EDGE, old_metadata, table_spans
from libironic_disk.pure.ranges import ByteRange, merged, without
from libironic_disk.pure.tables import gpt, mbr
from libironic_disk.pure.tables.gpt import GptEntry, GptTable
from libironic_disk.pure.tables.mbr import MbrEntry, MbrTable
from libironic_disk.pure.tables.model import Extent, FoundPartition, FoundTable, TableKind
from libironic_disk.units import KIB, MIB
from tests.support.planning import blank, found_on
from tests.unit.pure.tables.disks import DEVICE, Disk

SIZE = 64 * MIB
LINUX = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


def facts_of(
    extents: Sequence[Extent], *, size: int = SIZE, sector_size: int = 512, signatures: tuple[Signature, ...] = ()
) -> DiskFacts:
    """The facts of a disk on which these bytes are."""
    facts = blank(size, Topology(sector_size=sector_size, physical_sector_size=sector_size))
    return replace(facts, table=found_on(Disk(size, extents), sector_size), signatures=signatures)


def gpt_of(*partitions: ByteRange, sector_size: int = 512, size: int = SIZE) -> tuple[Extent, ...]:
    """The bytes of a GPT."""
    entries = [
        GptEntry.at(
            number=number,
            start=span.start,
            size=span.size,
            sector_size=sector_size,
            type_guid=LINUX,
            guid=UUID(int=number),
        )
        for number, span in enumerate(partitions, 1)
    ]
    table = GptTable.new(disk_size=size, sector_size=sector_size, disk_guid=UUID(int=9), entries=entries)
    return tuple(gpt.encode(table, device=DEVICE))


def assert_covered(spans: Sequence[ByteRange], wanted: Sequence[ByteRange]) -> None:
    assert without(wanted, spans) == ()


def with_partition(start: int, size: int) -> DiskFacts:
    """The facts of a disk whose table, read by whoever, has one partition."""
    part = FoundPartition(number=1, start=start, size=size, type_id="0x83", uuid="")
    return replace(blank(SIZE), table=FoundTable(kind=TableKind.MBR, disk_id="", partitions=(part,)))


def test_of_a_blank_disk_it_is_both_ends() -> None:
    assert merged(old_metadata(blank(SIZE), ())) == (ByteRange(0, EDGE), ByteRange(SIZE - EDGE, SIZE))


@pytest.mark.parametrize("size", [512, 4 * KIB, EDGE, EDGE + 512, 2 * EDGE])
def test_of_a_small_disk_it_is_everything(size: int) -> None:
    assert merged(old_metadata(blank(size), ())) == (ByteRange(0, size),)


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_both_ends_of_every_partition_are_named(sector_size: int) -> None:
    partitions = (ByteRange(4 * MIB, 12 * MIB), ByteRange(20 * MIB, 20 * MIB + 64 * KIB))
    facts = facts_of(gpt_of(*partitions, sector_size=sector_size), sector_size=sector_size)
    assert merged(old_metadata(facts, ())) == (
        ByteRange(0, EDGE),
        ByteRange(4 * MIB, 5 * MIB),
        ByteRange(11 * MIB, 12 * MIB),
        ByteRange(20 * MIB, 20 * MIB + 64 * KIB),
        ByteRange(SIZE - EDGE, SIZE),
    )


def test_a_partition_that_leaves_the_disk_is_named_as_far_as_that_goes() -> None:
    assert ByteRange(SIZE - EDGE, SIZE) in list(old_metadata(with_partition(SIZE - 3 * MIB, 10 * MIB), ()))
    for facts in (
        with_partition(SIZE - 3 * MIB, 10 * MIB),
        with_partition(SIZE + MIB, MIB),
        with_partition(-MIB, 3 * MIB),
    ):
        assert all(span.start >= 0 and span.end <= SIZE for span in merged(old_metadata(facts, ())))


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_each_sector_of_both_copies_of_a_gpt_is_named(sector_size: int) -> None:
    made = gpt_of(ByteRange(4 * MIB, 8 * MIB), sector_size=sector_size)
    spans = tuple(table_spans(facts_of(made, sector_size=sector_size)))
    assert_covered(spans, [ByteRange(extent.offset, extent.offset + len(extent.data)) for extent in made])
    assert all(span.start % sector_size == span.end % sector_size == 0 for span in spans)


def test_a_backup_gpt_in_the_middle_of_a_disk_that_grew_is_named() -> None:
    made = gpt_of(ByteRange(4 * MIB, 8 * MIB), size=SIZE // 2)
    spans = tuple(old_metadata(facts_of(made), ()))
    assert_covered(spans, [ByteRange(extent.offset, extent.offset + len(extent.data)) for extent in made])


def test_every_record_of_a_chain_is_named() -> None:
    entries = [
        MbrEntry.at(
            number=number,
            start=number * 4 * MIB,
            size=2 * MIB,
            sector_size=512,
            type_id=0x83,
            record=number * 4 * MIB - MIB,
        )
        for number in (5, 6, 7)
    ]
    made = mbr.encode(MbrTable.new(disk_size=SIZE, sector_size=512, signature=7, entries=entries), device=DEVICE)
    spans = tuple(table_spans(facts_of(made)))
    assert_covered(spans, [ByteRange(extent.offset, extent.offset + 512) for extent in made])
    assert {extent.offset for extent in made} == {0, 19 * MIB, 23 * MIB, 27 * MIB}


@pytest.mark.parametrize(
    ("offset", "span"),
    [
        (8 * MIB, ByteRange(8 * MIB, 8 * MIB + 8 * KIB)),
        # Its magic may lie at the end of its first block, and the rest of it behind.
        (8 * MIB + 4095, ByteRange(8 * MIB, 8 * MIB + 8 * KIB)),
        (SIZE - 1, ByteRange(SIZE - 4 * KIB, SIZE)),
    ],
)
def test_the_blocks_of_a_signature_are_named_and_no_byte_behind_the_disk(offset: int, span: ByteRange) -> None:
    signature = Signature(kind="ext4", offset=offset)
    assert span in list(old_metadata(blank(SIZE), (signature,)))


def test_signatures_that_stay_are_not_named() -> None:
    signature = Signature(kind="ext4", offset=8 * MIB)
    facts = replace(blank(SIZE), signatures=(signature,))
    assert merged(old_metadata(facts, ())) == merged(old_metadata(blank(SIZE), ()))
