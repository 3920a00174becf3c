"""Flushes that fail before the table is written."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from libironic_disk import partitioner
from libironic_disk.errors import DeviceFailed, DiskState
from libironic_disk.events import Cancellation, EventSink
from libironic_disk.pure.disks.layout import Layout
from libironic_disk.pure.disks.planning import Existing, Plan
from libironic_disk.pure.disks.presets import root, swap
from libironic_disk.pure.disks.sizes import mib
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support import oracles
from tests.support.disks import LoopDisk
from tests.support.faults import worker
from tests.support.faults.listening import Call
from tests.support.faults.systemcalls import FLUSHES, WRITES
from tests.support.faults.worker import Held

pytestmark = pytest.mark.loopdevice


@pytest.fixture
def disk(bench: Bench) -> LoopDisk:
    return bench.disk(64 * MIB, 512)


def planned(disk: LoopDisk) -> Plan:
    layout = Layout(table=TableKind.GPT, partitions=(swap(mib(8)), root()))
    return partitioner.plan(layout, partitioner.observe(disk.node), existing=Existing.REPLACE)


def test_what_was_written_to_a_partition_without_waiting_and_was_lost_ends_the_commit(disk: LoopDisk) -> None:
    def decide(call: Call, _: Held) -> int:
        target = call.target()
        assert target is not None
        # A flush tells an error once, to those who had the partition open when it happened or come first thereafter.
        return errno.EIO if str(target.readlink()) == f"{disk.node}p1" else 0

    def work(sink: EventSink, cancel: Cancellation) -> None:
        with partitioner.stage(planned(disk), sink=sink, cancel=cancel) as staged:
            with Path(staged.nodes[1]).open("wb") as node:
                node.write(b"x" * MIB)
            staged.commit()

    ended = worker.run(work, held=Held(FLUSHES, decide))
    assert isinstance(ended.error, DeviceFailed), ended.trace
    assert (ended.error.device, ended.error.action, ended.error.disk) == (
        f"{disk.node}p1",
        "flushing",
        DiskState.UNBOOTABLE,
    )
    assert not oracles.has_table(disk.node)


def test_a_write_that_a_partition_lost_costs_no_descriptor(disk: LoopDisk) -> None:
    """The partition is an old one, which goes away: that it can't be flushed is nobody's business any more."""
    old = set(partitioner.apply(planned(disk)).nodes.values())
    written: set[str] = set()

    def decide(call: Call, _: Held) -> int:
        target = call.target()
        assert target is not None
        name = str(target.readlink())
        if call.name in WRITES:
            written.add(name)
        return errno.EIO if name in old and disk.node not in written else 0

    def work(sink: EventSink, cancel: Cancellation) -> None:
        partitioner.apply(planned(disk), sink=sink, cancel=cancel)

    ended = worker.run(work, held=Held(FLUSHES | WRITES, decide))
    assert (ended.error, ended.leaked) == (None, ()), ended.trace
    assert disk.node in written
