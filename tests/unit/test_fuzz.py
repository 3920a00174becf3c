"""The fuzzer finds what is to be found, and short runs of it find nothing in the package; long ones: make fuzz."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).parent.parent.parent
_FOUND = 77  # libFuzzer's exit status
# How many inputs of each target are tried here, and what has to become of some of them: else it tries nothing.
TARGETS = {
    "bootcsv": (1050, ("0 loaders", "3 loaders")),
    "bootinfo": (1050, ("boot info", "a menu's record", "DocumentInvalid")),
    "checksums": (1050, ("sha256", "nothing", "ChecksumInvalid")),
    "compression": (130, ("gzip", "xz", "zstd", "bzip2", "refused")),
    "descriptions": (520, ("2 images", "refused")),
    "drives": (130, ("iso9660, 3 files", "vfat, 3 files", "ConfigDriveInvalid")),
    "efientries": (1050, ("0 kept", "1 kept", "1 removed")),
    "fstab": (520, ("0 mounts", "3 mounts")),
    "grubenv": (1050, ("3 variables", "MultibootDamaged")),
    "http": (130, ("parts", "no parts", "SourceFailed", "ServerRefused")),
    "isos": (130, ("5 files, 2 boot images, grown", "boot images, changed", "refused", "IsoInvalid")),
    "loaders": (520, ("grub, 2 kernels", "syslinux, 2 kernels", "loader-entry, 1 kernels", "LoaderConfigRefused")),
    "loaderentries": (1050, ("a command line", "KernelParametersInvalid")),
    "menus": (1050, ("0 entries", "1 entries", "3 entries")),
    "netboots": (1050, ("for PXELINUX, GRUB, iPXE", "InvalidParameterValue", "KernelParametersInvalid")),
    "plans": (520, ("a layout", "a plan", "DocumentInvalid")),
    "records": (1050, ("DocumentInvalid", "0 parts", "2 parts")),
    "redfish": (130, ("VirtualMediaFailed", "1 slots", "2 slots")),
    "superblocks": (130, ("a size", "no size")),
    "tables": (520, ("gpt", "mbr", "none", "gpt with problems", "mbr with problems")),
    "wholedisks": (520, ("a drive", "grown", "ImageRefused", "LayoutDoesNotFit", "TableLimit")),
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments], cwd=TREE, capture_output=True, text=True, check=False
    )


def places(home: Path) -> list[str]:
    return ["--corpus", str(home / "corpus"), "--findings", str(home / "findings")]


def test_a_planted_defect_is_found_kept_and_replayed(tmp_path: Path) -> None:
    found = run("planted", "--runs", "1000000", "--seed", "1", *places(tmp_path))
    assert found.returncode == _FOUND, found.stderr[-2000:]
    saved = sorted((tmp_path / "findings" / "planted").iterdir())
    assert {path.read_bytes() for path in saved} == {b"QFI\xfb"}
    replayed = run("planted", "--replay", str(saved[0]))
    assert replayed.returncode == 1
    assert "AssertionError: the planted defect" in replayed.stderr


@pytest.mark.timeout(300)
def test_no_mutated_image_is_read_otherwise_than_by_qemu_img(tmp_path: Path) -> None:
    quiet = run("qcow2", "--runs", "1500", "--seed", "20261125", *places(tmp_path))
    assert quiet.returncode == 0, quiet.stderr[-4000:]
    assert not list((tmp_path / "findings" / "qcow2").iterdir())
    # Coverage guides it: what reached new code was kept beside the seeds.
    assert len(list((tmp_path / "corpus" / "qcow2").iterdir())) > 100
    assert "as qemu-img" in quiet.stderr
    assert "ImageRefused" in quiet.stderr


def test_every_target_is_tried_here() -> None:
    modules = (TREE / "tests" / "fuzz" / "targets").glob("*.py")
    assert {path.stem for path in modules} - {"__init__", "planted", "qcow2"} == {*TARGETS}


@pytest.mark.timeout(600)
def test_no_input_of_any_target_gets_the_better_of_the_package(tmp_path: Path) -> None:
    for runs in sorted({runs for runs, _ in TARGETS.values()}):
        names = [name for name, (each, _) in TARGETS.items() if each == runs]
        quiet = run(*names, "--runs", str(runs), "--seed", "20261128", *places(tmp_path))
        assert quiet.returncode == 0, quiet.stderr[-4000:]
        for name in names:
            said = "\n".join(line for line in quiet.stderr.splitlines() if line.startswith(f"fuzz: {name}, "))
            assert not [outcome for outcome in TARGETS[name][1] if outcome not in said], said
