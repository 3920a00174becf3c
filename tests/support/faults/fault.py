"""What a fault is: it can be counted, and put in at any of the places that were counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tests.support.faults.work import Scene
from tests.support.faults.worker import Held, Inside, plainly

COUNTING = 0
"""The step of a run that meets no fault and only counts."""


class Counter:
    """Counts places; readable by the walker when the run has ended."""

    def __init__(self) -> None:
        self.seen = 0

    def here(self, step: int, *, stays: bool = False) -> bool:
        """Count a place, and return whether it is the one, or one behind that if the fault stays."""
        self.seen += 1
        return self.seen == step or (stays and 0 < step < self.seen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """A fault that is put in: what happens in the worker, and who decides on its system calls."""

    inside: Inside = plainly
    held: Held | None = None
    count: Callable[[object], int]
    """Returns how many places there were, given what the worker returned."""
    end: Callable[[], None] = lambda: None
    """Ends it, where it outlives the call; the same call has to do all of its work then."""


class Fault(Protocol):
    """A fault."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    @property
    def kills(self) -> bool:
        """Whether it ends the worker without a word."""

    @property
    def stays(self) -> bool:
        """Whether it lasts, so that the library can't mend what it left."""

    def put(self, scene: Scene, step: int) -> Put:
        """Put it in at a step, the first being 1; none at :data:`COUNTING`."""

    def is_right(self, error: BaseException) -> bool:
        """Whether an error is the one that this fault should end in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a call returned, and how many places there were."""

    value: object
    seen: int


def counted(returned: object) -> int:
    """Return how many places a call that returned has counted."""
    assert isinstance(returned, Counted)
    return returned.seen
