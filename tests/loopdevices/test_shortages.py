"""Want of descriptors is no answer: nothing counts as absent or unused because the kernel had no descriptor to give."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from libironic_disk.errors import DeviceFailed, DeviceLocked
from libironic_disk.machine.disks import claims, lookup, sysfs
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support.disks import LoopDisk
from tests.support.refusing import refuse

pytestmark = pytest.mark.loopdevice


@pytest.fixture
def disk(bench: Bench) -> LoopDisk:
    """A disk with a partition."""
    made = bench.disk(8 * MIB, 512)
    argv = ["sfdisk", "-q", "--no-reread", "--no-tell-kernel", made.node]
    subprocess.run(argv, input="label: gpt\n,4M\n", text=True, check=True)
    subprocess.run(["partx", "-u", made.node], check=True)
    return made


def ends_with(*names: str) -> Callable[..., bool]:
    return lambda path, *_: str(path).endswith(names)


LOOKED_AT: dict[str, tuple[str, Callable[[LoopDisk], object]]] = {
    "/partition": ("read_text", lambda disk: list(sysfs.partitions(sysfs.whole_disk(disk.node)))),
    "/uevent": ("read_text", lambda disk: sysfs.whole_disk(disk.node)),
    "/dev": ("read_text", lambda disk: sysfs.named(Path(disk.node).name)),
    "/size": ("read_text", lambda disk: sysfs.size(sysfs.whole_disk(disk.node))),
    "/holders": ("iterdir", lambda disk: sysfs.holders(sysfs.whole_disk(disk.node))),
    "/dm/uuid": ("read_text", lambda disk: sysfs.whole_disk(disk.node)),
    "/proc/self/mountinfo": ("read_bytes", lambda disk: claims.check_unused(sysfs.whole_disk(disk.node))),
    "/proc/swaps": ("read_bytes", lambda disk: claims.check_unused(sysfs.whole_disk(disk.node))),
    "/backing_file": ("read_text", lambda disk: claims.check_file_unused(str(disk.file))),
}


@pytest.mark.parametrize("name", LOOKED_AT)
def test_what_cannot_be_looked_at_is_not_absent(disk: LoopDisk, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, look = LOOKED_AT[name]
    if name != "/backing_file":
        look(disk)
    refuse(monkeypatch, Path, reads, errno.EMFILE, ends_with(name))
    with pytest.raises(DeviceFailed, match="Too many open files"):
        look(disk)


def test_who_holds_a_lock_is_told_as_far_as_it_is_known(disk: LoopDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, Path, "read_text", errno.EMFILE, ends_with("/proc/locks"))
    with (
        claims.disk_locked(disk.node, timeout=1),
        pytest.raises(DeviceLocked) as caught,
        claims.disk_locked(disk.node, timeout=0.1),
    ):
        pass
    assert caught.value.holders == ()


def test_a_uuid_that_could_not_be_read_may_be_taken(disk: LoopDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image with the UUID of another disk has to get another one; whether it has must be known."""
    refuse(monkeypatch, os, "open", errno.EMFILE, ends_with(disk.node))
    with pytest.raises(DeviceFailed, match="Too many open files"):
        lookup.file_systems_elsewhere(())
