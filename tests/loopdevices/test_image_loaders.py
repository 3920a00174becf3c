"""What an image's ESP carries: file systems by mkfs.vfat, filled by mtools, and then damaged; case 15 of section 9."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from libironic_disk.machine.boot import image_loaders
from libironic_disk.machine.boot.image_loaders import FoundLoaders, ImageLoader
from libironic_disk.pure.roles import Architecture
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support import configdrives
from tests.support.configdrives import Tree

pytestmark = pytest.mark.loopdevice

REMOVABLE = "EFI/BOOT/BOOTX64.EFI"
DEBIAN = "shimx64.efi,debian,,This is the boot entry for debian\n".encode("utf-16-le")
FEDORA = b"\xff\xfe" + "SHIM.EFI,Fedora\r\nshim.efi,Fedora UKI,\\EFI\\Linux\\f.efi\r\n".encode("utf-16-le")
IMAGE: Tree = {
    REMOVABLE: b"MZ",
    "EFI/BOOT/fbx64.efi": b"MZ",
    "EFI/debian/BOOTX64.CSV": DEBIAN,
    "EFI/debian/shimx64.efi": b"MZ",
    "EFI/debian/grub.cfg": b"",
}


@pytest.fixture
def find(bench: Bench) -> Finder:
    return Finder(bench)


class Finder:
    """Puts a file system on a loop device and looks for loaders on it."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def __call__(self, tree: Tree, *, architecture: Architecture = Architecture.X86_64) -> FoundLoaders:
        return self.on(configdrives.fat(tree, size=8 * MIB, label="ESP"), architecture=architecture)

    def on(self, data: bytes | bytearray, *, architecture: Architecture = Architecture.X86_64) -> FoundLoaders:
        disk = self._bench.disk(len(data), 512)
        Path(disk.node).write_bytes(data)
        before = disk.digest()
        found = image_loaders.find(disk.node, architecture)
        assert disk.digest() == before
        assert all(problem.isprintable() for problem in found.problems)
        return found


def test_one_csv_in_utf_16_without_a_mark(find: Finder) -> None:
    """Case 15."""
    found = find(IMAGE)
    assert found.loaders == (ImageLoader(path="EFI/debian/shimx64.efi", label="debian"),)
    assert (found.removable, found.problems) == (REMOVABLE, ())
    assert found.lacks("EFI/debian/grubx64.efi")
    assert not found.lacks("efi/DEBIAN/SHIMX64.EFI")
    # Nobody looked there.
    assert not found.lacks("EFI/debian/deeper/x.efi")
    assert not found.lacks("EFI/none/x.efi")
    assert not found.lacks("")


@pytest.mark.parametrize(
    ("width", "size", "sector_size"),
    [("12", 1, 512), ("16", 20, 512), ("32", 40, 512), ("12", 8, 4096), ("16", 64, 4096)],
)
def test_every_width_and_sector_size(bench: Bench, width: str, size: int, sector_size: int) -> None:
    data = configdrives.fat(IMAGE, "-F", width, "-s", "1", size=size * MIB, sector_size=sector_size)
    disk = bench.disk(len(data), sector_size)
    Path(disk.node).write_bytes(data)
    assert [each.label for each in image_loaders.find(disk.node, Architecture.X86_64).loaders] == ["debian"]


def test_two_csvs_upper_case_names_and_options(find: Finder) -> None:
    """Case 15: two CSVs, upper-case .EFI."""
    found = find({**IMAGE, "EFI/Fedora/bootx64.csv": FEDORA, "EFI/Fedora/SHIM.EFI": b"MZ"})
    assert found.loaders == (
        ImageLoader(path="EFI/debian/shimx64.efi", label="debian"),
        ImageLoader(path="EFI/Fedora/SHIM.EFI", label="Fedora"),
        ImageLoader(path="EFI/Fedora/SHIM.EFI", label="Fedora UKI", options="\\EFI\\Linux\\f.efi"),
    )
    assert found.problems == ()


def test_no_csv(find: Finder) -> None:
    """Case 15: no CSV; one that only other machines or shim's own directory have is none."""
    loaders = {"EFI/debian/BOOTAA64.CSV": b"shimx64.efi,arm", "EFI/BOOT/BOOTX64.CSV": b"BOOTX64.EFI,removable"}
    found = find({**{path: data for path, data in IMAGE.items() if "CSV" not in path}, **loaders})
    assert (found.loaders, found.removable, found.problems) == ((), REMOVABLE, ())


