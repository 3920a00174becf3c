from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from libironic_disk.errors import TableInvalid, TableLimit
from libironic_disk.pure.tables import mbr
from libironic_disk.pure.tables.bootrecord import with_boot_code
from libironic_disk.pure.tables.mbr import MbrEntry, MbrTable
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.pure.tables.reading import read_table, usable
from libironic_disk.units import MIB, TIB
from tests.unit.pure.tables.disks import DEVICE, Disk, disk_of
from tests.unit.pure.tables.forging import a_record, slot
from tests.unit.pure.tables.oracles import (
    partuuids_by_libblkid,
    ranges_by_fdisk,
    ranges_by_parted,
    run,
    seen_by_sfdisk,
    verify_by_fdisk,
    verify_by_sfdisk,
)

SIZE = 64 * MIB
SIGNATURE = 0x00C0FFEE


def an_entry(number: int, sector_size: int = 512) -> MbrEntry:
    return MbrEntry.at(
        number=number,
        start=number * 6 * MIB,
        size=4 * MIB,
        sector_size=sector_size,
        type_id=0x82 if number == 6 else 0x83,
        bootable=number == 1,
        record=number * 6 * MIB - MIB if number > 4 else None,
    )


def a_table(sector_size: int = 512, numbers: tuple[int, ...] = (1, 2, 5, 6, 7)) -> MbrTable:
    return MbrTable.new(
        disk_size=SIZE,
        sector_size=sector_size,
        signature=SIGNATURE,
        entries=[an_entry(number, sector_size) for number in numbers],
    )


def a_disk(table: MbrTable) -> Disk:
    return Disk(SIZE, mbr.encode(table, device=DEVICE))


def decoded(disk: Disk, sector_size: int = 512) -> tuple[MbrTable, tuple[str, ...]]:
    return mbr.decode(disk.read, device=DEVICE, disk_size=disk.size, sector_size=sector_size)


# Tables of ours, seen by others.


