"""What the first bytes of a whole-disk image say about the disk that it was made for."""

from __future__ import annotations

import pytest

from libironic_disk.errors import GeometryMismatch, ImageRefused
from libironic_disk.pure.tables import gpt, mbr
from libironic_disk.pure.tables.bootrecord import RECORD_SIZE
from libironic_disk.pure.tables.geometry import HEAD_SIZE, check_geometry, check_is_disk, cut_off
from libironic_disk.pure.tables.gpt import GptTable
from libironic_disk.pure.tables.mbr import MbrEntry, MbrTable
from libironic_disk.pure.tables.model import FoundPartition, FoundTable, TableKind
from libironic_disk.units import GIB, KIB, MIB
from tests.unit.pure.tables.disks import DEVICE, Disk
from tests.unit.pure.tables.forging import a_record, slot
from tests.unit.pure.tables.test_reading import GUID

SIZE = 64 * MIB
SECTOR_SIZES = (512, 1024, 2048, 4096)


def head_of_gpt(sector_size: int) -> bytes:
    """The first bytes of a disk of 64 MiB with a GPT."""
    table = GptTable.new(disk_size=SIZE, sector_size=sector_size, disk_guid=GUID, entries=[])
    return Disk(SIZE, gpt.encode(table, device=DEVICE)).read(0, HEAD_SIZE)


def head_of_mbr(sector_size: int, *, end: int = SIZE) -> bytes:
    """The first bytes of a disk with one partition from its second MiB to ``end``."""
    entry = MbrEntry.at(number=1, start=MIB, size=end - MIB, sector_size=sector_size, type_id=0x83)
    table = MbrTable.new(disk_size=SIZE, sector_size=sector_size, signature=7, entries=[entry])
    return Disk(SIZE, mbr.encode(table, device=DEVICE)).read(0, HEAD_SIZE)


def check(head: bytes, *, sector_size: int, image_size: int | None = SIZE, disk_size: int = GIB) -> None:
    check_geometry(
        head, image="image", image_size=image_size, device=DEVICE, disk_size=disk_size, sector_size=sector_size
    )


@pytest.mark.parametrize("made_for", SECTOR_SIZES)
@pytest.mark.parametrize("sector_size", SECTOR_SIZES)
def test_a_gpt_says_for_which_sectors_it_was_made(made_for: int, sector_size: int) -> None:
    head = head_of_gpt(made_for)
    if made_for == sector_size:
        check(head, sector_size=sector_size)
        return
    with pytest.raises(GeometryMismatch) as refused:
        check(head, sector_size=sector_size)
    assert (refused.value.made_for, refused.value.sector_size) == (made_for, sector_size)
    assert (refused.value.image, refused.value.device) == ("image", DEVICE)


def test_an_image_with_a_gpt_for_each_of_two_sizes_fits_both() -> None:
    both = bytearray(head_of_gpt(512))
    both[4096:] = head_of_gpt(4096)[4096:]
    for sector_size in (512, 4096):
        check(bytes(both), sector_size=sector_size)
    with pytest.raises(GeometryMismatch):
        check(bytes(both), sector_size=2048)


def test_a_gpt_whose_first_header_is_gone_proves_nothing() -> None:
    head = head_of_gpt(512)[:RECORD_SIZE].ljust(HEAD_SIZE, b"\0")
    for sector_size in SECTOR_SIZES:
        check(head, sector_size=sector_size)


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_a_gpt_needs_a_disk_to_its_last_usable_sector(sector_size: int) -> None:
    table = GptTable.new(disk_size=SIZE, sector_size=sector_size, disk_guid=GUID, entries=[])
    enough = (table.last_usable + 1) * sector_size
    check(head_of_gpt(sector_size), sector_size=sector_size, disk_size=enough)
    with pytest.raises(ImageRefused, match="is for a disk of at least"):
        check(head_of_gpt(sector_size), sector_size=sector_size, disk_size=enough - sector_size)


