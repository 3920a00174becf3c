from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from libironic_disk.pure.tables import gpt, mbr
from libironic_disk.pure.tables.gpt import GptEntry, GptTable
from libironic_disk.pure.tables.mbr import MbrEntry, MbrTable
from libironic_disk.pure.tables.model import Extent, FoundPartition, FoundTable, TableKind
from libironic_disk.pure.tables.reading import read_table, regions
from libironic_disk.units import MIB
from tests.unit.pure.tables.disks import DEVICE, Disk, disk_of
from tests.unit.pure.tables.forging import a_record, slot
from tests.unit.pure.tables.oracles import kind_by_blkid, run

SIZE = 64 * MIB
LINUX = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
GUID = UUID("11111111-2222-4333-8444-555555555555")
BOOT_IMG = Path("/usr/lib/grub/i386-pc/boot.img")

GPT_ENTRY = GptEntry(number=3, first_lba=2048, last_lba=4095, type_guid=LINUX, guid=GUID, name="root", attributes=4)
GPT = GptTable.new(disk_size=SIZE, sector_size=512, disk_guid=UUID(int=7), entries=[GPT_ENTRY])
MBR = MbrTable.new(
    disk_size=SIZE,
    sector_size=512,
    signature=0xBEEF,
    entries=[
        MbrEntry(number=1, first_lba=2048, sectors=2048, type_id=0x0C, bootable=True),
        MbrEntry(number=5, first_lba=8192, sectors=2048, type_id=0x83, record_lba=6144),
        MbrEntry(number=6, first_lba=16384, sectors=2048, type_id=0x83, record_lba=14336),
    ],
)


def a_gpt(table: GptTable = GPT) -> Disk:
    return Disk(SIZE, gpt.encode(table, device=DEVICE))


def an_mbr(table: MbrTable = MBR) -> Disk:
    return Disk(SIZE, mbr.encode(table, device=DEVICE))


def found_on(disk: Disk, sector_size: int = 512) -> FoundTable | None:
    return read_table(disk.read, device=DEVICE, disk_size=disk.size, sector_size=sector_size)


def the_table(disk: Disk, sector_size: int = 512) -> FoundTable:
    found = found_on(disk, sector_size)
    assert found is not None
    return found


def test_a_gpt_in_bytes() -> None:
    found = the_table(a_gpt())
    assert found == FoundTable(
        kind=TableKind.GPT,
        disk_id="00000000-0000-0000-0000-000000000007",
        partitions=(
            FoundPartition(
                number=3,
                start=MIB,
                size=MIB,
                type_id=str(LINUX),
                uuid=str(GUID),
                name="root",
                attributes=4,
            ),
        ),
        regions=((0, 34 * 512), (SIZE - 33 * 512, 33 * 512)),
    )


def test_an_mbr_in_bytes() -> None:
    found = the_table(an_mbr())
    assert (found.kind, found.disk_id, found.problems) == (TableKind.MBR, "0x0000beef", ())
    first, five, six = found.partitions
    assert first == FoundPartition(number=1, start=MIB, size=MIB, type_id="0x0c", uuid="0000beef-01", bootable=True)
    assert (five.uuid, five.start, six.uuid, six.start) == ("0000beef-05", 4 * MIB, "0000beef-06", 8 * MIB)


# Which kind of table, if any.


@pytest.mark.parametrize(
    ("argv", "kind"),
    [
        (["true"], ""),
        (["mkfs.vfat", "--mbr=n"], ""),
        (["mkfs.vfat", "--mbr=y"], ""),
        (["mkfs.vfat", "-F32", "-S4096"], ""),
        (["mkfs.ext4", "-q"], ""),
        (["mkswap"], ""),
        (["sgdisk", "--clear"], "gpt"),
        (["sgdisk", "--new=1:0:0", "--hybrid=1"], "gpt"),
        (["sgdisk", "--new=1:0:0", "--gpttombr=1"], "dos"),
        (["sfdisk", "--label=dos"], "dos"),
        (["dd", "conv=notrunc", "status=none", f"if={BOOT_IMG}"], ""),
    ],
)
def test_blkid_agrees_about_the_kind(tmp_path: Path, argv: list[str], kind: str) -> None:
    path = Disk(SIZE).save(tmp_path / "disk")
    match argv[0]:
        case "sfdisk":
            run("sfdisk", path, stdin="label: dos\n")
        case "dd":
            run(*argv, f"of={path}")
        case _:
            run(*argv, path)
    assert kind_by_blkid(path) == kind
    found = found_on(disk_of(Path(path)))
    assert {None: "", TableKind.GPT: "gpt", TableKind.MBR: "dos"}[found.kind if found else None] == kind


