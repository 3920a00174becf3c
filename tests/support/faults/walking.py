"""Walk a fault through a call: count its places, put it in at each of them or at some, and judge what was left."""

from __future__ import annotations

import os
import random
import tempfile
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from libironic_disk.errors import DiskError, DiskState
from libironic_disk.events import Cancellation, EventSink
from tests.support.faults import holdings, worker
from tests.support.faults.callers import CallersError
from tests.support.faults.fault import COUNTING, Counted, Fault, Put
from tests.support.faults.kinds import COMMON_FAULTS
from tests.support.faults.listening import Call
from tests.support.faults.work import SAYS, Demanding, Scene, State, Try, Work
from tests.support.faults.worker import Ended, Held, Inside, plainly

Chooser = Callable[[int, str], Sequence[int]]
"""Given how many places there are, and a name to draw by, returns those to be tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A walk: how many places there were, which of them were tried, and what came of it."""

    work: str
    fault: str
    steps: int
    tried: int
    outcomes: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, work: str, fault: str, steps: int, outcomes: Counter[str]) -> Row:
        """Return the row of a walk, of which each step that was tried had an outcome."""
        ordered = tuple(sorted(outcomes.items(), key=lambda each: (-each[1], each[0])))
        return cls(work=work, fault=fault, steps=steps, tried=outcomes.total(), outcomes=ordered)


def every(places: int, name: str) -> Sequence[int]:
    """Choose all."""
    return range(1, places + 1)


def some(count: int, seed: int = 0) -> Chooser:
    """Choose by chance, the same each time for one seed."""

    def chosen(places: int, name: str) -> Sequence[int]:
        draw = random.Random(zlib.crc32(f"{seed}:{name}".encode()))
        return sorted(draw.sample(range(1, places + 1), min(count, places)))

    return chosen


def walk(work: Work, fault: Fault, choose: Chooser, counts: Counts) -> Row:
    """Walk a fault through a work, whose places are counted unless ``counts`` has them.

    Raises:
        AssertionError: what a fault left is not what it should; its text names the step that repeats it.
    """
    places = counts.places(work, fault)
    outcomes: Counter[str] = Counter()
    steps = choose(places, f"{work.name}: {fault.name}")
    for step in steps:
        try:
            outcomes[_tried(work, fault, step)] += 1
        except (AssertionError, TimeoutError) as error:
            error.add_note(f"step {step} of {places}: {work.name}, {fault.name}")
            raise
    return Row.of(work.name, fault.name, places, outcomes)


