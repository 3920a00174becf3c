"""A file replaced in images by mkfs.vfat and mtools, judged by mtools and fsck.vfat."""

from __future__ import annotations

import random

import pytest

from libironic_disk.errors import FatImageRefused
from libironic_disk.pure.drives import fat
from libironic_disk.pure.drives.fat_changing import edits_of_file, with_file
from tests.support import configdrives as images

KIB, MIB = 1024, 1024 * 1024
CONFIG = "EFI/BOOT/grub.cfg"
TREE = {
    CONFIG: b"set timeout=5\n" * 300,
    "EFI/BOOT/BOOTX64.EFI": b"\x4d\x5a" * 30_000,
    "EFI/debian/a long name, in lower case.cfg": b"# nothing\n",
    "EFI/debian/empty": b"",
}
KINDS = [(12, MIB, 512), (12, 8 * MIB, 4096), (16, 5 * MIB, 512), (32, 40 * MIB, 512)]


def image(width: int, size: int = MIB, sector_size: int = 512) -> bytes:
    options = ("-F", str(width)) + (("-s", "1") if width != 12 else ())
    return images.fat(TREE, *options, size=size, sector_size=sector_size)


def clusters_of(data: bytes) -> int:
    found = fat.geometry(data)
    assert found is not None
    return found.cluster_size


@pytest.mark.parametrize(("width", "size", "sector_size"), KINDS)
def test_any_size_takes_the_place_of_any_other(width: int, size: int, sector_size: int) -> None:
    data = image(width, size, sector_size)
    tree = dict(TREE)
    cluster = clusters_of(data)
    sizes = (0, 1, cluster, cluster + 1, 0, 7 * cluster, 7 * cluster - 1, 400 * KIB, 2)
    paths = (CONFIG, "EFI/debian/empty", "EFI/debian/a long name, in lower case.cfg")
    for number, wanted in enumerate(sizes):
        path = paths[number % len(paths)]
        tree[path] = bytes([65 + number]) * wanted
        data = with_file(data, f"/{path}", tree[path])
        assert len(data) == size
        assert images.fat_files(data) == tree
        images.check_fat(data)


@pytest.mark.parametrize("path", ["/efi/boot/GRUB.CFG", "EFI/BOOT/grub.cfg", "//EFI//BOOT/Grub.Cfg"])
def test_the_case_of_letters_does_not_matter(path: str) -> None:
    assert images.fat_files(with_file(image(12), path, b"new")) == {**TREE, CONFIG: b"new"}


def test_an_image_is_filled_to_its_last_cluster_and_no_further() -> None:
    data = image(12)
    found = fat.geometry(data)
    assert found is not None
    used = sum(-(-len(content) // found.cluster_size) for path, content in TREE.items() if path != CONFIG)
    directories = 3
    room = (found.clusters - used - directories) * found.cluster_size
    full = with_file(data, CONFIG, b"x" * room)
    assert images.fat_files(full)[CONFIG] == b"x" * room
    images.check_fat(full)
    with pytest.raises(FatImageRefused, match=f"full: {found.cluster_size} bytes"):
        with_file(data, CONFIG, b"x" * (room + 1))
    assert with_file(full, CONFIG, b"small") == with_file(with_file(data, CONFIG, b"x" * room), CONFIG, b"small")


def test_the_edits_are_the_blocks_that_differ() -> None:
    data = image(16, 5 * MIB)
    edits = edits_of_file(data, len(data), CONFIG, b"y" * len(TREE[CONFIG]))
    assert sum(map(len, edits.values())) <= len(TREE[CONFIG]) + 512
    assert edits_of_file(data, len(data), CONFIG, TREE[CONFIG]) == {}
    patched = bytearray(data)
    for start, block in edits.items():
        patched[start : start + len(block)] = block
    assert images.fat_files(bytes(patched))[CONFIG] == b"y" * len(TREE[CONFIG])


@pytest.mark.parametrize(
    "path", ["/EFI/BOOT/none.cfg", "/EFI/BOOT", "/EFI/none/grub.cfg", "/EFI/BOOT/grub.cfg/x", "", "/", "/EFI/../EFI"]
)
def test_what_is_no_file_is_refused(path: str) -> None:
    with pytest.raises(FatImageRefused, match="no such file") as caught:
        with_file(image(12), path, b"")
    assert caught.value.path == path


@pytest.mark.parametrize("length", [0, 511, 512, MIB - 1])
def test_a_truncated_image_is_refused(length: int) -> None:
    with pytest.raises(FatImageRefused, match="truncated"):
        with_file(image(12)[:length], CONFIG, b"")


def test_an_image_of_which_one_table_counts_is_refused() -> None:
    data = bytearray(image(32, 40 * MIB))
    data[40] |= 0x80
    with pytest.raises(FatImageRefused, match="table"):
        with_file(bytes(data), CONFIG, b"")


def test_both_tables_are_the_same_afterwards() -> None:
    data = with_file(image(16, 5 * MIB), CONFIG, b"z" * 300 * KIB)
    found = fat.geometry(data)
    assert found is not None
    assert found.tables == 2
    first, second = (
        data[start : start + found.table_size] for start in (found.table_start, found.table_start + found.table_size)
    )
    assert first == second != image(16, 5 * MIB)[found.table_start : found.table_start + found.table_size]


@pytest.mark.parametrize(("width", "size"), [(12, MIB), (16, 5 * MIB), (32, 36 * MIB)])
def test_damage_anywhere_is_refused_or_passed_over(width: int, size: int) -> None:
    whole = image(width, size)
    chance = random.Random(width)
    found = fat.geometry(whole)
    assert found is not None
    # The boot sector, the beginning of the table, and the first directories: where numbers are.
    places = [*range(11, 90), *range(found.table_start, found.table_start + 200)]
    places += range(found.root_start, found.root_start + 300)
    places += range(found.data_start, found.data_start + 3 * found.cluster_size, 3)
    outcomes: set[bool | None] = set()
    data = bytearray(whole)
    for _ in range(150):
        damaged = chance.sample(places, chance.randint(1, 3))
        for place in damaged:
            data[place] = chance.choice([0, 0xFF, chance.randrange(256)])
        try:
            edits = edits_of_file(bytes(data), size, CONFIG, b"new" * 900)
            outcomes.add(all(start + len(block) <= size for start, block in edits.items()))
        except FatImageRefused:
            outcomes.add(None)
        for place in damaged:
            data[place] = whole[place]
    assert outcomes == {True, None}