def test_the_csv_of_the_architecture_is_taken_and_else_the_one_for_any(find: Finder) -> None:
    tree = {
        "EFI/sles/boot.csv": b"any.efi,any",
        "EFI/sles/BOOTAA64.CSV": b"arm.efi,arm",
        "EFI/sles/any.efi": b"MZ",
        "EFI/sles/arm.efi": b"MZ",
        "EFI/BOOT/bootriscv64.efi": b"MZ",
    }
    labels = {}
    for architecture in (Architecture.X86_64, Architecture.AARCH64, Architecture.RISCV64):
        found = find(tree, architecture=architecture)
        labels[architecture] = [each.label for each in found.loaders], found.removable
    assert labels == {
        Architecture.X86_64: (["any"], ""),
        Architecture.AARCH64: (["arm"], ""),
        Architecture.RISCV64: (["any"], "EFI/BOOT/bootriscv64.efi"),
    }
    assert "doesn't start" in find(tree, architecture=Architecture.PPC64LE).problems[0]


def test_what_a_csv_names_has_to_be_there(find: Finder) -> None:
    csv = b"gone.efi,gone\nempty.efi,empty\nsub,sub\nshimx64.efi,debian\nSHIMX64.EFI,again\n..,up\n../x/y.efi,out\n"
    found = find({**IMAGE, "EFI/debian/BOOTX64.CSV": csv, "EFI/debian/empty.efi": b"", "EFI/debian/sub/x": b""})
    assert found.loaders == (ImageLoader(path="EFI/debian/shimx64.efi", label="debian"),)
    assert [problem.partition(": ")[2] or problem.partition("names ")[2] for problem in found.problems] == [
        "line 6: '..' can't be a loader: it isn't the name of one file",
        "line 7: '../x/y.efi' can't be a loader: it isn't the name of one file",
        "'gone.efi', which isn't there",
        "'empty.efi', which isn't there",
        "'sub', which isn't there",
        "'SHIMX64.EFI' twice",
    ]


def test_a_csv_that_can_not_be_decoded_and_one_that_is_too_long(find: Finder) -> None:
    found = find({**IMAGE, "EFI/a/BOOTX64.CSV": b"\xff\xfe\x00\xd8", "EFI/b/BOOTX64.CSV": bytes(20_000)})
    assert [each.label for each in found.loaders] == ["debian"]
    assert [problem.split(" ", 1)[0] for problem in found.problems] == ["'EFI/a/BOOTX64.CSV':", "'EFI/b/BOOTX64.CSV'"]


def test_names_with_odd_characters(find: Finder) -> None:
    """Case 15. What mtools would take for a pattern, or bytes of another character set, is a name as any other."""
    odd = "EFI/-x [a-z] é $(reboot);'`&"
    found = find({f"{odd}/BOOTX64.CSV": "--[x]é.efi,-L odd".encode(), f"{odd}/--[x]é.efi": b"MZ"})
    assert found.loaders == (ImageLoader(path=f"{odd}/--[x]é.efi", label="-L odd"),)


def test_a_name_that_no_entry_can_hold(find: Finder) -> None:
    tree = {"EFI/a/BOOTX64.CSV": b"k long name.efi,a", "EFI/a/k long name.efi": b"MZ", "EFI/\u6f22/BOOTX64.CSV": b"x,x"}
    data = configdrives.fat({**IMAGE, **tree}, size=8 * MIB)
    assert "\u212a".lower() == "k"
    kelvin = data.replace("k lon".encode("utf-16-le"), "\u212a lon".encode("utf-16-le"))
    assert kelvin != data
    found = find.on(kelvin)
    assert [each.label for each in found.loaders] == ["debian"]
    assert "isn't there" in found.problems[0]
    assert "isn't looked into" in found.problems[1]


def test_too_many_directories_and_loaders(find: Finder) -> None:
    many = {f"EFI/d{number:03}/{file}": b"x.efi,x" for number in range(100) for file in ("BOOTX64.CSV", "x.efi")}
    found = find(many)
    assert len(found.loaders) == image_loaders.MOST_LOADERS
    assert len(found.files) == image_loaders.MOST_DIRECTORIES
    assert "EFI has more than 64 directories" in found.problems[0]
    assert "there are 8 before it" in found.problems[1]
    assert found.problems[-1].startswith("and ")
    # Nothing is known of those that nobody looked into.
    assert sum(found.lacks(f"EFI/d{number:03}/y.efi") for number in range(100)) == image_loaders.MOST_DIRECTORIES


