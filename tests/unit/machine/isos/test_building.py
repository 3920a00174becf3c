"""ISOs built of placeholders, looked at by xorriso, isoinfo, sgdisk and blkid; tests/machines boots them."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from libironic_disk.errors import (
    BootIsoRefused,
    Cancelled,
    DiskError,
    NotEnoughRoom,
    PathFailed,
    ProgramFailed,
    SourceChanged,
    ToolMissing,
)
from libironic_disk.events import Cancellation
from libironic_disk.machine import process
from libironic_disk.machine.boot.grub_image import MODULES_DIRECTORY
from libironic_disk.machine.isos.building import build, estimated_size
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.bootisos.spec import BootIsoSpec
from libironic_disk.pure.roles import Architecture, Firmware
from libironic_disk.units import MIB

BIOS, UEFI = Firmware


@pytest.fixture
def spec(tmp_path: Path) -> BootIsoSpec:
    """Placeholders, in a folder whose name xorriso would take for an assignment."""
    folder = tmp_path / "sources=\\here"
    folder.mkdir()
    (folder / "vmlinuz").write_bytes(b"kernel" * 1000)
    (folder / "initrd").write_bytes(b"ramdisk" * 1000)
    return BootIsoSpec(
        kernel=folder / "vmlinuz", ramdisk=folder / "initrd", parameters=KernelParameters.parse("quiet console=ttyS0")
    )


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Where the image is to be, alone in a folder."""
    (tmp_path / "images").mkdir()
    return tmp_path / "images/boot.iso"


@contextmanager
def changing_nothing(folder: Path) -> Iterator[None]:
    """A folder has the same files with the same contents before and after."""
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    yield
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert [path for path in folder.iterdir() if path.name.startswith(".")] == []


def said_by(*argv: str | Path) -> str:
    done = subprocess.run([str(word) for word in argv], check=True, capture_output=True)
    # isoinfo writes names of Joliet in another character set.
    return done.stdout.decode(errors="replace")


def content(image: Path, path: str) -> bytes:
    return subprocess.run(["isoinfo", "-R", "-i", image, "-x", path], check=True, capture_output=True).stdout


def boot_images(image: Path) -> list[str]:
    report = said_by("xorriso", "-indev", image, "-report_el_torito", "plain")
    return re.findall(r"^El Torito boot img : +\d+ +(\w+)  y", report, re.MULTILINE)


def identity(image: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in said_by("blkid", "-p", "-o", "export", image).splitlines())


def test_all_of_it_is_in_the_image(spec: BootIsoSpec, image: Path) -> None:
    deep = "/" + "/".join("abcdefghijk") + "/" + "n" * 200
    files = {"openstack/latest/meta_data.json": b"{}", deep: b"deep", "/é=ü.txt": b"", "/Upper": b"U", "/upper": b"l"}
    build(replace(spec, files=files), image)
    assert content(image, "/boot/vmlinuz") == b"kernel" * 1000
    assert content(image, "/boot/initrd.img") == b"ramdisk" * 1000
    assert b"linux '/boot/vmlinuz' 'quiet' 'console=ttyS0'" in content(image, "/boot/grub/grub.cfg")
    for path, data in files.items():
        assert content(image, "/" + path.lstrip("/")) == data
    names = {line.strip("'") for line in said_by("xorriso", "-indev", image, "-find", "/", "-type", "f").splitlines()}
    ours = {"/boot/vmlinuz", "/boot/initrd.img", "/boot/grub/grub.cfg", "/boot/grub/bios.img"}
    assert names == ours | {"/" + path.lstrip("/") for path in files}
    assert "/boot/vmlinuz" in said_by("isoinfo", "-J", "-f", "-i", image).splitlines()


@pytest.mark.parametrize("signed", [False, True], ids=["ours", "signed"])
def test_firmware_finds_it_as_a_cd_and_as_a_disk(spec: BootIsoSpec, image: Path, signed: bool) -> None:
    build(replace(spec, signed=signed), image)
    assert boot_images(image) == ["BIOS", "UEFI"]
    assert "No problems found" in said_by("sgdisk", "-v", image)
    table = said_by("sfdisk", "-J", image)
    assert "C12A7328-F81F-11D2-BA4B-00A0C93EC93B" in table
    assert table.count('"start"') == 2


@pytest.mark.parametrize(("firmware", "expected"), [(BIOS, ["BIOS"]), (UEFI, ["UEFI"])])
def test_it_is_made_for_one_firmware_alone(
    spec: BootIsoSpec, image: Path, firmware: Firmware, expected: list[str]
) -> None:
    build(replace(spec, firmware=frozenset({firmware})), image)
    assert boot_images(image) == expected


