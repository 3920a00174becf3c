"""Disks that were taken out while they are open: Linux leaves them without a byte, as a loop device on no bytes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from libironic_disk.errors import DeviceFailed
from libironic_disk.machine.disks import disk_io
from libironic_disk.machine.disks.overlay import Overlay
from libironic_disk.machine.images.target import open_target
from libironic_disk.pure.tables.model import Extent
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support.disks import LoopDisk

pytestmark = pytest.mark.loopdevice

GONE = "the disk isn't there any more"


@pytest.fixture
def disk(bench: Bench) -> LoopDisk:
    return bench.disk(8 * MIB, 512)


@pytest.fixture
def opened(disk: LoopDisk) -> Iterator[int]:
    with disk_io.opened(disk.node, os.O_RDWR) as fd:
        yield fd


def take_out(disk: LoopDisk) -> None:
    os.truncate(disk.file, 0)
    subprocess.run(["losetup", "--set-capacity", disk.node], check=True)


def test_it_is_not_read_as_one_that_ends(disk: LoopDisk, opened: int) -> None:
    """What is decided from its bytes would blame the image that was written there."""
    coming = Overlay(opened, disk.node, [Extent(0, bytes(MIB))])
    take_out(disk)
    with pytest.raises(DeviceFailed, match=f"reading {disk.node} at byte 0 failed: {GONE}"):
        coming.read(0, 2 * MIB)


def test_it_is_not_full(disk: LoopDisk, opened: int) -> None:
    take_out(disk)
    with pytest.raises(DeviceFailed, match=f"writing {disk.node} at byte 4096 failed: {GONE}"):
        disk_io.write(opened, disk.node, [Extent(4096, bytes(512))])


def test_an_image_that_is_written_to_it_is_told_so(disk: LoopDisk) -> None:
    with open_target(disk.node, capacity=8 * MIB) as target:
        take_out(disk)
        with pytest.raises(DeviceFailed, match=f"writing {disk.node} at byte 0 failed: {GONE}"):
            target.write(0, memoryview(bytes(MIB)))
        with pytest.raises(DeviceFailed, match=f"reading {disk.node} at byte 0 failed: {GONE}"):
            target.recall(0, 4096)


def test_the_end_of_a_disk_is_still_one(disk: LoopDisk, opened: int) -> None:
    assert disk_io.reader(opened, disk.node)(8 * MIB - 512, 4096) == bytes(512)
