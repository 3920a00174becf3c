"""The machine's clock is set while it deploys: for the kernel, for all programs and for us it is another day."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from libironic_disk.events import Cancellation, Event, ignore
from tests.conftest import Bench
from tests.machines.inside.conftest import Told
from tests.support.faults.scenes import OldDisk
from tests.support.faults.walking import Row
from tests.support.faults.work import State
from tests.support.faultydisk_walks import SIZE, deployments

pytestmark = [pytest.mark.inside, pytest.mark.timeout(600)]

_DAY = 86400


@contextmanager
def clock_that_comes_back() -> Iterator[None]:
    """Set the clock right again, by the one that only goes on."""
    ahead = time.time() - time.monotonic()
    try:
        yield
    finally:
        time.clock_settime(time.CLOCK_REALTIME, time.monotonic() + ahead)


@pytest.mark.parametrize(
    ("name", "days"),
    [
        ("bios", 400),
        ("whole", -400),
        *(
            pytest.param(name, days, marks=pytest.mark.full)
            for name, days in (("bios", -400), ("whole", 400), ("uefi", 400), ("uefi", -400))
        ),
    ],
)
def test_the_clock_jumps(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory, name: str, days: int, told: Told
) -> None:
    work = deployments(tmp_path_factory.mktemp("works"))[name]
    events: list[Event] = []
    work.call(bench.disk(SIZE, 512).node, events.append, Cancellation())
    disk = bench.disk(SIZE, 512)
    found = OldDisk(disk=disk, digest=disk.digest())
    chosen = random.Random(days).randrange(len(events))
    seen = 0

    def sink(event: Event) -> None:
        nonlocal seen
        if seen == chosen:
            time.clock_settime(time.CLOCK_REALTIME, time.time() + days * _DAY)
        seen += 1
        ignore(event)

    before = time.time()
    with clock_that_comes_back():
        work.call(disk.node, sink, Cancellation())
        assert abs(time.time() - before - days * _DAY) < _DAY, "it wasn't set"
        # Also on the other day is it whole for every program that looks.
        assert work.found(found) is State.NEW
    told(Row.of(work.name, f"the machine's clock jumps by {days} days", len(events), Counter({"done": 1})))