@pytest.mark.parametrize("numbers", [(), (1,), (1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 3, 5, 6, 7, 8), (5,), (2, 5, 6)])
def test_other_programs_see_what_was_encoded(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    table = a_table(numbers=numbers)
    disk = a_disk(table)
    assert decoded(disk) == (table, ())
    path = disk.save(tmp_path / "disk")
    verify_by_sfdisk(path)
    disk_id, partitions = seen_by_sfdisk(path)
    assert disk_id == "0x00c0ffee"
    wanted = {number: (number * 6 * MIB, 4 * MIB) for number in numbers}
    assert {one.number: (one.start, one.size) for one in partitions} == wanted
    assert {one.number for one in partitions if one.bootable} == {1} & {*numbers}
    assert [one.type_id for one in partitions] == ["0x82" if number == 6 else "0x83" for number in numbers]
    assert ranges_by_parted(path) == wanted


@pytest.mark.parametrize("sector_size", [512, 1024, 2048, 4096])
def test_every_sector_size_is_understood_by_others(tmp_path: Path, sector_size: int) -> None:
    table = a_table(sector_size)
    path = a_disk(table).save(tmp_path / "disk")
    verify_by_fdisk(path, sector_size)
    assert ranges_by_fdisk(path, sector_size) == [
        (entry.first_lba * sector_size, entry.sectors * sector_size) for entry in (*table.primaries, *table.logicals)
    ]
    found = read_table(disk_of(Path(path)).read, device=DEVICE, disk_size=SIZE, sector_size=sector_size)
    assert found is not None
    seen = partuuids_by_libblkid(path, sector_size)
    assert {one.number: (one.start, one.size, one.uuid) for one in found.partitions}.items() <= seen.items()
    # The extended partition is the one that libblkid has in addition.
    assert seen.keys() - {one.number for one in found.partitions} == {3}


def test_a_partition_may_reach_the_last_sector_that_32_bits_count() -> None:
    size = 3 * TIB
    first, end = usable(TableKind.MBR, size, 512)
    assert (first, end) == (512, 2 * TIB)
    assert usable(TableKind.MBR, size, 4096) == (4096, size)
    assert usable(TableKind.MBR, 1000, 512) == (512, 512)
    whole = MbrEntry.at(number=1, start=first, size=end - first, sector_size=512, type_id=0x83)
    table = MbrTable.new(disk_size=size, sector_size=512, signature=1, entries=[whole])
    disk = Disk(size, mbr.encode(table, device=DEVICE))
    assert decoded(disk) == (table, ())
    for wrong in (replace(whole, first_lba=2), replace(whole, first_lba=1 << 32, sectors=1)):
        with pytest.raises(TableLimit, match="beyond 2\\^32 sectors"):
            mbr.encode(replace(table, entries=(wrong,)), device=DEVICE)


def test_boot_code_is_kept_up_to_440_bytes() -> None:
    code = b"\xeb\x63\x90" + b"x" * 437
    sector = mbr.encode(a_table(), device=DEVICE, boot_code=code)[-1].data
    without = mbr.encode(a_table(), device=DEVICE)[-1].data
    assert sector[:440] == code
    assert sector[440:] == without[440:]
    assert with_boot_code(without, code) == sector
    assert with_boot_code(sector, b"") == without
    with pytest.raises(ValueError, match="441"):
        with_boot_code(without, bytes(441))


def test_sector_0_is_the_last_to_be_written() -> None:
    extents = mbr.encode(a_table(4096), device=DEVICE)
    assert [extent.offset for extent in extents] == [29 * MIB, 35 * MIB, 41 * MIB, 0]
    assert {len(extent.data) for extent in extents} == {4096}


def test_an_extended_partition_may_begin_before_its_first_partition(tmp_path: Path) -> None:
    table = a_table(numbers=(5, 6))
    assert table.extended is not None
    moved = replace(table.extended, first_lba=2048, sectors=table.extended.end_lba - 2048)
    disk = a_disk(replace(table, extended=moved))
    assert decoded(disk) == (replace(table, extended=moved), ())
    path = disk.save(tmp_path / "disk")
    assert [one.start for one in seen_by_sfdisk(path).partitions] == [30 * MIB, 36 * MIB]
    assert ranges_by_parted(path) == {5: (30 * MIB, 4 * MIB), 6: (36 * MIB, 4 * MIB)}


def test_an_extended_partition_may_be_empty(tmp_path: Path) -> None:
    extended = MbrEntry(number=2, first_lba=2048, sectors=4096, type_id=5)
    table = replace(a_table(numbers=(1,)), extended=extended)
    disk = a_disk(table)
    assert decoded(disk) == (table, ())
    path = disk.save(tmp_path / "disk")
    verify_by_sfdisk(path)
    assert ranges_by_parted(path) == {1: (6 * MIB, 4 * MIB)}


# Tables of others, seen by us.

SFDISK_SCRIPT = """
label: dos
label-id: 0xdeadbeef
start=2048, size=8192, type=c, bootable
start=10240, size=8192, type=82
start=18432, size=102400, type=5
start=20480, size=4096, type=83
start=30720, size=4096, type=fd
start=26624, size=2048, type=83
"""


@pytest.mark.parametrize("maker", ["sfdisk", "parted"])
def test_tables_of_others_decode_as_sfdisk_lists_them(tmp_path: Path, maker: str) -> None:
    path = tmp_path / "disk"
    Disk(SIZE).save(path)
    if maker == "sfdisk":
        run("sfdisk", str(path), stdin=SFDISK_SCRIPT)
    else:
        make = ["mklabel", "msdos", "mkpart", "primary", "1MiB", "9MiB", "mkpart", "extended", "9MiB", "100%"]
        make += ["mkpart", "logical", "10MiB", "20MiB", "mkpart", "logical", "30MiB", "40MiB", "set", "1", "boot", "on"]
        run("parted", "--script", str(path), *make)
    disk = disk_of(path)
    found = read_table(disk.read, device=DEVICE, disk_size=SIZE, sector_size=512)
    assert found is not None
    assert (found.disk_id, found.partitions) == seen_by_sfdisk(path)
    assert found.problems == ()
    assert found.kind is TableKind.MBR
    assert {one.number: (one.start, one.size, one.uuid) for one in found.partitions}.items() <= (
        partuuids_by_libblkid(path, 512).items()
    )
    table, _ = decoded(disk)
    again = a_disk(table).save(tmp_path / "again")
    assert seen_by_sfdisk(again) == seen_by_sfdisk(path)


def test_what_sfdisk_deletes_from_the_chain_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    Disk(SIZE).save(path)
    run("sfdisk", str(path), stdin=SFDISK_SCRIPT)
    run("sfdisk", "--delete", str(path), "5")
    table, problems = decoded(disk_of(path))
    assert problems == ()
    assert [(entry.number, entry.first_lba) for entry in table.logicals] == [
        (one.number, one.start // 512) for one in seen_by_sfdisk(path).partitions if one.number > 4
    ]


# Damage.


@pytest.mark.parametrize("end", [b"\0\0", b"\x55\0", b"\xaa\x55"])
def test_a_sector_without_the_mark_is_no_mbr(end: bytes) -> None:
    disk = a_disk(a_table())
    disk.write(510, end)
    with pytest.raises(TableInvalid, match="55 AA"):
        decoded(disk)


def test_a_boot_sector_full_of_text_is_no_mbr() -> None:
    disk = a_disk(a_table())
    disk.write(446, b"Press any key")
    with pytest.raises(TableInvalid, match="boot sector without partitions"):
        decoded(disk)


EXTENDED = slot(5, 2048, 100000)


@pytest.mark.parametrize(
    ("records", "numbers", "problem"),
    [
        ({}, [], "there is no boot record at sector 2048"),
        ({2048: [slot(0x83, 8, 8), slot(5, 0, 9)]}, [5], "returns to sector 2048"),
        (
            {2048: [slot(0x83, 8, 8), slot(5, 64, 9)], 2112: [slot(0x83, 8, 8), slot(5, 0, 9)]},
            [5, 6],
            "returns to sector 2048",
        ),
        ({2048: [slot(0x83, 8, 8), slot(5, 0xFFFFFFFF, 9)]}, [5], "leaves the disk at sector 4294969343"),
        ({2048: [slot(0x83, 8, 8), slot(5, 200, 9)]}, [5], "there is no boot record at sector 2248"),
        ({2048: [slot(0x83, 8, 8), slot(0x83, 32, 8)]}, [5, 6], "describes 2 partitions"),
        ({2048: [slot(0x83, 8, 8), slot(0, 0, 0), slot(0x41, 1, 0x7FFFFFFF)]}, [5], ""),
        ({2048: [slot(0x83, 8, 100000)]}, [5], "partition 5 is not inside the extended partition"),
        ({2048: [slot(0x83, 0, 8)]}, [5], "partition 5 does not lie behind its boot record"),
        (
            {2048: [slot(0x83, 8, 80), slot(5, 64, 9)], 2112: [slot(0x83, 40, 8)]},
            [5, 6],
            "the boot record at sector 2112 overlaps partition 5",
        ),
        ({2048: [slot(5, 64, 9)], 2112: [slot(0x83, 8, 8)]}, [5], ""),
    ],
)
def test_chains_are_followed_as_far_as_they_go(
    records: dict[int, list[bytes]], numbers: list[int], problem: str
) -> None:
    disk = Disk(SIZE)
    disk.write(0, a_record(EXTENDED))
    for lba, slots in records.items():
        disk.write(lba * 512, a_record(*slots))
    table, problems = decoded(disk)
    assert [entry.number for entry in table.entries] == numbers
    if problem:
        assert problem in "; ".join(problems)
    else:
        assert problems == ()
    assert all(offset + length <= SIZE for offset, length in disk.reads)


@pytest.mark.parametrize("with_data", [True, False])
def test_an_endless_chain_is_given_up(with_data: bool) -> None:
    disk = Disk(SIZE)
    disk.write(0, a_record(EXTENDED))
    data = slot(0x83, 1, 1) if with_data else bytes(16)
    for at in range(400):
        disk.write((2048 + 2 * at) * 512, a_record(data, slot(5, 2 * (at + 1), 2)))
    table, problems = decoded(disk)
    assert len(table.entries) == (256 if with_data else 0)
    assert "more than 256 boot records" in problems[0]
    assert len(disk.reads) < 300


@pytest.mark.parametrize(
    ("slots", "problem"),
    [
        ([slot(0x83, 0, 64)], "partition 1 covers sector 0"),
        ([slot(0x83, 131000, 100)], "partition 1 ends at sector 131100, the disk at 131072"),
        ([slot(0x83, 2048, 100), slot(0x83, 2100, 100)], "partition 2 overlaps partition 1"),
        ([slot(0x00, 2048, 100)], "partition 1 has the type 0"),
        ([slot(5, 2048, 100), slot(0xF, 4096, 100)], "more than one extended partition"),
    ],
)
def test_primaries_that_contradict_the_disk_are_problems(slots: list[bytes], problem: str) -> None:
    disk = Disk(SIZE)
    disk.write(0, a_record(*slots))
    disk.write(2048 * 512, a_record())
    assert problem in "; ".join(decoded(disk)[1])


# What can't be encoded.


@pytest.mark.parametrize(
    ("number", "change", "limit"),
    [
        (1, {"number": 2}, "numbered 1 to 4"),
        (1, {"number": 0}, "numbered 1 to 4"),
        (1, {"number": 3}, "numbered 1 to 4"),  # the extended partition's
        (7, {"number": 8}, "from 5 on without a gap"),
        (1, {"sectors": 0}, "has no sectors"),
        (1, {"first_lba": 0}, "covers sector 0"),
        (1, {"sectors": 12289}, "partition 2 overlaps partition 1"),
        (1, {"first_lba": 131072}, "the disk at 131072"),
        (1, {"type_id": 0}, "the type 0x00"),
        (1, {"type_id": 0x100}, "the type 0x100"),
        (1, {"type_id": 5}, "the type 0x05"),
        (1, {"type_id": 0xEE}, "the type 0xee"),
        (1, {"record_lba": 2}, "must not have a boot record"),
        (5, {"record_lba": None}, "must have a boot record"),
        (5, {"record_lba": 61440}, "does not lie behind its boot record"),
        (6, {"record_lba": 2048}, "not inside the extended partition"),
        (6, {"record_lba": 61441}, "boot record at sector 61441 overlaps partition 5"),
        (5, {"sectors": 20480}, "partition 6 overlaps partition 5|boot record at sector 71680 overlaps"),
        (7, {"sectors": 8193}, "partition 7 is not inside the extended partition"),
    ],
)
def test_what_an_mbr_can_not_express_is_refused(number: int, change: dict[str, int | bool | None], limit: str) -> None:
    table = a_table()
    entries = tuple(
        replace(entry, **change) if entry.number == number else entry  # type: ignore[arg-type]
        for entry in table.entries
    )
    with pytest.raises(TableLimit, match=limit) as raised:
        mbr.encode(replace(table, entries=entries), device=DEVICE)
    assert raised.value.device == DEVICE


def test_a_table_as_a_whole_may_not_fit() -> None:
    table = a_table()
    with pytest.raises(TableLimit, match="more than 32 bits"):
        mbr.encode(replace(table, signature=1 << 32), device=DEVICE)
    with pytest.raises(TableLimit, match="no extended one"):
        mbr.encode(replace(table, extended=None), device=DEVICE)
    many = [
        MbrEntry(number=5 + at, first_lba=2049 + 2 * at, sectors=1, type_id=0x83, record_lba=2048 + 2 * at)
        for at in range(256)
    ]
    with pytest.raises(TableLimit, match="more than 255"):
        mbr.encode(MbrTable.new(disk_size=SIZE, sector_size=512, signature=1, entries=many), device=DEVICE)
    most = MbrTable.new(disk_size=SIZE, sector_size=512, signature=1, entries=many[:255])
    assert decoded(a_disk(most)) == (most, ())


def test_a_fifth_primary_partition_is_refused() -> None:
    with pytest.raises(TableLimit, match="four primary"):
        mbr.encode(a_table(numbers=(1, 2, 3, 4, 5)), device=DEVICE)


def test_bytes_that_are_no_whole_sectors_are_refused() -> None:
    with pytest.raises(ValueError, match="4096"):
        MbrEntry.at(number=5, start=MIB, size=MIB, sector_size=4096, type_id=0x83, record=512)
