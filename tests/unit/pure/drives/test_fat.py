"""The FAT reader against images by mkfs.vfat and mtools, whole and damaged."""

from __future__ import annotations

import random
import struct

import pytest

from libironic_disk.errors import ConfigDriveInvalid, ConfigDriveTooLarge, RequestError
from libironic_disk.pure.drives import fat
from tests.support import configdrives as images

MIB = 1024 * 1024
TREE = {
    "UPPER.TXT": b"1",
    "lower.txt": b"22",
    "a long name, with spaces.json": b"333" * 5000,
    "ünïcödé 漢字.txt": b"",
    "deep/deeper/deepest/file": b"x" * 4097,
    "exactly-26-utf16-units.abcd": b"y",
    "thirteen.chars": b"z",
}


@pytest.mark.parametrize(
    ("width", "size", "sector_size"),
    [(12, MIB, 512), (12, 8 * MIB, 4096), (16, 20 * MIB, 512), (16, 64 * MIB, 2048), (32, 40 * MIB, 512)],
)
def test_reads_what_mtools_wrote(width: int, size: int, sector_size: int) -> None:
    options = ("-F", str(width)) + (("-s", "1") if width == 32 else ())
    data = images.fat(TREE, *options, size=size, sector_size=sector_size)
    found = fat.geometry(data)
    assert found is not None
    assert (found.width, found.sector_size, found.size) == (width, sector_size, size)
    assert fat.read_files(data, limit=MIB) == TREE == images.fat_files(data)


def test_a_directory_of_many_clusters() -> None:
    tree = {f"directory/file number {number}": str(number).encode() for number in range(600)}
    data = images.fat(tree, "-s", "1", "-F", "12")
    assert fat.read_files(data, limit=MIB) == tree


@pytest.mark.parametrize(("width", "size"), [("12", MIB), ("16", 5 * MIB), ("32", 40 * MIB)])
def test_label_is_the_one_in_the_root_directory(width: str, size: int) -> None:
    data = images.fat({}, "-F", width, "-s", "1", size=size, label="LABEL-A")
    volume = fat.recognise(data)
    assert volume is not None
    assert volume.label == images.probed(data)["LABEL"] == "LABEL-A"


def test_no_label() -> None:
    volume = fat.recognise(images.fat({}, label=""))
    assert volume is not None
    assert volume.label == ""


@pytest.mark.parametrize("data", [b"", b"\0" * 4096, b"\xff" * 510 + b"\x55\xaa", b"\0" * 510 + b"\x55\xaa"])
def test_not_fat(data: bytes) -> None:
    assert fat.recognise(data) is None
    with pytest.raises(ConfigDriveInvalid, match="no valid boot sector"):
        fat.read_files(data, limit=MIB)


def _entry(data: bytes | bytearray, name: bytes) -> int:
    """Where the short entry with this name is."""
    at = data.index(name.ljust(11))
    assert at % fat.ENTRY == 0
    return at


def test_one_extent_under_many_names_is_counted_each_time() -> None:
    data = bytearray(images.fat({"A": b"a" * 100_000, "B": b"b", "C": b"c"}))
    at = _entry(data, b"A")
    for name in (b"B", b"C"):
        data[_entry(data, name) + 26 : _entry(data, name) + 32] = data[at + 26 : at + 32]
    assert fat.read_files(bytes(data), limit=300_000)["C"] == b"a" * 100_000
    with pytest.raises(ConfigDriveTooLarge) as caught:
        fat.read_files(bytes(data), limit=299_999)
    assert (caught.value.limit, caught.value.found) == (299_999, 300_000)


def test_directories_in_a_circle() -> None:
    data = bytearray(images.fat({"D/E/F": b""}))
    data[_entry(data, b"E") + 26 : _entry(data, b"E") + 28] = data[_entry(data, b"D") + 26 : _entry(data, b"D") + 28]
    with pytest.raises(ConfigDriveInvalid, match="share a cluster"):
        fat.read_files(bytes(data), limit=MIB)


@pytest.mark.parametrize("cluster", [0, 1, 0xFF0])
def test_a_chain_that_leads_outside(cluster: int) -> None:
    data = bytearray(images.fat({"A": b"a"}))
    struct.pack_into("<H", data, _entry(data, b"A") + 26, cluster)
    with pytest.raises(ConfigDriveInvalid, match="leads outside"):
        fat.read_files(bytes(data), limit=MIB)


