from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from libironic_disk import filesystems
from libironic_disk.errors import DeviceBusy, DeviceFailed
from libironic_disk.machine.boot import reidentifying
from libironic_disk.machine.disks import loop
from libironic_disk.machine.trees import growing
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.pure.disks.layout import FileSystem

pytestmark = pytest.mark.loopdevice

MIB = 1024 * 1024
SYSTEMS = [FileSystem.EXT2, FileSystem.EXT3, FileSystem.EXT4, FileSystem.XFS, FileSystem.BTRFS]
MOUNT_AND_HANG = """
import sys, time
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.pure.disks.layout import FileSystem
with mounted(sys.argv[1], FileSystem.EXT4, read_only=False):
    print("mounted", flush=True)
    time.sleep(60)
"""


def make(path: Path, filesystem: FileSystem) -> None:
    with path.open("wb") as file:
        file.truncate((320 if filesystem is FileSystem.XFS else 128) * MIB)
    with loop.attached(str(path), sector_size=512) as node:
        filesystems.make(filesystem, node, label="", uuid=str(uuid.uuid4()))


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[str]:
    make(tmp_path / "image", FileSystem.EXT4)
    with loop.attached(str(tmp_path / "image"), sector_size=512) as node:
        yield node


def write(directory: int, name: str, data: bytes) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=directory)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def names(directory: int) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries]


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def exclusive(node: str) -> None:
    os.close(os.open(node, os.O_RDONLY | os.O_EXCL))


@pytest.mark.parametrize("filesystem", SYSTEMS)
def test_what_was_written_is_there_and_nobody_else_saw_the_mount(tmp_path: Path, filesystem: FileSystem) -> None:
    make(tmp_path / "image", filesystem)
    with loop.attached(str(tmp_path / "image"), sector_size=512) as node:
        with mounted(node, filesystem, read_only=False) as directory:
            write(directory, "file", b"contents")
            assert node not in Path("/proc/self/mountinfo").read_text()
            flags = os.fstatvfs(directory).f_flag
            assert flags & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC) == os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC
            assert not flags & os.ST_RDONLY
            with pytest.raises(OSError, match="busy"):
                exclusive(node)
        exclusive(node)
        with mounted(node, filesystem) as directory:
            assert os.fstatvfs(directory).f_flag & os.ST_RDONLY
            assert names(directory).count("file") == 1
            with pytest.raises(OSError, match="Read-only"):
                write(directory, "file2", b"")
        exclusive(node)


@pytest.mark.parametrize("filesystem", SYSTEMS)
def test_read_only_changes_no_byte_not_even_of_an_unclean_journal(tmp_path: Path, filesystem: FileSystem) -> None:
    clean, unclean = tmp_path / "clean", tmp_path / "unclean"
    make(clean, filesystem)
    with (
        loop.attached(str(clean), sector_size=512) as node,
        mounted(node, filesystem, read_only=False) as directory,
    ):
        write(directory, "file", b"contents")
        # The state of a machine that lost its power.
        shutil.copyfile(clean, unclean)
    before = digest(unclean)
    if filesystem in {FileSystem.EXT3, FileSystem.EXT4}:
        facts = subprocess.run(["dumpe2fs", "-h", unclean], capture_output=True, text=True, check=True).stdout
        assert "needs_recovery" in facts
    with loop.attached(str(unclean), sector_size=512) as node, mounted(node, filesystem) as directory:
        names(directory)
    assert digest(unclean) == before


