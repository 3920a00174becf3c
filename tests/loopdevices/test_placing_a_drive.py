"""A config drive on its partition: at no moment does anybody find a part of it, or of the one that was there."""

from __future__ import annotations

from pathlib import Path

import pytest

from libironic_disk import configdrive
from libironic_disk.events import Cancellation, EventSink
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support import oracles
from tests.support.faults import worker
from tests.support.faults.listening import Call
from tests.support.faults.systemcalls import WRITES
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


def metadata(name: str) -> configdrive.Metadata:
    return configdrive.Metadata(meta_data={"uuid": name, "name": name}, user_data=name * 10000)
