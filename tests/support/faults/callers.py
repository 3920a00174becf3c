"""Faults of the caller: what its own sink does when it is told of an event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from libironic_disk.errors import Cancelled
from libironic_disk.events import Cancellation, Event, EventSink
from tests.support.faults.fault import Counted, Counter, Put, counted
from tests.support.faults.work import Scene
from tests.support.faults.worker import Inside, Work


def at_event(step: int, happens: Callable[[Cancellation], None]) -> Inside:
    """Return what makes a call in whose sink something happens at an event, and counts the events."""

    def inside(work: Work, sink: EventSink, switch: Cancellation) -> object:
        counter = Counter()

        def told(event: Event) -> None:
            sink(event)
            if counter.here(step):
                happens(switch)

        return Counted(value=work(told, switch), seen=counter.seen)

    return inside


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelledAtEvent:
    """The caller cancels when it is told of an event."""

    name: str = "cancelled at an event"
    kills: bool = False
    stays: bool = False

    def put(self, scene: Scene, step: int) -> Put:
        """Put it in."""
        return Put(inside=at_event(step, Cancellation.cancel), count=counted)

    def is_right(self, error: BaseException) -> bool:
        """Whether it says that it was cancelled."""
        return isinstance(error, Cancelled)


class CallersError(Exception):
    """What a caller's own sink raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaisedAtEvent:
    """The caller's own sink raises when it is told of an event."""

    name: str = "the caller's sink raises"
    kills: bool = False
    stays: bool = False

    def put(self, scene: Scene, step: int) -> Put:
        """Put it in."""

        def fail(_: Cancellation) -> None:
            raise CallersError

        return Put(inside=at_event(step, fail), count=counted)

    def is_right(self, error: BaseException) -> bool:
        """Whether it is the caller's own."""
        return isinstance(error, CallersError)
