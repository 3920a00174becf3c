"""The codecs of pure/tables against what sfdisk, sgdisk and libparted do on disks with real sector sizes."""

from __future__ import annotations

import os
from uuid import UUID

import pytest

from libironic_disk.pure.tables import gpt, mbr
from libironic_disk.pure.tables.gpt import GptEntry, GptTable
from libironic_disk.pure.tables.mbr import MbrEntry, MbrTable
from libironic_disk.pure.tables.model import Extent, FoundTable
from libironic_disk.pure.tables.reading import read_table
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support.disks import LoopDisk
from tests.unit.pure.tables.disks import DEVICE
from tests.unit.pure.tables.oracles import (
    partuuids_by_libblkid,
    ranges_by_parted,
    run,
    run_parted,
    seen_by_sfdisk,
    verify_by_sfdisk,
    verify_by_sgdisk,
)

pytestmark = pytest.mark.loopdevice

SIZE = 64 * MIB
LINUX = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


def write(disk: LoopDisk, extents: tuple[Extent, ...]) -> None:
    fd = os.open(disk.node, os.O_WRONLY)
    try:
        for offset, data in extents:
            assert os.pwrite(fd, data, offset) == len(data)
        os.fsync(fd)
    finally:
        os.close(fd)


def read_back(disk: LoopDisk) -> FoundTable:
    fd = os.open(disk.node, os.O_RDONLY)
    try:
        found = read_table(
            lambda offset, length: os.pread(fd, length, offset),
            device=disk.node,
            disk_size=SIZE,
            sector_size=disk.sector_size,
        )
    finally:
        os.close(fd)
    assert found is not None
    return found


def assert_all_agree(disk: LoopDisk, numbers: set[int]) -> None:
    found = read_back(disk)
    assert found.problems == ()
    assert {one.number for one in found.partitions} == numbers
    assert (found.disk_id, found.partitions) == seen_by_sfdisk(disk.node)
    assert {one.number: (one.start, one.size) for one in found.partitions} == ranges_by_parted(disk.node)
    seen = partuuids_by_libblkid(disk.node, disk.sector_size)
    assert {one.number: (one.start, one.size, one.uuid) for one in found.partitions}.items() <= seen.items()
    verify_by_sfdisk(disk.node)


def test_a_gpt_of_ours_is_theirs_too(bench: Bench, sector_size: int) -> None:
    disk = bench.disk(SIZE, sector_size)
    entries = [
        GptEntry.at(
            number=number,
            start=number * 4 * MIB,
            size=3 * MIB,
            sector_size=sector_size,
            type_guid=LINUX,
            guid=UUID(int=number),
            name=f"größe{number}😀",
            attributes=1 << 63 | number & 1,
        )
        for number in (1, 2, 9)
    ]
    table = GptTable.new(disk_size=SIZE, sector_size=sector_size, disk_guid=UUID(int=99), entries=entries)
    write(disk, gpt.encode(table, device=DEVICE))
    assert_all_agree(disk, {1, 2, 9})
    verify_by_sgdisk(disk.node)


def test_an_mbr_of_ours_is_theirs_too(bench: Bench, sector_size: int) -> None:
    disk = bench.disk(SIZE, sector_size)
    entries = [
        MbrEntry.at(
            number=number,
            start=number * 6 * MIB,
            size=4 * MIB,
            sector_size=sector_size,
            type_id=0x83,
            bootable=number == 2,
            record=number * 6 * MIB - MIB if number > 4 else None,
        )
        for number in (1, 2, 3, 5, 6, 7)
    ]
    table = MbrTable.new(disk_size=SIZE, sector_size=sector_size, signature=0xCAFE, entries=entries)
    write(disk, mbr.encode(table, device=DEVICE))
    assert_all_agree(disk, {1, 2, 3, 5, 6, 7})


@pytest.mark.parametrize("maker", ["sfdisk", "sgdisk", "parted"])
def test_a_gpt_of_theirs_is_ours_too(bench: Bench, sector_size: int, maker: str) -> None:
    disk = bench.disk(SIZE, sector_size)
    match maker:
        case "sfdisk":
            script = "label: gpt\nsize=4MiB, name=one\nsize=8MiB, attrs=RequiredPartition\n"
            run("sfdisk", "--no-reread", "--no-tell-kernel", disk.node, stdin=script)
        case "sgdisk":
            run("sgdisk", "--new=1:0:+4M", "--new=2:0:0", "--change-name=2:zwei", disk.node)
        case _:
            parts = ("mkpart", "one", "1MiB", "9MiB", "mkpart", "two", "9MiB", "100%")
            run_parted(disk.node, "mklabel", "gpt", *parts)
    assert_all_agree(disk, {1, 2})


@pytest.mark.parametrize("maker", ["sfdisk", "parted"])
def test_an_mbr_of_theirs_is_ours_too(bench: Bench, sector_size: int, maker: str) -> None:
    disk = bench.disk(SIZE, sector_size)
    if maker == "sfdisk":
        script = "label: dos\nsize=4MiB, bootable\ntype=5\nsize=8MiB\nsize=8MiB, type=82\nsize=8MiB\n"
        run("sfdisk", "--no-reread", "--no-tell-kernel", disk.node, stdin=script)
        numbers = {1, 5, 6, 7}
    else:
        parts = ["mkpart", "primary", "1MiB", "9MiB", "mkpart", "extended", "9MiB", "100%"]
        parts += ["mkpart", "logical", "10MiB", "20MiB", "mkpart", "logical", "30MiB", "40MiB"]
        run_parted(disk.node, "mklabel", "msdos", *parts)
        numbers = {1, 5, 6}
    assert_all_agree(disk, numbers)