@pytest.mark.parametrize("name", [b"NTFS    ", b"EXFAT   "])
def test_boot_sectors_of_other_file_systems_are_no_tables(name: bytes) -> None:
    disk = Disk(SIZE, [Extent(0, b"\xeb\x52\x90" + name), Extent(440, b"\x01"), Extent(510, b"\x55\xaa")])
    assert found_on(disk) is None
    disk.write(3, bytes(8))
    assert the_table(disk).kind is TableKind.MBR


def test_a_file_system_header_above_real_partitions_is_an_mbr() -> None:
    disk = an_mbr()
    disk.write(3, b"NTFS    ")
    assert len(the_table(disk).partitions) == 3


def test_a_hybrid_mbr_is_a_problem_of_the_gpt(tmp_path: Path) -> None:
    path = a_gpt().save(tmp_path / "disk")
    run("sgdisk", "--hybrid=3", path)
    found = the_table(disk_of(Path(path)))
    assert found.partitions == the_table(a_gpt()).partitions
    assert "hybrid" in found.problems[0]


def test_an_mbr_above_an_old_gpt_is_an_mbr_with_a_problem() -> None:
    disk = a_gpt()
    disk.extents += mbr.encode(MBR, device=DEVICE)
    found = the_table(disk)
    assert (found.kind, found.partitions) == (TableKind.MBR, the_table(an_mbr()).partitions)
    assert found.problems == ("sector 1 holds the remains of a GPT",)


@pytest.mark.parametrize("wiped", [512, MIB])
def test_a_gpt_that_only_a_person_would_see_is_listed(wiped: int) -> None:
    disk = a_gpt()
    disk.write(0, bytes(wiped))
    found = the_table(disk)
    assert found.partitions == the_table(a_gpt()).partitions
    assert "there is no protective MBR" in found.problems[0]


@pytest.mark.parametrize("protective", [True, False])
def test_a_gpt_with_both_copies_damaged_has_no_partitions(protective: bool) -> None:
    disk = a_gpt()
    disk.write(512 + 20, b"\1")
    disk.write(SIZE - 512 + 20, b"\1")
    if not protective:
        disk.write(0, bytes(512))
    found = the_table(disk)
    assert (found.kind, found.disk_id, found.partitions) == (TableKind.GPT, "", ())
    assert len(found.problems) == 2


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1024, 1535])
@pytest.mark.parametrize("sector_size", [512, 4096])
def test_a_disk_of_next_to_nothing_has_at_most_a_damaged_table(size: int, sector_size: int) -> None:
    assert found_on(Disk(size), sector_size) is None
    found = found_on(Disk(size, a_gpt().extents), sector_size)
    if size < 512:
        assert found is None
    else:
        assert found is not None
        assert (found.kind, found.partitions) == (TableKind.GPT, ())
        assert "the primary copy of the GPT" in found.problems[0]


def test_partitions_are_cut_where_the_disk_ends_as_by_the_kernel() -> None:
    disk = an_mbr()
    disk.size = 16384 * 512 + 1024
    found = the_table(disk)
    assert [(one.number, one.end) for one in found.partitions] == [
        (1, 2 * MIB),
        (5, 5 * MIB),
        (6, 16386 * 512),
    ]
    disk.size = 8192 * 512
    assert [one.number for one in the_table(disk).partitions] == [1]
    assert "the disk at 8192" in "; ".join(the_table(disk).problems)


def test_many_problems_are_cut_short() -> None:
    disk = Disk(SIZE, [Extent(0, a_record(slot(5, 2048, 100000)))])
    for at in range(60):
        data = slot(0x83, 1, 1), slot(0x83, 2, 1)
        disk.write((2048 + 8 * at) * 512, a_record(*data, slot(5, 8 * (at + 1), 8) if at < 59 else b""))
    found = the_table(disk)
    assert len(found.partitions) == 120
    assert len(found.problems) == 21
    assert found.problems[-1] == "and 40 more"


