"""Images are read as xorriso reads them, and what is no image is refused."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from lab.isolayouts import IsoLayout, Names
from libironic_disk.errors import IsoInvalid, IsoUnsupported
from libironic_disk.pure.iso.image import read_image
from libironic_disk.pure.iso.model import PartitionTable, TreeKind
from libironic_disk.pure.roles import Firmware
from tests.support import isos
from tests.support.isos import Memory

EITHER = [(layout, names) for layout, names in isos.LAYOUTS if names in {Names.ROCK_RIDGE, Names.BOTH}]
VIEWS = {Names.ROCK_RIDGE: ["rock-ridge"], Names.BOTH: ["rock-ridge", "joliet"]}
SECTOR = 2048


@pytest.mark.parametrize(("kind", "names"), EITHER)
def test_files_and_boot_images_are_what_xorriso_finds(tmp_path: Path, kind: IsoLayout, names: Names) -> None:
    base = isos.layout(kind, names)
    path = tmp_path / "image.iso"
    path.write_bytes(base.data)
    image = read_image(base)
    assert isos.differences(isos.contents(base, image), isos.by_xorriso(path)) == []
    report = isos.report_of(path, "-report_el_torito", "plain")
    found = re.findall(r"^El Torito boot img : +\d+ +(\w+) +y .* (\d+)$", report, re.MULTILINE)
    listed = [each for each in image.boot_images if each.catalog_offset is not None]
    assert [(each.firmware.upper(), each.offset // SECTOR) for each in listed] == [
        (firmware, int(sector)) for firmware, sector in found
    ]
    views = VIEWS[names] * (2 if kind is IsoLayout.GRUB else 1)
    assert [tree.kind for tree in image.trees] == views


def test_an_appended_system_partition_is_a_boot_image() -> None:
    image = read_image(isos.layout(IsoLayout.GRUB))
    appended = image.boot_images[1]
    assert (appended.firmware, appended.path) == (Firmware.UEFI, None)
    assert [part.size for part in image.partitions if part.start == appended.offset] == [appended.size]
    arm = read_image(isos.layout(IsoLayout.ARM64))
    assert [(each.path, each.catalog_offset is None) for each in arm.boot_images] == [
        ("/boot/grub/efi.img", False),
        (None, True),
    ]


def test_all_three_tables_are_read() -> None:
    assert read_image(isos.layout(IsoLayout.GRUB_MKRESCUE)).tables == tuple(PartitionTable)


def test_paths_are_found_by_the_names_that_there_are() -> None:
    plain = read_image(isos.layout(IsoLayout.BIOS_ONLY, Names.PLAIN))
    assert plain.main.kind is TreeKind.PLAIN
    found = plain.find("/ISOLINUX/isolinux.CFG")
    assert found is not None
    assert found.path == "/isolinux/isolinux.cfg"
    assert [file.path for file in plain.children("/isolinux")] == [
        file.path for file in plain.files() if re.fullmatch("/isolinux/[^/]*", file.path)
    ]
    image = read_image(isos.layout(IsoLayout.GRUB))
    assert image.find("/no/such/file") is None
    assert image.find("/BOOT") is None
    assert image.children("/layout.txt") == ()
    with pytest.raises(IsoUnsupported, match="it has no file /boot"):
        image.content("/boot")


def test_links_and_deep_directories(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    deep = tree.joinpath(*"abcdefghijkl")
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"deep down")
    (tree / ("n" * 240)).write_bytes(b"a long name")
    (tree / "link").symlink_to("../a/./b")
    (tree / "absolute").symlink_to("/a/b")
    base = isos.made(lambda path: subprocess.run(["genisoimage", "-quiet", "-R", "-o", path, tree], check=True))
    image = read_image(base)
    files = {file.path: file for file in image.files()}
    assert isos.contents(base, image)["/" + "/".join("abcdefghijkl") + "/file"] == b"deep down"
    assert isos.contents(base, image)["/" + "n" * 240] == b"a long name"
    assert (files["/link"].target, files["/absolute"].target) == ("../a/./b", "/a/b")


def patched(base: Memory, at: int, data: bytes) -> Memory:
    return Memory(base.data[:at] + data + base.data[at + len(data) :])


@pytest.mark.parametrize("data", [b"", bytes(32768), bytes(100_000), b"\x7fELF" * 20_000])
def test_what_is_no_image(data: bytes) -> None:
    with pytest.raises(IsoInvalid, match="no primary volume descriptor"):
        read_image(Memory(data))


def test_what_was_cut_off() -> None:
    base = isos.layout(IsoLayout.BIOS_ONLY)
    with pytest.raises(IsoInvalid, match="cut off"):
        read_image(Memory(base.data[: len(base.data) // 3]))


def test_a_directory_in_itself() -> None:
    base = isos.layout(IsoLayout.BIOS_ONLY)
    image = read_image(base)
    inner = next(each for each in image.main.directories if each.parent is not None)
    root = image.main.root.record
    looped = patched(base, inner.record.at + 2, struct.pack("<I", root.extent) + struct.pack(">I", root.extent))
    with pytest.raises(IsoInvalid, match="in two places"):
        read_image(looped)


def test_a_name_that_climbs() -> None:
    base = isos.layout(IsoLayout.BIOS_ONLY, Names.ROCK_RIDGE)
    at = base.data.index(b"layout.txt")
    with pytest.raises(IsoInvalid, match=r"the name '\.\./\.\./etc/'"):
        read_image(patched(base, at, b"../../etc/"))
