"""A config drive on a real block device, found there by libblkid as a booting machine would."""

from __future__ import annotations

import pytest

from libironic_disk import configdrive
from libironic_disk.errors import DeviceFailed
from tests.conftest import Bench
from tests.support.oracles import blkid

pytestmark = pytest.mark.loopdevice

MIB = 1024 * 1024


def test_found_by_its_label(bench: Bench, sector_size: int) -> None:
    drive = configdrive.load({"meta_data": {"uuid": "1"}}, sector_size=sector_size)
    disk = bench.disk(MIB, sector_size)
    configdrive.place(drive, disk.node, capacity=MIB)
    facts = blkid(disk.node)
    kind, label = ("iso9660", "config-2") if sector_size == 512 else ("vfat", "CONFIG-2")
    assert (facts["TYPE"], facts["LABEL"]) == (kind, label)
    assert disk.file.read_bytes()[: drive.size] == drive.data


def test_a_partition_that_is_too_small_is_left_alone(bench: Bench, sector_size: int) -> None:
    drive = configdrive.load({"meta_data": {}, "user_data": bytes(MIB)}, sector_size=sector_size)
    disk = bench.disk(MIB, sector_size)
    before = disk.digest()
    with pytest.raises(DeviceFailed):
        configdrive.place(drive, disk.node, capacity=MIB)
    assert disk.digest() == before
