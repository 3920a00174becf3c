"""What long work tells its caller while it runs, and how the caller stops it.

Work never prints and never logs its progress. It hands values of the union :data:`Event` to a sink, which is any
callable of one argument, and asks a :class:`Cancellation` between steps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from libironic_disk.errors import Cancelled


class Phase(StrEnum):
    """The parts of a deployment, in the order in which they begin."""

    CHECK = "check"
    WIPE = "wipe"
    PARTITION = "partition"
    FORMAT = "format"
    CONFIG_DRIVE = "config drive"
    IMAGE = "image"
    GROW = "grow"
    BOOT_LOADER = "boot loader"
    COMMIT = "commit"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStarted:
    """A phase began; ``detail`` says on what."""

    phase: Phase
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseFinished:
    """A phase ended well after ``seconds``."""

    phase: Phase
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesMoved:
    """How far the copying of bytes has come, in bytes since its start.

    ``done`` counts what was read from the source, ``written`` the data that went to the target and ``zeroed`` what was
    made zeros there. ``total`` is the source's size where it is known. ``rate`` is how many bytes of the source were
    read in a second, over the last few.
    """

    phase: Phase
    done: int
    written: int
    total: int | None
    zeroed: int = 0
    rate: float = 0.0


Event = PhaseStarted | PhaseFinished | BytesMoved
EventSink = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Drop the event: the sink of callers that don't want any."""


@contextmanager
def phase(sink: EventSink, which: Phase, detail: str = "") -> Iterator[None]:
    """Tell the sink that a phase begins and, unless it fails, that it ended."""
    sink(PhaseStarted(phase=which, detail=detail))
    began = time.monotonic()
    yield
    sink(PhaseFinished(phase=which, seconds=time.monotonic() - began))


class Cancellation:
    """A switch that any thread may throw once; the work it was given to then ends with :class:`Cancelled`."""

    __slots__ = ("_thrown",)

    def __init__(self) -> None:
        self._thrown = threading.Event()

    def cancel(self) -> None:
        """Ask the work to stop. Returns at once; calling it again changes nothing."""
        self._thrown.set()

    @property
    def requested(self) -> bool:
        """Whether somebody asked."""
        return self._thrown.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep for ``seconds`` or until somebody asks; return whether somebody did."""
        return self._thrown.wait(seconds)

    def check(self, during: str) -> None:
        """Raise :class:`~libironic_disk.errors.Cancelled` if somebody asked."""
        if self._thrown.is_set():
            raise Cancelled(during=during)