def test_too_many_files_in_one_directory(find: Finder) -> None:
    found = find({**IMAGE, "EFI/a/BOOTX64.CSV": b"x.efi,x", **{f"EFI/a/file{number}": b"MZ" for number in range(1100)}})
    assert [each.label for each in found.loaders] == ["debian"]
    assert "more than 1024 files" in found.problems[0]
    assert not found.lacks("EFI/a/y.efi")


def test_no_loader_at_all(find: Finder) -> None:
    for tree in ({}, {"EFI": b"a file"}, {"EFI/BOOT/BOOTX64.EFI": b""}, {"EFI/BOOT/BOOTIA32.EFI": b"MZ"}):
        found = find(tree)
        assert (found.loaders, found.removable) == ((), "")
        assert "no loader for x86_64" in found.problems[-1]


def test_what_is_no_fat_or_not_there(find: Finder, tmp_path: Path) -> None:
    assert "no FAT file system" in find.on(bytes(MIB)).problems[0]
    half = configdrives.fat(IMAGE, size=8 * MIB)[: 4 * MIB]
    assert "no FAT file system, or less" in find.on(half).problems[0]
    assert "can't be read" in image_loaders.find(str(tmp_path / "none"), Architecture.X86_64).problems[0]
    assert "can't be read" in image_loaders.find(str(tmp_path), Architecture.X86_64).problems[0]


def patched(old: bytes, new: bytes) -> bytearray:
    data = bytearray(
        configdrives.fat({**IMAGE, "EFI/SECOND/BOOTX64.CSV": b"A.EFI,a", "EFI/SECOND/A.EFI": b"MZ"}, size=8 * MIB)
    )
    at = data.index(old)
    data[at : at + len(new)] = new
    return data


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"SECOND     ", b"SEC\xbdND     ", "unknown code page"),
        (b"SECOND     ", b"A\\..\\..    ", "isn't looked into"),
        (b"SECOND     ", b"..\0        ", "isn't looked into"),
        (b"A       EFI", b"A\xbd      EFI", "isn't there"),
        (b"A       EFI", b"A\n      EFI", "isn't there"),
    ],
)
def test_names_that_mtools_would_not_write(find: Finder, old: bytes, new: bytes, problem: str) -> None:
    """Case 15."""
    found = find.on(patched(old, new))
    assert [each.label for each in found.loaders] == ["debian"]
    assert problem in " ".join(found.problems)


@pytest.mark.parametrize(
    ("offset", "form", "value", "problem"),
    [
        (26, "<H", 0, "leads outside"),
        (26, "<H", 0xFFF0, "leads outside"),
        (28, "<I", 0xFFFFFFFF, "more than 16384 bytes"),
        (28, "<I", 16000, "leads outside"),
    ],
)
def test_a_csv_whose_entry_lies(find: Finder, offset: int, form: str, value: int, problem: str) -> None:
    data = configdrives.fat({**IMAGE, "EFI/a/BOOTX64.CSV": b"A.EFI,a"}, size=8 * MIB)
    # The second one: the first is debian's, whose bytes are other.
    at = data.rindex(b"BOOTX64 CSV")
    first = data.index(b"BOOTX64 CSV")
    assert first != at
    size: int = struct.unpack_from("<I", data, at + 28)[0]
    at = at if size == 7 else first
    damaged = bytearray(data)
    struct.pack_into(form, damaged, at + offset, value)
    found = find.on(damaged)
    assert [each.label for each in found.loaders] == ["debian"]
    assert problem in found.problems[0]


def test_two_directories_of_one_name(find: Finder) -> None:
    found = find.on(patched(b"SECOND     ", b"DEBIAN     "))
    # Whichever was made first, as whoever opens it by its name sees it.
    assert len(found.loaders) == 1
    assert "two directories" in found.problems[0]


def test_directories_in_a_circle(find: Finder) -> None:
    data = patched(b"", b"")
    debian, second = data.index(b"DEBIAN     "), data.index(b"SECOND     ")
    data[second + 26 : second + 28] = data[debian + 26 : debian + 28]
    found = find.on(data)
    assert [each.label for each in found.loaders] == ["debian"]
    assert "share a cluster" in found.problems[0]
