"""os-prober's own probes, on the file systems that they are given and on no other."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from libironic_disk import filesystems
from libironic_disk.errors import Cancelled
from libironic_disk.events import Cancellation
from libironic_disk.machine.boot import osprober
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.pure.boot.menurecord import Place
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support import multiboot_partition

pytestmark = pytest.mark.loopdevice

UUID = "aaaaaaaa-0000-4000-8000-000000000001"
SYSTEM = {
    "/etc/os-release": b'NAME="Test"\nPRETTY_NAME="A system: of \'ours\'"\n',
    "/usr/lib64/ld-linux-x86-64.so.2": b"",
    "/boot/vmlinuz-1": b"",
    # What the other half of os-prober would hand to a shell.
    "/boot/vmlinuz-$(touch${IFS}$HOME)": b"",
}


def root(bench: Bench, filesystem: FileSystem, files: dict[str, bytes]) -> str:
    node = bench.disk(320 * MIB, 512).node
    filesystems.make(filesystem, node, label="", uuid=UUID)
    multiboot_partition.write(node, filesystem, files)
    return node


@pytest.mark.parametrize("filesystem", [FileSystem.EXT4, FileSystem.XFS, FileSystem.BTRFS])
def test_a_system_is_found_and_the_disk_stays_as_it_is(bench: Bench, filesystem: FileSystem) -> None:
    node = root(bench, filesystem, SYSTEM)
    before = Path(node).read_bytes()
    report = osprober.probe({node: Place(filesystem=filesystem, uuid=UUID)})
    assert report.problems == ()
    (found,) = report.found
    assert (found.node, found.kind) == (node, "linux")
    assert found.title.startswith("A system")
    assert Path(node).read_bytes() == before


def test_a_file_system_without_a_system(bench: Bench) -> None:
    node = root(bench, FileSystem.EXT4, {"/data": b"x"})
    assert osprober.probe({node: Place(filesystem=FileSystem.EXT4, uuid=UUID)}) == osprober.OsProberReport()


def test_a_machine_without_os_prober(bench: Bench, tmp_path: Path) -> None:
    report = osprober.probe({"/dev/null": Place(filesystem=FileSystem.EXT4, uuid=UUID)}, probes=tmp_path)
    assert report.problems == ("os-prober isn't installed: its opinion is missing",)


def probe_that(folder: Path, line: str) -> Path:
    folder.mkdir()
    script = folder / "90linux-distro"
    script.write_text(f"#!/bin/sh\n{line}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    for each in (folder, *folder.parents):
        if each == Path("/tmp"):
            break
        each.chmod(0o755)
    return folder


def test_a_probe_that_hangs_is_a_problem_and_no_error(bench: Bench, tmp_path: Path) -> None:
    """It waits for /dev/fuse, say (bareon.md, 4)."""
    node = root(bench, FileSystem.EXT4, SYSTEM)
    report = osprober.probe(
        {node: Place(filesystem=FileSystem.EXT4, uuid=UUID)},
        timeout=1,
        probes=probe_that(tmp_path / "probes", "sleep 60"),
    )
    assert report.found == ()
    (problem,) = report.problems
    assert node in problem
    assert osprober.probe({node: Place(filesystem=FileSystem.EXT4, uuid=UUID)}).found


def test_a_probe_that_says_what_it_likes_is_not_believed(bench: Bench, tmp_path: Path) -> None:
    node = root(bench, FileSystem.EXT4, SYSTEM)
    probes = probe_that(tmp_path / "probes", r"printf '/dev/other:x:y:linux\nno\n%s:a\033[2Jb:x:linux\n' $1; id -u >&2")
    (found,) = osprober.probe({node: Place(filesystem=FileSystem.EXT4, uuid=UUID)}, probes=probes).found
    assert found == osprober.Found(node=node, title="a [2Jb", kind="linux")


def test_a_device_that_cannot_be_mounted_is_a_problem(bench: Bench) -> None:
    (problem,) = osprober.probe({bench.disk(16 * MIB, 512).node: Place(filesystem=FileSystem.EXT4, uuid=UUID)}).problems
    assert "could not look at" in problem


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/null", "/proc/kmsg", "/etc/shadow"])
def test_a_link_to_this_machine_s_devices_is_no_trap(bench: Bench, target: str) -> None:
    node = root(bench, FileSystem.EXT4, {"/usr/lib64/ld-linux.so.2": b"", "/boot/vmlinuz-1": b""})
    with mounted(node, FileSystem.EXT4, read_only=False) as descriptor:
        folder = Path(f"/proc/self/fd/{descriptor}/etc")
        folder.mkdir()
        (folder / "debian_version").symlink_to(target)
    started = time.monotonic()
    report = osprober.probe({node: Place(filesystem=FileSystem.EXT4, uuid=UUID)})
    assert time.monotonic() - started < 30
    assert "root:" not in str(report)


def test_a_caller_may_cancel(bench: Bench) -> None:
    node = root(bench, FileSystem.EXT4, SYSTEM)
    cancel = Cancellation()
    cancel.cancel()
    with pytest.raises(Cancelled):
        osprober.probe({node: Place(filesystem=FileSystem.EXT4, uuid=UUID)}, cancel=cancel)
