from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from libironic_disk.errors import TableInvalid, TableLimit
from libironic_disk.pure.tables import gpt
from libironic_disk.pure.tables.gpt import GptEntry, GptTable
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.pure.tables.reading import read_table, usable
from libironic_disk.units import KIB, MIB, TIB
from tests.unit.pure.tables.disks import DEVICE, Disk, disk_of
from tests.unit.pure.tables.forging import forge_entry, forge_header
from tests.unit.pure.tables.oracles import (
    ranges_by_fdisk,
    ranges_by_parted,
    run,
    seen_by_sfdisk,
    verify_by_fdisk,
    verify_by_sfdisk,
    verify_by_sgdisk,
)

SIZE = 64 * MIB
LINUX = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
DISK_GUID = UUID("0a1b2c3d-4e5f-4a6b-8c7d-8e9fa0b1c2d3")


def a_guid(number: int) -> UUID:
    return UUID(int=0x1234_5678_0000_4000_8000_0000_0000_0000 + number)


def a_table(sector_size: int = 512, size: int = SIZE, numbers: tuple[int, ...] = (1, 2, 5)) -> GptTable:
    names = {1: "efi-part", 2: "größe😀", 5: "x" * 36}
    attributes = {1: 1, 2: 1 << 2 | 1 << 60 | 1 << 63}
    entries = [
        GptEntry.at(
            number=number,
            start=number * 8 * MIB,
            size=3 * MIB,
            sector_size=sector_size,
            type_guid=LINUX,
            guid=a_guid(number),
            name=names.get(number, ""),
            attributes=attributes.get(number, 0),
        )
        for number in numbers
    ]
    return GptTable.new(disk_size=size, sector_size=sector_size, disk_guid=DISK_GUID, entries=entries)


def a_disk(table: GptTable, size: int = SIZE) -> Disk:
    return Disk(size, gpt.encode(table, device=DEVICE))


def decoded(disk: Disk, sector_size: int = 512) -> tuple[GptTable, tuple[str, ...]]:
    return gpt.decode(disk.read, device=DEVICE, disk_size=disk.size, sector_size=sector_size)


def problems_of(disk: Disk, sector_size: int = 512) -> str:
    return "; ".join(decoded(disk, sector_size)[1])


# Tables of ours, seen by others.


def test_other_programs_see_what_was_encoded(tmp_path: Path) -> None:
    table = a_table()
    path = a_disk(table).save(tmp_path / "disk")
    verify_by_sfdisk(path)
    verify_by_sgdisk(path)
    disk_id, partitions = seen_by_sfdisk(path)
    assert disk_id == str(DISK_GUID)
    assert [(one.number, one.start, one.size) for one in partitions] == [
        (number, number * 8 * MIB, 3 * MIB) for number in (1, 2, 5)
    ]
    assert [one.uuid for one in partitions] == [str(entry.guid) for entry in table.entries]
    assert [one.name for one in partitions] == [entry.name for entry in table.entries]
    assert [one.attributes for one in partitions] == [entry.attributes for entry in table.entries]
    assert ranges_by_parted(path) == {one.number: (one.start, one.size) for one in partitions}


@pytest.mark.parametrize("sector_size", [512, 1024, 2048, 4096])
def test_fdisk_verifies_every_sector_size_it_knows(tmp_path: Path, sector_size: int) -> None:
    path = a_disk(a_table(sector_size)).save(tmp_path / "disk")
    verify_by_fdisk(path, sector_size)
    assert ranges_by_fdisk(path, sector_size) == [(number * 8 * MIB, 3 * MIB) for number in (1, 2, 5)]


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_a_partition_may_fill_the_usable_range_and_no_more(tmp_path: Path, sector_size: int) -> None:
    first, end = usable(TableKind.GPT, SIZE, sector_size)
    empty = a_table(sector_size, numbers=())
    whole = GptEntry.at(
        number=1, start=first, size=end - first, sector_size=sector_size, type_guid=LINUX, guid=a_guid(1)
    )
    path = a_disk(replace(empty, entries=(whole,))).save(tmp_path / "disk")
    verify_by_fdisk(path, sector_size)
    assert ranges_by_fdisk(path, sector_size) == [(first, end - first)]
    for wrong in (
        replace(whole, first_lba=whole.first_lba - 1),
        replace(whole, last_lba=whole.last_lba + 1),
    ):
        with pytest.raises(TableLimit, match="usable are"):
            gpt.encode(replace(empty, entries=(wrong,)), device=DEVICE)