def test_xfs_mounts_beside_its_own_twin(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    make(one, FileSystem.XFS)
    shutil.copyfile(one, two)
    with (
        loop.attached(str(one), sector_size=512) as first,
        loop.attached(str(two), sector_size=512) as second,
        mounted(first, FileSystem.XFS),
        mounted(second, FileSystem.XFS, read_only=False) as directory,
    ):
        write(directory, "file", b"2")


def test_a_superblock_can_not_ask_for_a_panic(tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(image, FileSystem.EXT4)
    subprocess.run(["tune2fs", "-e", "panic", image], check=True, capture_output=True)
    with loop.attached(str(image), sector_size=512) as node, mounted(node, FileSystem.EXT4, read_only=False):
        state = Path(f"/sys/fs/ext4/{Path(node).name}")
        assert state.is_dir()
        options = Path(f"/proc/fs/ext4/{Path(node).name}/options").read_text().split()
    assert "errors=remount-ro" in options


def test_a_kill_leaves_nothing(ext4: str) -> None:
    with subprocess.Popen([sys.executable, "-c", MOUNT_AND_HANG, ext4], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"mounted\n"
        with pytest.raises(OSError, match="busy"):
            exclusive(ext4)
        child.send_signal(signal.SIGKILL)
        child.wait()
    deadline = time.monotonic() + 5
    while True:
        try:
            exclusive(ext4)
        except OSError:
            assert time.monotonic() < deadline, "the device is still busy"
            time.sleep(0.01)
        else:
            break


def test_a_descriptor_left_open_is_a_named_error_and_not_a_hang(ext4: str) -> None:
    kept = -1
    try:
        with pytest.raises(DeviceBusy) as caught, mounted(ext4, FileSystem.EXT4, release_timeout=0.1) as directory:
            kept = os.open(".", os.O_RDONLY, dir_fd=directory)
        assert caught.value.device == ext4
    finally:
        os.close(kept)
    exclusive(ext4)


def test_the_first_error_stays_the_first(ext4: str) -> None:
    kept = -1
    try:
        with (
            pytest.raises(KeyError) as caught,
            mounted(ext4, FileSystem.EXT4, read_only=False, release_timeout=0.1) as directory,
        ):
            kept = os.open(".", os.O_RDONLY, dir_fd=directory)
            raise KeyError("first")
        assert "not let go" in caught.value.__notes__[0]
    finally:
        os.close(kept)


def test_what_can_not_be_mounted_says_why(tmp_path: Path, ext4: str) -> None:
    with pytest.raises(DeviceFailed) as caught, mounted(ext4, FileSystem.XFS):
        pass
    assert (caught.value.device, caught.value.action) == (ext4, "mounting xfs on")
    assert caught.value.reason
    with pytest.raises(DeviceFailed, match="no swap"), mounted(ext4, FileSystem.SWAP):
        pass
    with (
        pytest.raises(DeviceFailed, match=r"[Uu]nknown parameter 'bogus'"),
        mounted(ext4, FileSystem.EXT4, options=("bogus",)),
    ):
        pass
    with pytest.raises(DeviceFailed), mounted(str(tmp_path / "none"), FileSystem.EXT4):
        pass
    exclusive(ext4)


def test_a_device_that_somebody_holds_is_reported_at_once(ext4: str) -> None:
    holder = os.open(ext4, os.O_RDONLY | os.O_EXCL)
    try:
        started = time.monotonic()
        with pytest.raises(DeviceFailed, match="busy"), mounted(ext4, FileSystem.EXT4, release_timeout=60):
            pass
        assert time.monotonic() - started < 30
    finally:
        os.close(holder)


def test_a_journal_on_another_device_is_not_touched(tmp_path: Path) -> None:
    """An image's superblock names it by its number or path: it may be any disk of this machine."""
    journal, image = tmp_path / "journal", tmp_path / "image"
    for path in (journal, image):
        path.write_bytes(bytes(64 * MIB))
    with (
        loop.attached(str(journal), sector_size=512) as other,
        loop.attached(str(image), sector_size=512) as node,
    ):
        subprocess.run(["mke2fs", "-q", "-F", "-b", "4096", "-O", "journal_dev", other], check=True)
        argv = ["mke2fs", "-q", "-F", "-b", "4096", "-t", "ext4", "-J", f"device={other}", node]
        subprocess.run(argv, check=True, capture_output=True)
        before = digest(journal), digest(image)
        for work in (
            lambda: mounted(node, FileSystem.EXT4, read_only=False).__enter__(),
            lambda: growing.grow(node, FileSystem.EXT4),
            lambda: reidentifying.new_uuid(node, FileSystem.EXT4, str(uuid.uuid4())),
        ):
            with pytest.raises(DeviceFailed, match="its journal is on another device"):
                work()
        assert (digest(journal), digest(image)) == before
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", node], check=True, capture_output=True)
        subprocess.run(["tune2fs", "-E", f"mount_opts=journal_path={other}", node], check=True, capture_output=True)
        with pytest.raises(DeviceFailed, match="its own mount options name a device"), mounted(node, FileSystem.EXT4):
            pass
        exclusive(node)
        exclusive(other)


def test_one_of_the_devices_of_a_btrfs_is_not_mounted(tmp_path: Path) -> None:
    """The kernel joins it with whatever device of this machine says that it belongs to it."""
    one, two = tmp_path / "one", tmp_path / "two"
    for path in (one, two):
        path.write_bytes(bytes(128 * MIB))
    with loop.attached(str(one), sector_size=512) as first, loop.attached(str(two), sector_size=512) as second:
        subprocess.run(["mkfs.btrfs", "-q", "-f", first, second], check=True, capture_output=True)
        for node in (first, second):
            with pytest.raises(DeviceFailed, match="its btrfs is on 2 devices"), mounted(node, FileSystem.BTRFS):
                pass
            exclusive(node)


@pytest.mark.parametrize("ahead", ["5 hours", "9 years"])
def test_an_image_from_a_machine_whose_clock_is_ahead_grows(tmp_path: Path, ahead: str) -> None:
    """A battery is flat, or a clock runs in local time: e2fsck finds times to come, and resize2fs compares them."""
    image = tmp_path / "image"
    make(image, FileSystem.EXT4)
    then = subprocess.run(
        ["date", "-u", "-d", f"+{ahead}", "+%Y%m%d%H%M%S"], check=True, capture_output=True, text=True
    )
    for field in ("mtime", "wtime", "lastcheck"):
        request = f"set_super_value {field} {then.stdout.strip()}"
        subprocess.run(["debugfs", "-w", "-R", request, image], check=True, capture_output=True)
    os.truncate(image, 192 * MIB)
    with loop.attached(str(image), sector_size=512) as node:
        growing.grow(node, FileSystem.EXT4)
        with mounted(node, FileSystem.EXT4) as root:
            found = os.fstatvfs(root)
            assert found.f_blocks * found.f_frsize > 150 * MIB
