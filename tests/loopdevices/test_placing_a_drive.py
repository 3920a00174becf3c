"""A config drive on its partition: at no moment does anybody find a part of it, or of the one that was there."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from libironic_disk import configdrive
from libironic_disk.errors import DeviceFailed
from libironic_disk.events import Cancellation, EventSink
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support import oracles
from tests.support.faults import worker
from tests.support.faults.listening import Call
from tests.support.faults.systemcalls import FLUSHES, WRITES
from tests.support.faults.worker import Held

pytestmark = pytest.mark.loopdevice


@pytest.mark.parametrize("sector_size", [512, 4096], ids=["ISO 9660", "FAT"])
@pytest.mark.parametrize("before", [512, 4096], ids=["over an ISO 9660", "over a FAT"])
def test_before_each_write_nothing_is_found_but_the_whole_old_one(bench: Bench, sector_size: int, before: int) -> None:
    old = configdrive.build(metadata("old"), sector_size=before)
    new = configdrive.build(metadata("new"), sector_size=sector_size)
    file = bench.blank_file(MIB)
    with file.open("r+b") as opened:
        opened.write(old.data)
    disk = bench.attach(file, 512)
    seen = []

    def look(call: Call, _: Held) -> int:
        target = call.target()
        if target is not None and str(target.readlink()) == disk.node:
            found = Path(disk.node).read_bytes()
            kind = oracles.blkid(disk.node).get("TYPE", "")
            seen.append((kind, found.startswith(old.data), found.startswith(new.data)))
        return 0

    def work(sink: EventSink, cancel: Cancellation) -> None:
        configdrive.place(new, disk.node, capacity=MIB)

    ended = worker.run(work, held=Held(WRITES | {"ioctl"}, look))
    assert ended.error is None, ended.trace
    assert len(seen) >= 3
    for kind, is_old, is_new in seen:
        assert not kind or is_old or is_new
    assert Path(disk.node).read_bytes().startswith(new.data)


@pytest.mark.parametrize("failures", [1, 1000], ids=["somebody else's write was lost", "it can't be flushed"])
def test_what_cannot_be_flushed_is_known_before_the_first_write(bench: Bench, failures: int) -> None:
    """A lost write is told to whoever flushes next: the first error says nothing of the disk as it is now."""
    old, new = configdrive.build(metadata("old")), configdrive.build(metadata("new"))
    file = bench.blank_file(MIB)
    with file.open("r+b") as opened:
        opened.write(old.data)
    disk = bench.attach(file, 512)
    left = [failures]

    def decide(call: Call, _: Held) -> int:
        target = call.target()
        assert target is not None
        if str(target.readlink()) != disk.node:
            return 0
        left[0] -= 1
        return errno.EIO if left[0] >= 0 else 0

    def work(sink: EventSink, cancel: Cancellation) -> None:
        configdrive.place(new, disk.node, capacity=MIB)

    ended = worker.run(work, held=Held(FLUSHES, decide))
    assert left[0] < failures
    if failures == 1:
        assert ended.error is None, ended.trace
        assert Path(disk.node).read_bytes().startswith(new.data)
    else:
        assert isinstance(ended.error, DeviceFailed), ended.trace
        assert (ended.error.device, ended.error.action) == (disk.node, "flushing")
        assert Path(disk.node).read_bytes().startswith(old.data)


def metadata(name: str) -> configdrive.Metadata:
    return configdrive.Metadata(meta_data={"uuid": name, "name": name}, user_data=name * 10000)