# Where tables live.


def digest(disk: Disk, sector_size: int = 512) -> str:
    """A fingerprint as observing takes it."""
    places = regions(found_on(disk, sector_size), disk.size, sector_size)
    return hashlib.sha256(b"".join(disk.read(offset, length) for offset, length in places)).hexdigest()


def with_six(six: MbrEntry) -> MbrTable:
    return replace(MBR, entries=(*MBR.entries[:2], six))


SIX = MBR.entries[2]

CHANGES = {
    "GPT renamed": (a_gpt(), a_gpt(replace(GPT, entries=(replace(GPT_ENTRY, name="other"),)))),
    "GPT grown": (a_gpt(), a_gpt(replace(GPT, entries=(replace(GPT_ENTRY, last_lba=4096),)))),
    "GPT added to": (
        a_gpt(),
        a_gpt(
            replace(
                GPT,
                entries=(
                    GPT_ENTRY,
                    replace(GPT_ENTRY, number=128, first_lba=5000, last_lba=5001, guid=UUID(int=9)),
                ),
            )
        ),
    ),
    "GPT to MBR": (a_gpt(), an_mbr()),
    "nothing to GPT": (Disk(SIZE), a_gpt()),
    "nothing to the backup of a GPT": (Disk(SIZE), Disk(SIZE, a_gpt().extents[:1])),
    "nothing to the primary copy of a GPT": (Disk(SIZE), Disk(SIZE, a_gpt().extents[1:2])),
    "nothing to MBR": (Disk(SIZE), an_mbr()),
    "MBR signature": (an_mbr(), an_mbr(replace(MBR, signature=1))),
    "MBR logical type": (an_mbr(), an_mbr(with_six(replace(SIX, type_id=0x82)))),
    "MBR logical size": (an_mbr(), an_mbr(with_six(replace(SIX, sectors=2047)))),
    "MBR logical flag": (an_mbr(), an_mbr(with_six(replace(SIX, bootable=True)))),
    "MBR chain": (an_mbr(), an_mbr(replace(MBR, entries=MBR.entries[:2]))),
    "MBR over GPT": (an_mbr(), Disk(SIZE, [*an_mbr().extents, a_gpt().extents[1]])),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_a_table_changes_the_fingerprint(change: str) -> None:
    before, after = CHANGES[change]
    assert found_on(before) != found_on(after)
    assert digest(before) != digest(after)
    # The same places, read again: whoever kept them notices too.
    places = regions(found_on(before), SIZE, 512)
    assert [before.read(*place) for place in places] != [after.read(*place) for place in places]


def test_the_backup_copy_is_part_of_the_fingerprint() -> None:
    disk = a_gpt()
    before = digest(disk)
    disk.write(SIZE - 33 * 512 + 300, b"x")
    assert digest(disk) != before


@pytest.mark.parametrize("disk", [a_gpt(), an_mbr(), Disk(SIZE)], ids=["gpt", "mbr", "blank"])
def test_what_partitions_hold_is_no_part_of_the_fingerprint(disk: Disk) -> None:
    changed = Disk(SIZE, disk.extents)
    changed.write(MIB, b"x" * MIB)
    changed.write(SIZE - 2 * MIB, b"x")
    assert digest(changed) == digest(disk)


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_regions_are_sorted_apart_and_on_the_disk(sector_size: int) -> None:
    for disk in (a_gpt(), an_mbr(), Disk(SIZE), Disk(SIZE + 100), Disk(700), Disk(0)):
        places = regions(found_on(disk, sector_size), disk.size, sector_size)
        ends = [offset + length for offset, length in places]
        assert all(length > 0 for _, length in places)
        assert all(end < offset for end, (offset, _) in zip(ends, places[1:], strict=False))
        assert all(0 <= offset < end <= disk.size for (offset, _), end in zip(places, ends, strict=True))


def test_the_regions_of_an_mbr_are_its_records() -> None:
    assert regions(the_table(an_mbr()), SIZE, 512) == (
        (0, 1024),
        (6144 * 512, 512),
        (14336 * 512, 512),
    )
