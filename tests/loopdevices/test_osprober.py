"""os-prober's own probes, on the file systems that they are given and on no other."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
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


def on(filesystem: FileSystem) -> Place:
    return Place(filesystem=filesystem, uuid=UUID)


def root(bench: Bench, filesystem: FileSystem, files: dict[str, bytes]) -> str:
    node = bench.disk(320 * MIB, 512).node
    # Another one each time: mkfs.btrfs refuses a UUID that blkid's cache knows of a disk of another test, or run.
    filesystems.make(filesystem, node, label="", uuid=str(uuid.uuid4()))
    multiboot_partition.write(node, filesystem, files)
    return node


@pytest.mark.parametrize("filesystem", [FileSystem.EXT4, FileSystem.XFS, FileSystem.BTRFS])
def test_a_system_is_found_and_the_disk_stays_as_it_is(bench: Bench, filesystem: FileSystem) -> None:
    node = root(bench, filesystem, SYSTEM)
    before = Path(node).read_bytes()
    report = osprober.probe({node: on(filesystem)})
    assert report.problems == ()
    (found,) = report.found
    assert (found.node, found.kind) == (node, "linux")
    assert found.title.startswith("A system")
    assert Path(node).read_bytes() == before


def test_a_file_system_without_a_system(bench: Bench) -> None:
    node = root(bench, FileSystem.EXT4, {"/data": b"x"})
    assert osprober.probe({node: on(FileSystem.EXT4)}) == osprober.OsProberReport()


def test_a_machine_without_os_prober(bench: Bench, tmp_path: Path) -> None:
    report = osprober.probe({"/dev/null": on(FileSystem.EXT4)}, probes=tmp_path)
    assert report.problems == ("os-prober isn't installed: its opinion is missing",)
    assert report.unseen == {"/dev/null"}


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
        {node: on(FileSystem.EXT4)},
        timeout=1,
        probes=probe_that(tmp_path / "probes", "sleep 60"),
    )
    assert report.found == ()
    (problem,) = report.problems
    assert node in problem
    # The killed probes' mount is gone too, not only on its way out.
    os.close(os.open(node, os.O_RDONLY | os.O_EXCL))
    assert osprober.probe({node: on(FileSystem.EXT4)}).found


@pytest.mark.parametrize("line", ["exit 127", "kill -9 $$"])
def test_a_probe_that_fails_has_not_found_that_there_is_nothing(bench: Bench, tmp_path: Path, line: str) -> None:
    node = root(bench, FileSystem.EXT4, SYSTEM)
    report = osprober.probe({node: on(FileSystem.EXT4)}, probes=probe_that(tmp_path / "probes", line))
    assert report.found == ()
    (problem,) = report.problems
    assert problem.startswith(f"os-prober could not look at {node}: ")
    assert report.unseen == {node}


def test_a_probe_that_says_what_it_likes_is_not_believed(bench: Bench, tmp_path: Path) -> None:
    node = root(bench, FileSystem.EXT4, SYSTEM)
    probes = probe_that(tmp_path / "probes", r"printf '/dev/other:x:y:linux\nno\n%s:a\033[2Jb:x:linux\n' $1; id -u >&2")
    (found,) = osprober.probe({node: on(FileSystem.EXT4)}, probes=probes).found
    assert found == osprober.Found(node=node, title="a [2Jb", kind="linux")


def mount_of(node: str, *, while_running: Future[osprober.OsProberReport]) -> list[str]:
    """Return what any process's mount table says of a device: the probes can't read their own."""
    while not while_running.done():
        for table in Path("/proc").glob("[0-9]*/mountinfo"):
            with suppress(OSError):
                for row in map(str.split, table.read_text().splitlines()):
                    if row[row.index("-") + 2] == node:
                        return row
        time.sleep(0.02)
    raise AssertionError(f"{node} was mounted nowhere")


@pytest.mark.parametrize("filesystem", [FileSystem.EXT2, FileSystem.EXT4])
def test_a_superblock_cannot_ask_for_a_panic(bench: Bench, tmp_path: Path, filesystem: FileSystem) -> None:
    node = root(bench, filesystem, SYSTEM)
    subprocess.run(["tune2fs", "-e", "panic", node], check=True, capture_output=True)
    probes = probe_that(tmp_path / "probes", "touch /tmp/here && sleep 2")
    with ThreadPoolExecutor() as pool:
        done = pool.submit(osprober.probe, {node: on(filesystem)}, probes=probes)
        row = mount_of(node, while_running=done)
        assert done.result().problems == ()
    options = {*row[5].split(","), *row[-1].split(",")}
    assert {"ro", "nosuid", "nodev", "noexec"} <= options
    assert "errors=remount-ro" in options


def test_a_link_does_not_lead_the_probes_into_this_machine(bench: Bench, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("PRETTY_NAME=a secret: of this machine\n")
    secret.chmod(0o600)
    node = root(bench, FileSystem.EXT4, SYSTEM | {"/usr/lib/os-release": b"PRETTY_NAME=Ours\n"})
    with mounted(node, FileSystem.EXT4, read_only=False) as directory:
        for name in ("etc/os-release", "etc/fedora-release"):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
            os.symlink(secret, name, dir_fd=directory)
    (found,) = osprober.probe({node: on(FileSystem.EXT4)}).found
    assert found.title == "Ours"


@pytest.mark.parametrize("filesystem", [FileSystem.EXT4, FileSystem.XFS, FileSystem.BTRFS])
def test_a_disk_that_lost_its_power_stays_as_it_is(bench: Bench, filesystem: FileSystem) -> None:
    """A read-only mount would write: it replays the journal."""
    node = root(bench, filesystem, SYSTEM)
    copy = bench.blank_file(320 * MIB)
    with mounted(node, filesystem, read_only=False) as directory:
        with open("synced", "wb", opener=lambda name, flags: os.open(name, flags, 0o644, dir_fd=directory)) as file:
            file.write(b"x" * 5000)
            file.flush()
            os.fsync(file.fileno())
        shutil.copyfile(node, copy)
    unclean = bench.attach(copy, 512)
    before = unclean.digest()
    report = osprober.probe({unclean.node: on(filesystem)})
    assert report.problems == ()
    assert unclean.digest() == before


def test_a_device_that_somebody_uses_is_a_problem_at_once(bench: Bench) -> None:
    node = root(bench, FileSystem.EXT4, SYSTEM)
    with mounted(node, FileSystem.EXT4):
        (problem,) = osprober.probe({node: on(FileSystem.EXT4)}).problems
    assert "in use" in problem


def test_a_title_that_does_not_end_is_cut(bench: Bench, tmp_path: Path) -> None:
    node = root(bench, FileSystem.EXT4, SYSTEM)
    script = """printf '%s:%0100000d:x:linux\\n' "$1" 0"""
    (found,) = osprober.probe({node: on(FileSystem.EXT4)}, probes=probe_that(tmp_path / "probes", script)).found
    assert 0 < len(found.title) < 1000


def test_a_device_that_cannot_be_mounted_is_a_problem(bench: Bench) -> None:
    (problem,) = osprober.probe({bench.disk(16 * MIB, 512).node: on(FileSystem.EXT4)}).problems
    assert "could not look at" in problem


def test_what_everybody_may_read_of_this_machine_is_not_read_either(bench: Bench) -> None:
    public = Path(f"/tmp/libironic_disk-public-{os.getpid()}")
    public.write_text("PRETTY_NAME=of this machine\n")
    public.chmod(0o644)
    try:
        node = root(bench, FileSystem.EXT4, SYSTEM | {"/usr/lib/os-release": b"PRETTY_NAME=Ours\n"})
        with mounted(node, FileSystem.EXT4, read_only=False) as directory:
            os.unlink("etc/os-release", dir_fd=directory)
            os.symlink(public, "etc/os-release", dir_fd=directory)
        (found,) = osprober.probe({node: on(FileSystem.EXT4)}).found
        assert found.title == "Ours"
    finally:
        public.unlink()


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/null", "/proc/kmsg", "/etc/shadow"])
def test_a_link_to_this_machine_s_devices_is_no_trap(bench: Bench, target: str) -> None:
    node = root(bench, FileSystem.EXT4, {"/usr/lib64/ld-linux.so.2": b"", "/boot/vmlinuz-1": b""})
    with mounted(node, FileSystem.EXT4, read_only=False) as descriptor:
        folder = Path(f"/proc/self/fd/{descriptor}/etc")
        folder.mkdir()
        (folder / "debian_version").symlink_to(target)
    started = time.monotonic()
    report = osprober.probe({node: on(FileSystem.EXT4)})
    assert time.monotonic() - started < 30
    assert "root:" not in str(report)


def test_a_caller_may_cancel(bench: Bench) -> None:
    node = root(bench, FileSystem.EXT4, SYSTEM)
    cancel = Cancellation()
    cancel.cancel()
    with pytest.raises(Cancelled):
        osprober.probe({node: on(FileSystem.EXT4)}, cancel=cancel)