class Counts:
    """How many places of each fault a work has: those of all common faults are counted in one run."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], int] = {}

    def places(self, work: Work, fault: Fault) -> int:
        """Return how many places a fault has in a work.

        Raises:
            AssertionError: the work fails, or leaves something behind, with no fault at all.
        """
        key = work.name, fault.name
        if key not in self._known:
            faults = COMMON_FAULTS if fault in COMMON_FAULTS else (fault,)
            for each, count in zip(faults, _count(work, faults), strict=True):
                self._known[work.name, each.name] = count
        return self._known[key]


def _count(work: Work, faults: Sequence[Fault]) -> list[int]:
    with work.begin() as attempt:
        puts = [fault.put(attempt.scene, COUNTING) for fault in faults]
        ended = worker.run(_call(attempt), inside=_nested([put.inside for put in puts]), held=_together(puts))
        assert ended.error is None, f"with no fault: {ended.trace}"
        _check_nothing_leaked(attempt, ended)
        assert attempt.found(_value(ended)) is State.NEW
        return _counted(puts, ended.value)


def _nested(insides: Sequence[Inside]) -> Inside:
    """Put what faults do in the worker around each other, the first one outermost."""

    def inside(work: worker.Work, sink: EventSink, switch: Cancellation) -> object:
        call = work
        for each in reversed(insides):
            call = partial(each, call)
        return call(sink, switch)

    return inside


def _together(puts: Sequence[Put]) -> Held | None:
    """Have everybody look at the system calls of his kind."""
    helds = [put.held for put in puts if put.held is not None]
    if not helds:
        return None

    def decide(call: Call, held: Held) -> int:
        for each in helds:
            if call.name in each.calls:
                each.decide(call, held)
        return 0

    return Held(frozenset().union(*(held.calls for held in helds)), decide)


def _counted(puts: Sequence[Put], value: object) -> list[int]:
    counts = []
    for put in puts:
        counts.append(put.count(value))
        if put.inside is not plainly:
            assert isinstance(value, Counted)
            value = value.value
    return counts


def _tried(work: Work, fault: Fault, step: int) -> str:
    with work.begin() as attempt:
        put = fault.put(attempt.scene, step)
        ended = worker.run(_call(attempt), inside=put.inside, held=put.held, sees_mounts=fault.kills)
        outcome = _judged(attempt, fault, ended)
        if outcome == "done" and put.count(ended.value) < step:
            # This run had fewer places than the one that counted.
            outcome = "not met"
        put.end()
        again = worker.run(_call(attempt))
        assert again.error is None, f"made again after {outcome}: {again.trace}"
        assert attempt.found(again.value) is State.NEW, f"made again after {outcome}"
        return outcome


def _call(attempt: Try) -> worker.Work:
    """Return the call, with the scene's folder of temporary files as the process's own."""

    def call(sink: EventSink, cancel: Cancellation) -> object:
        os.environ["TMPDIR"] = tempfile.tempdir = str(attempt.scene.temporary)
        return attempt.call(sink, cancel)

    return call


def _judged(attempt: Try, fault: Fault, ended: Ended) -> str:
    if not ended.signal:
        _check_nothing_leaked(attempt, ended, is_lasting=fault.stays)
    elif attempt.scene.files:
        _wait_until_detached(attempt.scene)
    assert not ended.orphans, f"these outlived the call: {ended.orphans}"
    found = attempt.found(_value(ended))
    if ended.signal:
        assert fault.kills, f"killed by signal {ended.signal}"
        return f"killed: {found}"
    if ended.error is None:
        assert found is State.NEW, f"nothing was raised, and {found} is there"
        return "done"
    outcome = _judged_error(ended.error, found, fault, ended.trace)
    if isinstance(attempt, Demanding):
        attempt.told(ended.error)
    return outcome


def _judged_error(error: BaseException, found: State, fault: Fault, trace: str) -> str:
    if isinstance(error, CallersError):
        return _judged_callers_error(error, found, fault)
    assert isinstance(error, DiskError), f"an error that nobody documents:\n{trace}"
    assert fault.is_right(error), f"not the first error: {type(error).__name__}: {error}\n{trace}"
    assert_says(error, found, is_lasting=fault.stays, trace=trace)
    return f"{type(error).__name__}: {found}"


def assert_says(error: DiskError, found: State, *, is_lasting: bool, trace: str) -> None:
    """Assert that what an error says of a disk, if it says anything, is what was found there.

    Only where the fault is a lasting one may nobody know, and then the error tells why.
    """
    said = error.disk
    if said is DiskState.UNKNOWN:
        assert is_lasting, f"the disk could have been made unbootable: {error}\n{trace}"
        assert error.aftermath, f"nothing says why its state is unknown: {error}\n{trace}"
    elif said is not None:
        assert found in SAYS[said], f"it says {said}, and {found} is there: {error}\n{trace}"


def _judged_callers_error(error: CallersError, found: State, fault: Fault) -> str:
    """Judge an error of the caller's own, which passes as it is: a note says what became of the disk."""
    assert fault.is_right(error)
    notes = "; ".join(getattr(error, "__notes__", ()))
    assert (found is State.NOTHING) == ("does not boot" in notes), f"{found} is there, and its notes are {notes!r}"
    return f"the caller's own error: {found}"


def _value(ended: Ended) -> object | None:
    value = ended.value
    while isinstance(value, Counted):
        value = value.value
    return value


def _wait_until_detached(scene: Scene) -> None:
    """Wait until the kernel has detached what a killed worker had attached: that it does so was asked for."""
    for _ in range(100):
        if not any(holdings.loop_devices(file) for file in scene.files):
            return
        threading.Event().wait(0.05)
    raise AssertionError("a loop device outlived its user")


def _check_nothing_leaked(attempt: Try, ended: Ended, *, is_lasting: bool = False) -> None:
    """Assert that nothing is held or left; what a lasting fault keeps from being removed is named by the error."""
    assert not ended.leaked, f"held by the process: {ended.leaked}"
    scene = attempt.scene
    said = str(ended.error) if is_lasting else ""
    left = {name for name in holdings.files(scene.temporary) if name.split("/")[0] not in said} - scene.keeps
    assert not left, f"left in the folder of temporary files: {left}"
    for folder in (scene.temporary, *scene.files):
        assert not holdings.loop_devices(folder)
