"""Progress is told in order, and a wish to stop reaches whoever asks."""

from __future__ import annotations

import threading
import time

import pytest

from libironic_disk.errors import Cancelled
from libironic_disk.events import Cancellation, Event, Phase, PhaseFinished, PhaseStarted, ignore, phase


def test_a_phase_that_ends_well_is_told_at_its_beginning_and_at_its_end() -> None:
    told: list[Event] = []
    with phase(told.append, Phase.FORMAT, "ext4 on root"):
        assert told == [PhaseStarted(phase=Phase.FORMAT, detail="ext4 on root")]
        time.sleep(0.01)
    assert len(told) == 2
    assert isinstance(told[1], PhaseFinished)
    assert told[1].phase is Phase.FORMAT
    assert 0.01 <= told[1].seconds < 5


def test_a_phase_that_fails_is_never_told_as_finished() -> None:
    told: list[Event] = []
    with pytest.raises(KeyError), phase(told.append, Phase.IMAGE):
        raise KeyError
    assert told == [PhaseStarted(phase=Phase.IMAGE)]


def test_a_sink_that_fails_stops_the_work_before_it_begins() -> None:
    def broken(event: Event) -> None:
        raise RuntimeError(event)

    began = []
    with pytest.raises(RuntimeError), phase(broken, Phase.WIPE):
        began.append(True)
    assert began == []


def test_events_that_nobody_wants_are_dropped() -> None:
    with phase(ignore, Phase.CHECK):
        pass


def test_nothing_is_cancelled_until_somebody_asks() -> None:
    switch = Cancellation()
    assert not switch.requested
    switch.check("wiping")
    assert not switch.wait(0)


def test_cancelling_names_what_was_interrupted_and_stays() -> None:
    switch = Cancellation()
    switch.cancel()
    switch.cancel()
    assert switch.requested
    for during in ("wiping", "formatting"):
        with pytest.raises(Cancelled, match=f"cancelled during: {during}"):
            switch.check(during)


def test_cancelling_wakes_a_waiting_thread_at_once() -> None:
    switch = Cancellation()
    thrower = threading.Timer(0.05, switch.cancel)
    thrower.start()
    began = time.monotonic()
    assert switch.wait(30)
    assert time.monotonic() - began < 5
    thrower.join()