def test_an_mbr_whose_partitions_leave_the_image_was_made_for_smaller_sectors() -> None:
    check(head_of_mbr(512), sector_size=512)
    with pytest.raises(GeometryMismatch) as refused:
        check(head_of_mbr(512), sector_size=4096)
    assert (refused.value.made_for, refused.value.sector_size) == (512, 4096)


def test_an_mbr_for_larger_sectors_proves_nothing_on_smaller_ones() -> None:
    # Its partitions lie within the image either way.
    check(head_of_mbr(4096), sector_size=4096)
    check(head_of_mbr(4096), sector_size=512)
    check(head_of_mbr(512, end=4 * MIB), sector_size=4096)


@pytest.mark.parametrize("image_size", [None, 32 * MIB])
def test_an_mbr_proves_nothing_of_an_image_that_is_cut_or_of_unknown_size(image_size: int | None) -> None:
    for sector_size in (512, 4096):
        check(head_of_mbr(512), sector_size=sector_size, image_size=image_size)


@pytest.mark.parametrize("image_size", [None, SIZE, 32 * MIB])
def test_an_mbr_needs_a_disk_to_the_end_of_its_last_partition(image_size: int | None) -> None:
    check(head_of_mbr(512), sector_size=512, image_size=image_size, disk_size=SIZE)
    with pytest.raises(ImageRefused, match="at least 64 MiB, /dev/test has 63 MiB"):
        check(head_of_mbr(512), sector_size=512, image_size=image_size, disk_size=SIZE - MIB)


def test_an_empty_mbr_fits_everywhere() -> None:
    for sector_size in SECTOR_SIZES:
        check(a_record().ljust(HEAD_SIZE, b"\0"), sector_size=sector_size, disk_size=MIB)


def test_what_is_no_table_is_not_judged() -> None:
    endless = slot(0x83, 1, 0xFFFF_FFFF)
    boot_code = bytearray(a_record(endless))
    boot_code[446] = 0x17
    fat = bytearray(a_record(endless))
    fat[11:22] = bytes([0, 2, 4, 1, 0, 2, 0, 2, 0, 0, 0xF8])
    for head in (b"", b"\x55\xaa", bytes(HEAD_SIZE), bytes(boot_code), bytes(fat), a_record(endless)[:-1]):
        check(head, sector_size=512, disk_size=MIB)
    with pytest.raises(ImageRefused):
        check(a_record(endless), sector_size=512, disk_size=MIB)


def test_partitions_that_go_on_where_the_image_has_ended_are_told() -> None:
    partitions = tuple(
        FoundPartition(number=number, start=number * MIB, size=MIB, type_id="0x83", uuid="") for number in (1, 2, 3)
    )
    table = FoundTable(kind=TableKind.MBR, disk_id="", partitions=partitions)
    assert list(cut_off(table, 4 * MIB)) == []
    assert list(cut_off(table, 3 * MIB - 256 * KIB)) == [
        "it ends 256 KiB before its partition 2 does",
        "it ends 1280 KiB before its partition 3 does",
    ]
    assert list(cut_off(None, 0)) == []


@pytest.mark.parametrize(
    "head",
    [
        bytes(510) + b"\x55\xaa",
        bytes(512) + b"EFI PART",
        bytes(4096) + b"EFI PART",
        bytes(16 * 2048) + b"\x01CD001",
    ],
)
def test_what_may_be_started_from_is_a_disk(head: bytes) -> None:
    check_is_disk(head, image="test")
    check_is_disk(head.ljust(HEAD_SIZE, b"\0"), image="test")


@pytest.mark.parametrize("head", [b"", bytes(HEAD_SIZE), b"<html>", b"\x55\xaa" + bytes(600)])
def test_anything_else_is_none(head: bytes) -> None:
    with pytest.raises(ImageRefused, match="nothing starts from it"):
        check_is_disk(head, image="test")