def test_a_size_longer_than_the_chain() -> None:
    data = bytearray(images.fat({"A": b"a"}))
    struct.pack_into("<I", data, _entry(data, b"A") + 28, 500_000)
    with pytest.raises(ConfigDriveInvalid, match="leads outside"):
        fat.read_files(bytes(data), limit=MIB)


@pytest.mark.parametrize("name", [b"..", b".", b"A/B", b"/A", b"\0"])
def test_names_that_lead_elsewhere(name: bytes) -> None:
    data = bytearray(images.fat({"GOODNAME": b"a", "SECOND": b""}))
    at = _entry(data, b"GOODNAME")
    data[at : at + 11] = name.ljust(11)
    if name == b"\0":  # the mark of the directory's end hides the file; a NUL further on does not
        assert fat.read_files(bytes(data), limit=MIB) == {}
        data[at : at + 2] = b"A\0"
    with pytest.raises(ConfigDriveInvalid, match="leads out of its directory"):
        fat.read_files(bytes(data), limit=MIB)


def test_a_long_name_that_leads_elsewhere() -> None:
    good, bad = ("long name.json".encode("utf-16-le"), "../../etc/cron".encode("utf-16-le"))
    data = bytearray(images.fat({"long name.json": b"a"}))
    long_name = data.index(good[:10]) - 1
    for start, stop, offset in ((1, 11, 0), (14, 26, 10), (28, 32, 22)):
        data[long_name + start : long_name + stop] = bad[offset : offset + stop - start]
    with pytest.raises(ConfigDriveInvalid, match="leads out of its directory"):
        fat.read_files(bytes(data), limit=MIB)


def test_the_same_name_twice() -> None:
    data = bytearray(images.fat({"AAAA": b"a", "BBBB": b"b"}))
    data[_entry(data, b"BBBB") : _entry(data, b"BBBB") + 4] = b"AAAA"
    with pytest.raises(ConfigDriveInvalid, match="same name"):
        fat.read_files(bytes(data), limit=MIB)


def test_damage_anywhere_is_refused_or_read_but_never_crashes() -> None:
    chance = random.Random(7)
    trees = [images.fat(TREE, "-F", "12", size=256 * 1024), images.fat(TREE, "-F", "16", "-s", "1", size=3 * MIB)]
    refused = 0
    for _ in range(3000):
        data = bytearray(chance.choice(trees))
        for _ in range(chance.choice([1, 3, 30])):
            where = chance.choice([64, 4096, 40_000])
            data[chance.randrange(where)] = chance.choice([0, 0xFF, chance.randrange(256)])
        try:
            files = fat.read_files(bytes(data), limit=MIB)
        except RequestError:
            refused += 1
        else:
            assert sum(map(len, files.values())) <= MIB
    assert refused > 300


def test_a_short_name_in_an_unknown_code_page() -> None:
    data = bytearray(images.fat({"GOODNAME": b"a"}))
    data[_entry(data, b"GOODNAME") + 1] = 0xBD
    with pytest.raises(ConfigDriveInvalid, match="unknown code page"):
        fat.read_files(bytes(data), limit=MIB)


def test_a_directory_larger_than_fat_allows() -> None:
    data = bytearray(images.fat({"D/E": b""}, "-F", "12", "-s", "64", size=8 * MIB))
    found = fat.geometry(bytes(data))
    assert found is not None
    first: int = struct.unpack_from("<H", data, _entry(data, b"D") + 26)[0]
    table = int.from_bytes(data[found.table_start : found.table_start + 512], "little")
    for cluster in range(first, first + 100):
        table = table & ~(0xFFF << 12 * cluster) | (cluster + 1) << 12 * cluster
    data[found.table_start : found.table_start + 512] = table.to_bytes(512, "little")
    start = found.data_start + (first - 2) * found.cluster_size
    data[start : start + 3 * MIB] = b"\xe5" * (3 * MIB)
    with pytest.raises(ConfigDriveInvalid, match="larger than FAT allows"):
        fat.read_files(bytes(data), limit=MIB)