@pytest.mark.parametrize(
    ("sector_size", "first"), [(512, 34), (1024, 18), (2048, 10), (4096, 6), (16384, 3), (65536, 3)]
)
def test_sixteen_kib_are_kept_for_entries(sector_size: int, first: int) -> None:
    table = GptTable.new(disk_size=SIZE, sector_size=sector_size, disk_guid=DISK_GUID)
    assert (table.first_usable, table.last_usable) == (first, SIZE // sector_size - first)
    assert usable(TableKind.GPT, SIZE, sector_size) == (first * sector_size, SIZE - (first - 1) * sector_size)


def test_the_protective_mbr_is_capped_at_32_bits() -> None:
    size = 3 * TIB
    extents = gpt.encode(a_table(size=size), device=DEVICE)
    assert extents[-1].offset == 0
    assert extents[-1].data[446:462] == bytes.fromhex("00000200eeffffff01000000ffffffff")
    assert decoded(Disk(size, extents))[1] == ()


def test_boot_code_is_kept_up_to_440_bytes() -> None:
    code = bytes(range(256)) + bytes(range(184))
    sector = gpt.encode(a_table(), device=DEVICE, boot_code=code)[-1].data
    assert sector[:440] == code
    assert sector[440:] == gpt.encode(a_table(), device=DEVICE)[-1].data[440:]
    with pytest.raises(ValueError, match="441"):
        gpt.encode(a_table(), device=DEVICE, boot_code=bytes(441))


# Tables of others, seen by us.

SFDISK_SCRIPT = f"""
label: gpt
label-id: {DISK_GUID}
start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, name="bios"
start=4096, size=8192, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name="ESP ä", attrs="RequiredPartition GUID:60,63"
start=16384, size=4096, type=linux, uuid={a_guid(7)}
"""


@pytest.mark.parametrize("maker", ["sfdisk", "sgdisk", "parted"])
def test_tables_of_others_decode_as_sfdisk_lists_them(tmp_path: Path, maker: str) -> None:
    path = tmp_path / "disk"
    Disk(SIZE).save(path)
    match maker:
        case "sfdisk":
            run("sfdisk", str(path), stdin=SFDISK_SCRIPT)
        case "sgdisk":
            new = ("--new=1:2048:+1M", "--new=3:0:+8M", "--new=128:0:0")
            run("sgdisk", *new, "--change-name=3:drei", "--attributes=3:set:59", "--typecode=1:ef02", str(path))
        case _:
            make = ("mklabel", "gpt", "mkpart", "one", "1MiB", "9MiB", "mkpart", "two", "9MiB", "100%")
            run("parted", "--script", str(path), *make)
    found = read_table(disk_of(path).read, device=DEVICE, disk_size=SIZE, sector_size=512)
    assert found is not None
    assert (found.disk_id, found.partitions) == seen_by_sfdisk(path)
    assert found.problems == ()
    assert found.kind is TableKind.GPT
    assert len(found.partitions) >= 2


def test_a_table_of_sgdisk_encodes_to_its_own_bytes(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    Disk(SIZE).save(path)
    run("sgdisk", "--new=1:2048:+1M", "--new=7:0:+8M", "--change-name=7:sieben", str(path))
    disk = disk_of(path)
    backup, primary, _ = gpt.encode(decoded(disk)[0], device=DEVICE)
    assert disk.read(backup.offset, len(backup.data)) == backup.data
    assert disk.read(primary.offset, len(primary.data)) == primary.data


# Damage: what is found, and what is said about it.


@pytest.mark.parametrize("offset", [512 + 56, 1024 + 32], ids=["header", "entries"])
def test_the_backup_serves_where_the_primary_copy_is_damaged(tmp_path: Path, offset: int) -> None:
    disk = a_disk(a_table())
    disk.write(offset, b"\xff\xff")
    table, problems = decoded(disk)
    assert table == a_table()
    assert "the primary copy" in problems[0]
    assert "wrong checksum" in problems[0]
    found = read_table(disk.read, device=DEVICE, disk_size=SIZE, sector_size=512)
    assert found is not None
    assert (found.disk_id, found.partitions) == seen_by_sfdisk(disk.save(tmp_path / "disk"))


def test_a_missing_backup_is_a_problem() -> None:
    disk = a_disk(a_table())
    disk.write(SIZE - 512, bytes(512))
    assert decoded(disk)[0] == a_table()
    assert problems_of(disk) == f"the backup copy of the GPT has no header at sector {SIZE // 512 - 1}"


def test_a_stale_backup_is_a_problem() -> None:
    disk = a_disk(a_table(numbers=(1,)))
    disk.extents += gpt.encode(a_table(), device=DEVICE)[1:]
    assert decoded(disk)[0] == a_table()
    assert problems_of(disk) == "the backup copy of the GPT is not the same table as the primary one"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"first_usable": 40}, "the backup copy of the GPT is not the same table as the primary one"),
        ({"disk_guid": bytes(16)}, "the backup copy of the GPT is not the same table as the primary one"),
        ({"alternate_lba": 2}, "the backup copy of the GPT names sector 2 as the primary one's"),
    ],
)
def test_headers_that_disagree_are_a_problem(values: dict[str, int | bytes], problem: str) -> None:
    disk = a_disk(a_table())
    forge_header(disk, SIZE // 512 - 1, 512, **values)
    assert decoded(disk) == (a_table(), (problem,))


def test_a_grown_disk_has_its_backup_in_the_middle() -> None:
    disk = a_disk(a_table())
    disk.size = 2 * SIZE
    table, _ = decoded(disk)
    assert table.entries == a_table().entries
    assert "the backup copy of the GPT is at sector 131071, the last one of the disk is 262143" in problems_of(disk)
    assert "the protective MBR covers 131071 sectors, not 262143" in problems_of(disk)


def test_a_truncated_disk_has_no_table() -> None:
    disk = a_disk(a_table())
    disk.size = SIZE // 2
    with pytest.raises(TableInvalid, match="the disk has 65536"):
        decoded(disk)


def test_neither_copy_valid_names_both() -> None:
    disk = a_disk(a_table())
    disk.write(512 + 30, b"\xff")
    disk.write(SIZE - 512 + 30, b"\xff")
    with pytest.raises(TableInvalid) as raised:
        decoded(disk)
    assert [problem.split(" of ")[0] for problem in raised.value.problems] == ["the primary copy", "the backup copy"]
    assert raised.value.device == DEVICE


@pytest.mark.parametrize(("made_for", "has"), [(512, 4096), (4096, 512)])
def test_a_table_for_another_sector_size_is_named(made_for: int, has: int) -> None:
    with pytest.raises(TableInvalid, match=f"made for sectors of {made_for} bytes, these have {has}"):
        decoded(a_disk(a_table(made_for)), has)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (bytes(66), "there is no protective MBR"),
        (bytes.fromhex("00feffff83feffff0008000000080000"), "hybrid"),
        (None, "begins at sector 2, not 1"),
    ],
)
def test_a_wrong_protective_mbr_is_a_problem(record: bytes | None, problem: str) -> None:
    disk = a_disk(a_table())
    match record:
        case None:
            disk.write(446 + 8, b"\x02")
        case _ if len(record) == 66:
            disk.write(446, record)
        case _:
            disk.write(462, record)
    assert decoded(disk)[0] == a_table()
    assert problem in problems_of(disk)
    found = read_table(disk.read, device=DEVICE, disk_size=SIZE, sector_size=512)
    assert found is not None
    assert (found.kind, len(found.partitions)) == (TableKind.GPT, 3)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"entry_size": 64}, "entries of 64 bytes"),
        ({"entry_size": 384}, "entries of 384 bytes"),
        ({"entry_size": 1 << 31}, "128 entries of 2147483648 bytes"),
        ({"slots": 0xFFFFFFFF}, "4294967295 entries"),
        ({"slots": 0}, "0 entries"),
        ({"my_lba": 7}, "for sector 7"),
        ({"entries_lba": 0, "slots": 1, "entries_crc": zlib.crc32(bytes(128))}, "with its entries at sector 0"),
        ({"entries_lba": (1 << 64) - 1}, "its entries at sector 18446744073709551615"),
        ({"entries_lba": 131060}, "its entries at sector 131060"),
        ({"last_usable": 131072}, "the disk has 131072"),
        ({"first_usable": 1 << 63}, "usable sectors 9223372036854775808"),
        ({"header_size": 91}, "header at sector 1 of 91 bytes"),
        ({"header_size": 513}, "header at sector 1 of 513 bytes"),
    ],
)
def test_hostile_header_fields_disqualify_a_copy(values: dict[str, int], problem: str) -> None:
    disk = a_disk(a_table())
    forge_header(disk, 1, **values)
    assert decoded(disk)[0] == a_table()
    assert problem in problems_of(disk)
    assert sum(length for _, length in disk.reads) < MIB


