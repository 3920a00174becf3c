"""What of tests/unit/machine/test_rootfs.py needs root."""

from __future__ import annotations

import os
import stat
import subprocess
import uuid
from pathlib import Path

import pytest

from libironic_disk import filesystems
from libironic_disk.errors import PathFailed
from libironic_disk.machine.disks import loop
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import Opener, RootDir, open_in_root
from libironic_disk.machine.trees.treewalk import open_walking
from libironic_disk.pure.disks.layout import FileSystem

pytestmark = pytest.mark.loopdevice

OPENERS = pytest.mark.parametrize("opener", [open_in_root, open_walking], ids=["openat2", "walk"])


@OPENERS
def test_a_device_is_not_opened(tmp_path: Path, opener: Opener) -> None:
    os.mknod(tmp_path / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(tmp_path / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    descriptor = os.open(tmp_path, os.O_PATH)
    try:
        tree = RootDir(descriptor, tree="/dev/test", opener=opener)
        for name in ("device", "disk"):
            assert tree.exists(name)
            assert not tree.is_file(name)
            with pytest.raises(PathFailed, match="not a regular file"):
                tree.read_file(name, limit=1)
        tree.write_file("device", b"a file now")
        assert (tmp_path / "device").read_bytes() == b"a file now"
    finally:
        os.close(descriptor)


@OPENERS
def test_a_btrfs_subvolume_is_no_other_mount(tmp_path: Path, opener: Opener) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(128 * 1024 * 1024)
    with loop.attached(str(image), sector_size=512) as node:
        filesystems.make(FileSystem.BTRFS, node, label="", uuid=str(uuid.uuid4()))
        (tmp_path / "mnt").mkdir()
        script = 'mount "$1" "$2" && btrfs subvolume create "$2/@" && echo inside > "$2/@/file"'
        argv = ["unshare", "--mount", "sh", "-c", script, "sh", node, str(tmp_path / "mnt")]
        subprocess.run(argv, check=True, capture_output=True)
        with mounted(node, FileSystem.BTRFS) as descriptor:
            tree = RootDir(descriptor, tree=node, opener=opener)
            assert tree.read_file("/@/file", limit=100) == b"inside\n"


def test_a_directory_that_is_damaged_is_a_typed_error(tmp_path: Path) -> None:
    image = tmp_path / "image"
    (tmp_path / "tree/boot").mkdir(parents=True)
    (tmp_path / "tree/boot/vmlinuz-1").touch()
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(tmp_path / "tree"), str(image), "8M"], check=True)
    said = subprocess.run(["debugfs", "-R", "blocks /boot", str(image)], check=True, capture_output=True, text=True)
    with image.open("r+b") as file:
        file.seek(int(said.stdout.split()[0]) * 1024 + 24)
        file.write(b"\xff" * 64)
    with (
        loop.attached(str(image), sector_size=512) as node,
        mounted(node, FileSystem.EXT4) as descriptor,
        pytest.raises(PathFailed, match="/boot in the file system"),
    ):
        RootDir(descriptor, tree=node).names("/boot")
