"""File systems that get another UUID; blkid and their own checkers agree."""

from __future__ import annotations

import pytest

from libironic_disk import filesystems
from libironic_disk.errors import ProgramFailed
from libironic_disk.machine import process
from libironic_disk.machine.boot import reidentifying
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support import multiboot_partition, oracles

pytestmark = pytest.mark.loopdevice

OLD, NEW = "aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002"
WITHOUT_FILES = {FileSystem.SWAP, FileSystem.VFAT}


@pytest.mark.parametrize("filesystem", list(FileSystem))
def test_a_file_system_gets_another_uuid_and_keeps_its_files(bench: Bench, filesystem: FileSystem) -> None:
    process.require(reidentifying.required_tools([filesystem]))
    old, new = ("1A2B-3C4D", "0B0B-0C0C") if filesystem is FileSystem.VFAT else (OLD, NEW)
    node = bench.disk(320 * MIB, 512).node
    filesystems.make(filesystem, node, label="mine", uuid=old)
    if filesystem not in WITHOUT_FILES:
        multiboot_partition.write(node, filesystem, {"/etc/file": b"kept"})
    reidentifying.new_uuid(node, filesystem, new)
    found = oracles.blkid(node)
    assert (found["UUID"], found["TYPE"], found["LABEL"]) == (new, filesystem, "mine")
    oracles.check_filesystem(filesystem, node)


def test_a_file_system_that_is_no_file_system(bench: Bench) -> None:
    with pytest.raises(ProgramFailed):
        reidentifying.new_uuid(bench.disk(16 * MIB, 512).node, FileSystem.EXT4, NEW)