def test_a_backup_said_to_be_behind_the_disk_is_not_read() -> None:
    disk = a_disk(a_table())
    forge_header(disk, 1, alternate_lba=(1 << 64) - 1)
    assert "would be at sector 18446744073709551615" in problems_of(disk)
    assert all(offset + length <= SIZE for offset, length in disk.reads)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"revision": 0x00020000}, "the revision 0x00020000"),
        ({"first_usable": 20}, "the usable sectors 20 to 131038 reach into the GPT"),
        ({"last_usable": 131039}, "the usable sectors 34 to 131039 reach into the GPT"),
        ({"alternate_lba": 1}, "the backup copy of the GPT is at sector 1"),
    ],
)
def test_oddities_of_a_valid_header_are_listed(values: dict[str, int], problem: str) -> None:
    disk = a_disk(a_table())
    forge_header(disk, 1, **values)
    assert decoded(disk)[0].entries == a_table().entries
    assert problem in problems_of(disk)


def test_entries_elsewhere_than_in_sector_2_are_read_and_listed() -> None:
    disk = a_disk(a_table())
    disk.write(100 * 512, disk.read(2 * 512, 16 * KIB))
    forge_header(disk, 1, entries_lba=100)
    assert decoded(disk)[0] == a_table()
    assert "the primary copy of the GPT has its entries at sector 100, not 2" in problems_of(disk)


