"""Counting bytes and telling them: often enough, not too often, and rightly at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from libironic_disk.errors import Cancelled
from libironic_disk.events import BytesMoved, Cancellation, Event, Phase, ignore
from libironic_disk.machine.images.metering import Meter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Give a clock that stands still until it is moved on."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def move_on(seconds: float) -> None:
        now[0] += seconds

    return move_on


def told(events: list[Event]) -> BytesMoved:
    assert isinstance(events[-1], BytesMoved)
    return events[-1]


def test_it_tells_at_once_and_then_ten_times_a_second(clock: Callable[[float], None]) -> None:
    events: list[Event] = []
    meter = Meter(events.append, 100, None)
    meter.tick()
    assert events == [BytesMoved(phase=Phase.IMAGE, done=0, written=0, total=100)]
    for _ in range(1000):
        clock(0.001)
        meter.tick()
    assert 9 <= len(events) <= 11
    meter.ended()
    meter.ended()
    assert 11 <= len(events) <= 13


def test_it_tells_what_was_counted() -> None:
    events: list[Event] = []
    meter = Meter(events.append, None, None)
    meter.read_until(30)
    # It never goes back.
    meter.read_until(20)
    meter.moved(written=7)
    meter.moved(zeroed=5)
    meter.moved(written=1, zeroed=1)
    meter.ended()
    found = told(events)
    assert (found.done, found.written, found.zeroed, found.total) == (30, 8, 6, None)


def test_what_is_read_after_the_sources_end_is_a_copy_and_does_not_count() -> None:
    events: list[Event] = []
    meter = Meter(events.append, 30, None)
    meter.read_until(30)
    meter.source_ended()
    meter.read_until(1000)
    meter.ended()
    assert told(events).done == 30


def test_no_byte_is_lost_between_threads() -> None:
    meter = Meter(ignore, None, None)

    def work(number: int) -> None:
        for _ in range(5000):
            meter.moved(written=number, zeroed=1)

    with ThreadPoolExecutor(4) as threads:
        for _ in threads.map(work, range(4)):
            pass
    assert (meter.written, meter.zeroed) == (5000 * 6, 20_000)


def test_the_rate_is_that_of_the_last_seconds(clock: Callable[[float], None]) -> None:
    events: list[Event] = []
    meter = Meter(events.append, None, None)
    meter.tick()
    assert told(events).rate == 0.0
    position = 0
    rates: list[float] = []
    for speed in (100, 10):
        for _ in range(200):
            clock(0.1)
            position += speed
            meter.read_until(position)
            meter.tick()
            rates.append(told(events).rate)
    assert rates[0] == pytest.approx(1000)
    assert rates[199] == pytest.approx(1000)
    # It follows within a few seconds.
    assert 100 < rates[220] < 1000
    assert rates[260] == pytest.approx(100)
    assert rates[399] == pytest.approx(100)


def test_a_cancellation_is_noticed_however_soon_after_the_last_telling(clock: Callable[[float], None]) -> None:
    events: list[Event] = []
    cancel = Cancellation()
    meter = Meter(events.append, None, cancel)
    meter.tick()
    cancel.cancel()
    with pytest.raises(Cancelled):
        meter.tick()
    assert len(events) == 1
