"""Partition table codecs: what is encoded decodes equal, and no bytes at all get the better of decoding."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import TableInvalid
from libironic_disk.pure.tables import gpt, mbr
from libironic_disk.pure.tables.gpt import GptEntry, GptTable
from libironic_disk.pure.tables.mbr import MbrEntry, MbrTable
from libironic_disk.pure.tables.model import Extent, TableKind
from libironic_disk.pure.tables.reading import read_table, regions, usable
from libironic_disk.units import MIB, TIB
from tests.unit.pure.tables.disks import DEVICE, Disk
from tests.unit.pure.tables.forging import HEADER_FIELDS, forge_header

SECTOR_SIZES = st.sampled_from([512 << power for power in range(8)])
GUIDS = st.uuids().filter(lambda guid: guid.int != 0)
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=36).filter(
    lambda name: len(name.encode("utf-16-le")) <= 72
)


@st.composite
def gpt_tables(draw: st.DrawFn) -> GptTable:
    sector_size = draw(SECTOR_SIZES)
    size = draw(st.integers(8 * MIB, 100 * TIB))
    slots = draw(st.sampled_from([1, 4, 128, 130, 512]))
    table = GptTable.new(disk_size=size, sector_size=sector_size, disk_guid=draw(GUIDS), entry_slots=slots)
    lbas = st.integers(table.first_usable, table.last_usable)
    cuts = sorted(draw(st.sets(lbas, max_size=12)))
    spans = list(pairwise(cuts))[::2][:slots]
    numbers = draw(st.permutations(range(1, slots + 1)))[: len(spans)] if slots <= 4 else range(1, len(spans) + 1)
    guids = draw(st.sets(GUIDS, min_size=len(spans), max_size=len(spans)))
    entries = [
        GptEntry(
            number=number,
            first_lba=first,
            last_lba=last,
            type_guid=draw(GUIDS),
            guid=guid,
            name=draw(NAMES),
            attributes=draw(st.integers(0, (1 << 64) - 1)),
        )
        for number, (first, last), guid in zip(numbers, spans, guids, strict=True)
    ]
    return replace(table, entries=tuple(sorted(entries, key=lambda entry: entry.number)))


@st.composite
def mbr_tables(draw: st.DrawFn) -> MbrTable:
    sector_size = draw(SECTOR_SIZES)
    size = draw(st.integers(8 * MIB, 20 * TIB))
    end = min(size // sector_size, 1 << 32)
    cuts = sorted(draw(st.sets(st.integers(1, end), min_size=0, max_size=24)))
    types = st.integers(1, 0xFF).filter(lambda kind: kind not in (0x05, 0x0F, 0x85, 0xEE))
    primaries = draw(st.integers(0, 3))
    entries: list[MbrEntry] = []
    while len(entries) < primaries and len(cuts) >= 2:
        first, last = cuts.pop(0), cuts.pop(0)
        number = len(entries) + 1
        entries.append(MbrEntry(number=number, first_lba=first, sectors=last - first, type_id=draw(types)))
    logical = 5
    while len(cuts) >= 3:
        record, first, last = cuts.pop(0), cuts.pop(0), cuts.pop(0)
        entries.append(
            MbrEntry(
                number=logical,
                first_lba=first,
                sectors=last - first,
                type_id=draw(types),
                bootable=draw(st.booleans()),
                record_lba=record,
            )
        )
        logical += 1
    signature = draw(st.integers(0, 0xFFFFFFFF))
    return MbrTable.new(disk_size=size, sector_size=sector_size, signature=signature, entries=entries)


@given(gpt_tables(), st.integers(0, 511))
def test_any_gpt_decodes_to_itself(table: GptTable, rest: int) -> None:
    size = table.disk_sectors * table.sector_size + rest
    disk = Disk(size, gpt.encode(table, device=DEVICE))
    arguments = {"disk_size": size, "sector_size": table.sector_size}
    assert gpt.decode(disk.read, device=DEVICE, **arguments) == (table, ())
    found = read_table(disk.read, device=DEVICE, **arguments)
    assert found is not None
    assert (found.kind, found.disk_id, found.problems) == (TableKind.GPT, str(table.disk_guid), ())
    assert [(UUID(one.uuid), one.start) for one in found.partitions] == [
        (entry.guid, entry.first_lba * table.sector_size) for entry in table.entries
    ]


@given(gpt_tables())
def test_tables_keep_clear_of_what_partitions_may_use(table: GptTable) -> None:
    disk_size = table.disk_sectors * table.sector_size
    first, end = table.first_usable * table.sector_size, (table.last_usable + 1) * table.sector_size
    if table.entry_slots <= 128:
        assert usable(TableKind.GPT, disk_size, table.sector_size) == (first, end)
    for offset, data in gpt.encode(table, device=DEVICE):
        assert offset + len(data) <= first or offset >= end
        assert offset % table.sector_size == len(data) % table.sector_size == 0
        assert offset + len(data) <= disk_size


@given(mbr_tables())
def test_any_mbr_decodes_to_itself(table: MbrTable) -> None:
    size = table.disk_sectors * table.sector_size
    extents = mbr.encode(table, device=DEVICE)
    disk = Disk(size, extents)
    assert mbr.decode(disk.read, device=DEVICE, disk_size=size, sector_size=table.sector_size) == (table, ())
    for offset, data in extents:
        for entry in table.entries:
            start, end = entry.first_lba * table.sector_size, entry.end_lba * table.sector_size
            assert offset + len(data) <= start or offset >= end


@st.composite
def hostile_disks(draw: st.DrawFn) -> tuple[Disk, int]:
    """A small disk with a table that was damaged by accident, or with care."""
    size = draw(st.sampled_from([256, 2048, 4096])) * 512
    sector_size = draw(st.sampled_from([512, 1024, 4096]))
    sectors = size // sector_size
    disk = Disk(size)
    if draw(st.booleans()):
        table = GptTable.new(disk_size=size, sector_size=sector_size, disk_guid=UUID(int=1))
        disk.extents += gpt.encode(table, device=DEVICE)
        for lba in draw(st.lists(st.sampled_from([1, sectors - 1]), max_size=2)):
            name = draw(st.sampled_from(sorted(set(HEADER_FIELDS) - {"header_size", "disk_guid"})))
            near = st.sampled_from([0, 1, 2, 3, 127, 128, 256, 8192, sectors - 1, sectors, sectors + 1])
            bits = 64 if HEADER_FIELDS[name][1] == "<Q" else 32
            value = draw(near | st.integers(0, (1 << bits) - 1))
            forge_header(disk, lba, sector_size, **{name: value})
    else:
        slots = st.tuples(
            st.sampled_from([0, 0x80, 1]),
            st.sampled_from([0, 5, 0x0F, 0x83, 0xEE]),
            st.integers(0, sectors) | st.integers(0, 0xFFFFFFFF),
            st.integers(0, sectors) | st.integers(0, 0xFFFFFFFF),
        )
        for lba in {0, *draw(st.sets(st.integers(0, sectors - 1), max_size=8))}:
            packed = b"".join(
                bytes([indicator, 0, 0, 0, kind, 0, 0, 0]) + first.to_bytes(4, "little") + count.to_bytes(4, "little")
                for indicator, kind, first, count in draw(st.lists(slots, max_size=4))
            )
            disk.write(lba * sector_size + 446, packed.ljust(64, b"\0") + b"\x55\xaa")
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, 5 * sector_size) | st.integers(size - 5 * sector_size, size))
        disk.extents.append(Extent(at, draw(st.binary(max_size=64))))
    if draw(st.booleans()):
        disk.size = draw(st.integers(0, size))
    return disk, sector_size


def check_bounds(disk: Disk) -> None:
    assert len(disk.reads) < 600
    assert sum(length for _, length in disk.reads) < 4 * MIB


@given(hostile_disks())
def test_no_bytes_get_the_better_of_reading(case: tuple[Disk, int]) -> None:
    disk, sector_size = case
    # Forging a copy of the table may have read the disk before.
    disk.reads.clear()
    found = read_table(disk.read, device=DEVICE, disk_size=disk.size, sector_size=sector_size)
    check_bounds(disk)
    places = regions(found, disk.size, sector_size)
    for offset, length in disk.reads:
        end = min(offset + length, disk.size)
        assert offset >= end or any(at <= offset and end <= at + size for at, size in places)
    if found is not None:
        assert len(found.problems) <= 21
        for one in found.partitions:
            assert 0 <= one.start < one.end <= disk.size
            one.name.encode()


@given(hostile_disks())
def test_decoding_raises_nothing_but_its_own_error(case: tuple[Disk, int]) -> None:
    disk, sector_size = case
    for codec in (gpt, mbr):
        disk.reads.clear()
        refusal = None
        try:
            _, problems = codec.decode(disk.read, device=DEVICE, disk_size=disk.size, sector_size=sector_size)
        except TableInvalid as error:
            refusal, problems = error, error.problems
        check_bounds(disk)
        assert all(problems)
        assert refusal is None or (refusal.device == DEVICE and problems)


@given(st.binary(max_size=4096), st.sampled_from([512, 1024]))
def test_garbage_is_read_without_an_error(data: bytes, sector_size: int) -> None:
    disk = Disk(len(data), [Extent(0, data)])
    read_table(disk.read, device=DEVICE, disk_size=disk.size, sector_size=sector_size)
    check_bounds(disk)


@given(hostile_disks(), st.data())
def test_what_lies_outside_the_regions_changes_no_answer(case: tuple[Disk, int], data: st.DataObject) -> None:
    disk, sector_size = case
    found = read_table(disk.read, device=DEVICE, disk_size=disk.size, sector_size=sector_size)
    inside = [(place, disk.read(*place)) for place in regions(found, disk.size, sector_size)]
    changed = Disk(disk.size)
    noise = data.draw(st.binary(min_size=16, max_size=16))
    changed.write(0, noise * (disk.size // 16 + 1))
    for (offset, _), kept in inside:
        changed.write(offset, kept)
    assert read_table(changed.read, device=DEVICE, disk_size=disk.size, sector_size=sector_size) == found