def test_larger_entries_are_read_and_listed() -> None:
    disk = a_disk(a_table(numbers=(1, 2)))
    entries = b"".join(disk.read(1024 + at * 128, 128).ljust(256, b"\0") for at in range(64))
    for lba, entries_lba in ((1, 2), (131071, 131039)):
        disk.write(entries_lba * 512, entries)
        forge_header(disk, lba, entry_size=256, slots=64, entries_crc=zlib.crc32(entries))
    assert decoded(disk)[0].entries == a_table(numbers=(1, 2)).entries
    assert problems_of(disk) == "the GPT has entries of 256 bytes, Linux reads only those of 128"


@pytest.mark.parametrize(
    ("at", "data", "problem"),
    [
        (32, struct.pack("<QQ", 16385, 16386), "partition 2 overlaps partition 1"),
        (32, struct.pack("<QQ", 20, 40), "partition 2 covers the sectors 20 to 40, usable are 34 to 131038"),
        (32, struct.pack("<QQ", 0, 40), "partition 2 covers the sectors 0 to 40"),
        (16, a_guid(1).bytes_le, f"2 partitions have the GUID {a_guid(1)}"),
        (56, b"\x00\xd8", "the name of partition 2 is not valid UTF-16"),
        (56, b"\x00\xd8" * 36, "the name of partition 2 is not valid UTF-16"),
    ],
)
def test_entries_that_contradict_the_table_are_problems(at: int, data: bytes, problem: str) -> None:
    disk = a_disk(a_table(numbers=(1, 2)))
    forge_entry(disk, 2, at, data)
    table, _ = decoded(disk)
    assert problem in problems_of(disk)
    assert [entry.number for entry in table.entries] == [1, 2]


