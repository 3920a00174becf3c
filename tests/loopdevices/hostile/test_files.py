"""Files and directories that somebody else has filled, under a tracer: drives, ISOs, kernels, what is published."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from lab import isolayouts
from lab.isolayouts import IsoLayout
from tests.support import configdrives, isos
from tests.support.hostile_roots import HOSTILITIES, SECRET
from tests.support.hostile_trace import Bench

pytestmark = pytest.mark.loopdevice

# A link to a file is what a caller may well give; whatever it leads to is his.
KINDS = ("loop of links", "fifo", "socket", "null device", "zero device", "a disk", "hole of a TiB")


def has_secret(folder: Path) -> list[str]:
    """Return the plain files below a folder that have something from outside, of those that aren't huge."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [str(path) for path in files if path.stat().st_size < 1 << 30 and SECRET in path.read_bytes()]


def put(hostile: Bench, folder: Path, kind: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "given"
    HOSTILITIES[kind](path, "etc/fstab", hostile.outside)
    return path


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "sound"
    path.write_bytes(b"kernel\n" * 100)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_kernel_that_is_none_is_refused(hostile: Bench, tmp_path: Path, sound: Path, kind: str) -> None:
    """By who publishes it, and by who puts it into an ISO; a pipe isn't waited for, and a device not opened."""
    given = str(put(hostile, tmp_path / "hostile", kind))
    root = tmp_path / "root"
    root.mkdir()
    places = {"root": str(root), "loaders": str(tmp_path / "loaders")}
    answer = hostile.work(
        "",
        {
            "publish": {**places, "kernel": str(sound), "ramdisk": given},
            "build_iso": {"kernel": given, "ramdisk": str(sound), "folder": str(tmp_path)},
        },
    )
    ended = answer["publish"]["value"]
    # A hole is a file, for which there is no room.
    assert all(ended[f"{name}, {step}"] for name in ("PXE", "iPXE") for step in ("ramdisk", "instance")), ended
    assert not any(said for step, said in ended.items() if ", no " in step), ended
    assert answer["build_iso"]["error"] == "BootIsoRefused"
    assert not [path for path in root.rglob("*") if path.is_file()]
    assert not list(tmp_path.glob("*.iso"))


@pytest.mark.parametrize("kind", ["loop of links", "fifo", "socket", "null device", "zero device"])
def test_a_file_that_is_none_is_not_published(hostile: Bench, tmp_path: Path, kind: str) -> None:
    """A block device is one: it may be a CD drive."""
    root = tmp_path / "root"
    root.mkdir()
    answer = hostile.work("", {"publish_file": {"root": str(root), "path": str(put(hostile, tmp_path / "x", kind))}})
    assert answer["publish_file"]["error"] == "SourceFailed"


@pytest.mark.parametrize("kind", KINDS)
def test_a_drive_or_document_that_is_none_is_refused(hostile: Bench, tmp_path: Path, kind: str) -> None:
    given = str(put(hostile, tmp_path / "x", kind))
    answer = hostile.work("", {"load_drive": {"path": given}, "read_info": {"path": given}})
    assert all(answer["load_drive"]["value"].values())
    assert answer["read_info"]["value"]["read"].startswith("PathFailed")
    # It is written in its place, and not into it.
    assert answer["read_info"]["value"]["write"] == ""
    assert Path(given).read_text().startswith("{")


PUBLISHED = (
    *("pxelinux.cfg", "pxelinux.cfg/01-52-54-00-aa-bb-01", "nodes", "nodes/node-1", "pxelinux.0", "boot"),
    *(".libironic_disk", ".libironic_disk/nodes", ".libironic_disk/nodes/node-1.json", ".libironic_disk/macs"),
    *(".libironic_disk/macs/52-54-00-aa-bb-01", ".libironic_disk/images", ".libironic_disk/images/.left"),
    *(".libironic_disk/locks", ".libironic_disk/locks/root", ".libironic_disk/locks/node-1"),
)
IN_ROOTS = (
    *("absolute link", "climbing link", "chain of links", "loop of links", "link through proc", "climbing over a link"),
    *("fifo", "socket", "a disk", "zero device", "hole of a TiB"),
)


@pytest.mark.parametrize("hostility", IN_ROOTS)
def test_whatever_is_in_a_published_root_nothing_outside_is_touched(
    hostile: Bench, tmp_path: Path, sound: Path, hostility: str
) -> None:
    """Each place in it on its own; the root itself is given by a link, which is its owner's."""
    for number, place in enumerate(PUBLISHED):
        root = tmp_path / f"root-{number}"
        (root / place).parent.mkdir(parents=True)
        is_directory = "/" not in place.removeprefix(".libironic_disk/") and "." not in place.rpartition("/")[2][1:]
        HOSTILITIES[hostility](root / place, "etc" if is_directory else "etc/fstab", hostile.outside)
        given = tmp_path / f"link-{number}"
        given.symlink_to(root)
        files = {"kernel": str(sound), "ramdisk": str(sound)}
        asked = {"root": str(given), "loaders": str(tmp_path / "loaders"), **files}
        (answer,) = hostile.work("", {"publish": asked}).values()
        assert answer["error"] == "", place
        assert has_secret(root) == []


def drive(case: str) -> bytes:
    """Return a config drive that was made to do harm."""
    files = {"openstack/latest/meta_data.json": b"{}"}
    match case:
        case "names that climb, FAT":
            return configdrives.fat(files | {"aaaaa name": b"x"}).replace(
                "aaaaa".encode("utf-16-le"), "../..".encode("utf-16-le")
            )
        case "names that climb, ISO":
            return configdrives.iso(files | {"aaaaaaaa": b"x"}, "-R").replace(b"aaaaaaaa", b"../../..")
        case "names in two cases, FAT":
            return configdrives.fat(files | {"ZZZ": b"a", "OWN": b"b"}).replace(b"ZZZ     ", b"OWN     ")
        case "names in two cases, ISO":
            return configdrives.iso(files | {"own": b"a", "OWN": b"b", "d/x": b"c", "D/x": b"d"}, "-R")
        case "names of DOS's devices":
            return configdrives.iso(files | {"con": b"a", "aux.txt": b"b", "lpt1": b"c"}, "-R")
        case "names that are options":
            return configdrives.iso(files | {"-rf": b"a", "--help": b"b", "@list": b"c", "c:name": b"d"}, "-R")
        case "names with newlines":
            return configdrives.iso(files | {"a\nb": b"a", "\x1b[2J": b"b", "$(reboot)": b"c"}, "-R")
        case _:
            return configdrives.iso(files, "-R", links={"latest": "{outside}", "up": "../../../../etc/passwd"})


DRIVES = (
    *("names that climb, FAT", "names that climb, ISO", "names in two cases, FAT", "names in two cases, ISO"),
    *("names of DOS's devices", "names that are options", "names with newlines", "links"),
)


@pytest.mark.parametrize("case", DRIVES)
def test_no_name_in_a_config_drive_leads_out_of_it(hostile: Bench, tmp_path: Path, case: str) -> None:
    """An image that fits the disk stays as it is; the files of one that doesn't are copied by mtools."""
    path = tmp_path / "drive"
    path.write_bytes(drive(case))
    (answer,) = hostile.work("", {"load_drive": {"path": str(path)}}).values()
    ended = answer["value"]
    assert ended["512"] == ""
    assert ended["4096"].startswith("ConfigDriveInvalid: ")
    assert not list(Path(hostile.folder, "temporary").iterdir())


def linked(iso: Path, links: Mapping[str, str]) -> None:
    """Put links in the place of files and directories of an ISO."""
    for path, target in links.items():
        made = iso.with_suffix(".made")
        argv = ["xorriso", "-no_rc", "-indev", str(iso), "-outdev", str(made), "-boot_image", "any", "replay"]
        subprocess.run([*argv, "-rm_r", path, "--", "-lns", target, path, "-commit"], check=True, capture_output=True)
        made.replace(iso)


def renamed(iso: Path, name: str, other: str) -> None:
    """Give a file another name of the same length, in all of an ISO's trees."""
    data = iso.read_bytes()
    for encoding in ("ascii", "utf-16-be"):
        data = data.replace(name.encode(encoding), other.encode(encoding))
    iso.write_bytes(data)


ISOS: Mapping[str, Callable[[Path, str], None]] = {
    "a link for GRUB's directory": lambda iso, outside: linked(iso, {"/boot/grub/linux.cfg": f"{outside}/etc/fstab"}),
    "links that climb": lambda iso, outside: linked(iso, {"/pieces/01.bin": f"../../../../../..{outside}/etc/fstab"}),
    "a link through proc": lambda iso, outside: linked(iso, {"/isolinux": f"/proc/self/root{outside}/boot"}),
    "a loop of links": lambda iso, outside: linked(iso, {"/loader": "/loader"}),
    "names that climb": lambda iso, outside: renamed(iso, "01.bin", "../../"),
    "names with newlines": lambda iso, outside: renamed(iso, "02.bin", "a\nb\x1bc"),
    "names that are options": lambda iso, outside: renamed(iso, "03.bin", "--help"),
    "names that are whole paths": lambda iso, outside: renamed(iso, "04.bin", "/etc/x"),
    "two names in one": lambda iso, outside: renamed(iso, "05.bin", "06.bin"),
}


@pytest.mark.parametrize("case", ISOS)
def test_no_name_in_a_boot_iso_leads_out_of_it(hostile: Bench, tmp_path: Path, case: str) -> None:
    """Both engines read the ISO alone, and write only the file that they were given."""
    path = tmp_path / "hostile.iso"
    isolayouts.make(IsoLayout.ISOLINUX_XORRISO, path, files=isos.PIECES)
    ISOS[case](path, str(hostile.outside.folder))
    (answer,) = hostile.work("", {"change_iso": {"path": str(path), "folder": str(tmp_path)}}).values()
    assert answer["error"] in {"", "IsoInvalid", "IsoUnsupported"}
    assert {each.name for each in tmp_path.iterdir()} <= {"hostile.iso", "changed.iso", "by-xorriso.iso"}
    assert has_secret(tmp_path) == []
