"""File systems that get another UUID; blkid and their own checkers agree."""

from __future__ import annotations

import os
import shutil
import uuid

import pytest

from libironic_disk import filesystems
from libironic_disk.errors import ProgramFailed
from libironic_disk.machine import process
from libironic_disk.machine.boot import reidentifying
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.disks import ids
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support import multiboot_partition, oracles

pytestmark = pytest.mark.loopdevice

WITHOUT_FILES = {FileSystem.SWAP, FileSystem.VFAT}


def two_uuids(filesystem: FileSystem) -> tuple[str, str]:
    """Others for each test: mkfs.btrfs refuses one that blkid's cache knows of a disk of another test, or run."""
    one, two = uuid.uuid4(), uuid.uuid4()
    return (ids.fat_volume_id(one), ids.fat_volume_id(two)) if filesystem is FileSystem.VFAT else (str(one), str(two))


@pytest.mark.parametrize("filesystem", list(FileSystem))
def test_a_file_system_gets_another_uuid_and_keeps_its_files(bench: Bench, filesystem: FileSystem) -> None:
    process.require(reidentifying.required_tools([filesystem]))
    old, new = two_uuids(filesystem)
    node = bench.disk(320 * MIB, 512).node
    filesystems.make(filesystem, node, label="mine", uuid=old)
    if filesystem not in WITHOUT_FILES:
        multiboot_partition.write(node, filesystem, {"/etc/file": b"kept"})
    reidentifying.new_uuid(node, filesystem, new)
    found = oracles.blkid(node)
    assert (found["UUID"], found["TYPE"], found["LABEL"]) == (new, filesystem, "mine")
    oracles.check_filesystem(filesystem, node)


@pytest.mark.parametrize("filesystem", [each for each in FileSystem if each is not FileSystem.SWAP])
def test_grub_finds_it_by_the_new_uuid_and_reads_its_files(bench: Bench, filesystem: FileSystem) -> None:
    old, new = two_uuids(filesystem)
    node = bench.disk(320 * MIB, 512).node
    filesystems.make(filesystem, node, label="mine", uuid=old)
    if filesystem is not FileSystem.VFAT:
        multiboot_partition.write(node, filesystem, {"/file": b"kept"})
    reidentifying.new_uuid(node, filesystem, new)
    found = oracles.output("grub-probe", "--target=fs_uuid", "--device", node)
    assert found.strip().lower() == new.lower()
    if filesystem is not FileSystem.VFAT:
        assert oracles.output("grub-fstest", node, "cat", "(loop0)/file") == "kept"


@pytest.mark.parametrize("filesystem", [FileSystem.EXT4, FileSystem.XFS, FileSystem.BTRFS])
def test_a_copy_of_a_system_that_lost_its_power(bench: Bench, filesystem: FileSystem) -> None:
    """Its journal is replayed first, beside a twin with the same UUID."""
    old, new = two_uuids(filesystem)
    node = bench.disk(320 * MIB, 512).node
    filesystems.make(filesystem, node, label="mine", uuid=old)
    copy = bench.blank_file(320 * MIB)
    with mounted(node, filesystem, read_only=False) as directory:
        with open("synced", "wb", opener=lambda name, flags: os.open(name, flags, 0o644, dir_fd=directory)) as file:
            file.write(b"kept")
            file.flush()
            os.fsync(file.fileno())
        shutil.copyfile(node, copy)
    unclean = bench.attach(copy, 512).node
    reidentifying.new_uuid(unclean, filesystem, new)
    assert oracles.blkid(unclean)["UUID"] == new
    oracles.check_filesystem(filesystem, unclean)
    with mounted(unclean, filesystem) as directory:
        assert RootDir(directory, tree=unclean).read_file("/synced", limit=9) == b"kept"


def test_a_file_system_that_is_no_file_system(bench: Bench) -> None:
    with pytest.raises(ProgramFailed):
        reidentifying.new_uuid(bench.disk(16 * MIB, 512).node, FileSystem.EXT4, str(uuid.uuid4()))