@pytest.mark.parametrize("ends", [(4096, 4095), (4096, 131072), ((1 << 64) - 1, (1 << 64) - 1)])
def test_entries_outside_the_disk_are_left_out(ends: tuple[int, int]) -> None:
    disk = a_disk(a_table(numbers=(1, 2)))
    forge_entry(disk, 2, 32, struct.pack("<QQ", *ends))
    assert [entry.number for entry in decoded(disk)[0].entries] == [1]
    assert f"partition 2 would cover the sectors {ends[0]} to {ends[1]}" in problems_of(disk)


def test_a_name_may_fill_its_field_and_garbage_behind_it_does_not_count() -> None:
    disk = a_disk(a_table())
    forge_entry(disk, 1, 56, "kurz\0".encode("utf-16-le") + b"\x00\xd8" * 8)
    table, problems = decoded(disk)
    assert [entry.name for entry in table.entries] == ["kurz", "größe😀", "x" * 36]
    assert problems == ()


# What can't be encoded.


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        ({"name": "x" * 37}, "36 code units"),
        ({"name": "😀" * 18 + "x"}, "36 code units"),
        ({"name": "a\0b"}, "without NUL"),
        ({"name": "\ud800"}, "UTF-16"),
        ({"number": 0}, "no entry for partition 0"),
        ({"number": 129}, "no entry for partition 129"),
        ({"number": 2}, "2 partitions have the number 2"),
        ({"guid": a_guid(2)}, "2 partitions have the GUID"),
        ({"guid": UUID(int=0)}, "other than zero"),
        ({"type_guid": UUID(int=0)}, "other than zero"),
        ({"attributes": 1 << 64}, "more than 64 bits"),
        ({"attributes": -1}, "more than 64 bits"),
        ({"last_lba": 16383}, "has no sectors"),
        ({"last_lba": 40000}, "partition 2 overlaps partition 1"),
        ({"last_lba": 1 << 64}, "usable are"),
        ({"first_lba": -1}, "usable are"),
    ],
)
def test_what_a_gpt_can_not_express_is_refused(change: dict[str, int | str | UUID], limit: str) -> None:
    table = a_table(numbers=(1, 2))
    first, second = table.entries
    wrong = replace(first, **change)  # type: ignore[arg-type]
    with pytest.raises(TableLimit, match=limit) as raised:
        gpt.encode(replace(table, entries=(wrong, second)), device=DEVICE)
    assert raised.value.device == DEVICE


@pytest.mark.parametrize(("size", "slots"), [(67 * 512, 128), (0, 128), (SIZE, 0), (SIZE, 8193), (SIZE, -1)])
def test_a_disk_without_room_for_the_table_is_refused(size: int, slots: int) -> None:
    table = GptTable.new(disk_size=size, sector_size=512, disk_guid=DISK_GUID, entry_slots=slots)
    with pytest.raises(TableLimit):
        gpt.encode(table, device=DEVICE)


def test_the_smallest_disk_has_one_usable_sector() -> None:
    size = 68 * 512
    assert usable(TableKind.GPT, size, 512) == (34 * 512, 35 * 512)
    table = GptTable.new(disk_size=size, sector_size=512, disk_guid=DISK_GUID)
    assert decoded(a_disk(table, size)) == (table, ())


def test_bytes_that_are_no_whole_sectors_are_refused() -> None:
    with pytest.raises(ValueError, match="4096"):
        GptEntry.at(number=1, start=MIB, size=512, sector_size=4096, type_guid=LINUX, guid=a_guid(1))