def test_its_names_are_as_given_also_in_its_partition(spec: BootIsoSpec, image: Path, tmp_path: Path) -> None:
    build(replace(spec, volume_id="config-2", publisher_id="7f1a-Node"), image)
    found = identity(image)
    partition = tmp_path / "partition"
    partition.write_bytes(image.read_bytes()[64 * 512 :])
    assert (found["LABEL"], found["PUBLISHER_ID"]) == ("config-2", "7f1a-Node")
    inside = identity(partition)
    assert [inside[name] for name in ("LABEL", "PUBLISHER_ID", "UUID")] == ["config-2", "7f1a-Node", found["UUID"]]
    assert found["UUID"].encode() in content(image, "/boot/grub/grub.cfg")


def test_the_same_specification_gives_the_same_bytes(
    spec: BootIsoSpec, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replace(spec, files={"b": b"1", "a/c": b"2"}, publisher_id="x")
    build(whole, image)
    first = image.read_bytes()
    kernel = Path(spec.kernel)
    os.utime(kernel, (1, 1))
    kernel.chmod(0o755)
    other = image.with_name("elsewhere.iso")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    build(replace(whole, files={"/a/c": b"2", "/b": b"1"}), other)
    assert other.read_bytes() == first


@pytest.mark.parametrize("changed", ["kernel", "ramdisk", "files", "parameters"])
def test_another_iso_has_another_uuid(spec: BootIsoSpec, image: Path, changed: str) -> None:
    build(spec, image)
    first = identity(image)["UUID"]
    if changed in {"kernel", "ramdisk"}:
        path = Path(getattr(spec, changed))
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    elif changed == "files":
        spec = replace(spec, files={"a": b""})
    else:
        spec = replace(spec, parameters=KernelParameters(words=("other",)))
    build(spec, image)
    assert identity(image)["UUID"] != first


def test_a_symbolic_link_to_a_kernel_is_followed(spec: BootIsoSpec, image: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(spec.kernel)
    build(replace(spec, kernel=link), image)
    assert content(image, "/boot/vmlinuz") == b"kernel" * 1000


@pytest.mark.parametrize("count", [0, 300])
def test_the_size_is_estimated(spec: BootIsoSpec, image: Path, count: int) -> None:
    files = {f"directory {number}/{'n' * 100}/file": b"x" * number for number in range(count)}
    whole = replace(spec, files=files, signed=True)
    build(whole, image)
    assert image.stat().st_size <= estimated_size(whole) <= image.stat().st_size + 10 * MIB


@pytest.mark.parametrize("part", ["kernel", "ramdisk"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("missing", "No such file"),
        ("directory", "is no file"),
        ("empty", "is empty"),
        ("huge", "is too large"),
        ("loop", "ymbolic link"),
    ],
)
def test_what_is_no_kernel_or_ram_disk_is_refused(
    spec: BootIsoSpec, image: Path, part: str, damage: str, reason: str
) -> None:
    path = Path(getattr(spec, part))
    path.unlink()
    match damage:
        case "directory":
            path.mkdir()
        case "empty":
            path.touch()
        case "huge":
            path.touch()
            os.truncate(path, 4 << 30)
        case "loop":
            path.symlink_to(path)
    for attempt in (estimated_size, lambda spec: build(spec, image)):
        with changing_nothing(image.parent), pytest.raises(BootIsoRefused, match=reason):
            attempt(spec)


def test_a_part_of_it_is_not_replaced_by_it(spec: BootIsoSpec) -> None:
    kernel = Path(spec.kernel)
    with changing_nothing(kernel.parent), pytest.raises(BootIsoRefused, match="part of it"):
        build(spec, kernel)


def test_a_destination_that_is_none_is_refused(spec: BootIsoSpec, image: Path) -> None:
    with pytest.raises(PathFailed):
        build(spec, image.parent / "missing/boot.iso")
    image.mkdir()
    with changing_nothing(image.parent), pytest.raises(PathFailed):
        build(spec, image)


def test_room_is_asked_for_beforehand(spec: BootIsoSpec, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true = os.statvfs(image.parent)
    blocks = 5 * MIB // true.f_frsize
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((*true[:4], blocks, *true[5:])))
    with changing_nothing(image.parent), pytest.raises(NotEnoughRoom) as refused:
        build(spec, image)
    assert refused.value.wanted >= estimated_size(spec)


@pytest.mark.skipif((MODULES_DIRECTORY / "arm64-efi").exists(), reason="this machine has GRUB for arm64")
def test_a_grub_that_is_not_installed_is_named(spec: BootIsoSpec, image: Path) -> None:
    with changing_nothing(image.parent), pytest.raises(ToolMissing, match="grub-efi-arm64-bin"):
        build(replace(spec, architecture=Architecture.AARCH64), image)


@pytest.fixture
def false_xorriso(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that is found before the true one; a test writes it."""
    program = tmp_path / "programs/xorriso"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


HALF = 'while [ "$1" != -o ]; do shift; done; echo half >"$2"'
FAILING = f"{HALF}; echo 'no space left' >&2; exit 5"


@pytest.mark.parametrize(("script", "error"), [(FAILING, ProgramFailed), (HALF, BootIsoRefused)])
def test_nothing_is_left_when_xorriso_fails(
    spec: BootIsoSpec, image: Path, false_xorriso: Path, script: str, error: type[DiskError]
) -> None:
    false_xorriso.write_text(f"#!/bin/sh\n{script}\n")
    image.write_bytes(b"what was there before")
    with changing_nothing(image.parent), pytest.raises(error):
        build(spec, image)


def test_nothing_is_left_when_it_is_cancelled(spec: BootIsoSpec, image: Path, false_xorriso: Path) -> None:
    started = image.parent.parent / "started"
    false_xorriso.write_text(f"#!/bin/sh\n{HALF}; touch {started}; exec sleep 60\n")
    cancel = Cancellation()

    def throw() -> None:
        while not started.exists():
            time.sleep(0.02)
        cancel.cancel()

    thrower = threading.Thread(target=throw)
    thrower.start()
    with changing_nothing(image.parent), pytest.raises(Cancelled):
        build(spec, image, cancel=cancel)
    thrower.join()


def test_a_cancellation_beforehand_ends_it(spec: BootIsoSpec, image: Path) -> None:
    cancel = Cancellation()
    cancel.cancel()
    with changing_nothing(image.parent), pytest.raises(Cancelled):
        build(spec, image, cancel=cancel)


@pytest.mark.parametrize("change", ["echo more >>", "touch -d '1 hour'", "rm"])
def test_a_kernel_that_changes_meanwhile_is_noticed(
    spec: BootIsoSpec, image: Path, false_xorriso: Path, change: str
) -> None:
    false_xorriso.write_text(f"#!/bin/sh\n/usr/bin/xorriso \"$@\"; {change} '{spec.kernel}'\n")
    with changing_nothing(image.parent), pytest.raises(SourceChanged):
        build(spec, image)


def test_the_signed_loaders_are_the_distributions(spec: BootIsoSpec, image: Path) -> None:
    build(replace(spec, signed=True), image)
    report = said_by("xorriso", "-indev", image, "-report_el_torito", "plain", "-report_system_area", "plain")
    start, size = map(int, re.findall(r"^GPT start and size : +2 +(\d+) +(\d+)$", report, re.MULTILINE)[0])
    esp = image.parent / "esp"
    esp.write_bytes(image.read_bytes()[start * 512 : (start + size) * 512])
    for path, origin in {
        "EFI/BOOT/BOOTX64.EFI": "/usr/lib/shim/shimx64.efi.signed",
        "EFI/BOOT/grubx64.efi": "/usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed",
    }.items():
        found = subprocess.run(["mcopy", "-i", esp, f"::/{path}", "-"], check=True, capture_output=True).stdout
        assert found == Path(origin).read_bytes()


def test_a_partition_that_xorriso_did_not_read_is_found(
    spec: BootIsoSpec, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing where the file of a partition can't be read, and fills it with zeros (xorriso 1.5.4)."""
    image.write_bytes(b"before")
    run = process.run

    def lossy(*argv: str, **options: object) -> object:
        done = run(*argv, **options)  # type: ignore[arg-type]
        if argv[0] == "xorriso":
            place = Path(argv[argv.index("-o") + 1])
            data = place.read_bytes()
            at = data.rindex(b"BOOTX64")
            place.write_bytes(data[:at] + bytes(7) + data[at + 7 :])
        return done

    monkeypatch.setattr(process, "run", lossy)
    with pytest.raises(BootIsoRefused, match="whole ISO"):
        build(spec, image)
    assert {path.name: path.read_bytes() for path in image.parent.iterdir()} == {"boot.iso": b"before"}


def test_xorriso_takes_no_zeros_for_what_it_cannot_read(
    spec: BootIsoSpec, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    run = process.run

    def noted(*argv: str, **options: object) -> object:
        asked.append(argv)
        return run(*argv, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "run", noted)
    build(spec, image)
    (argv,) = (argv for argv in asked if argv[0] == "xorriso")
    assert argv[1:7] == ("-no_rc", "-abort_on", "MISHAP", "-return_with", "MISHAP", "32")
