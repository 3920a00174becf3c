"""Times of many rounds, as a line of a table."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

from benchmarks.rounds import Round, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What the same work took in each round, in seconds; prints as milliseconds."""

    name: str
    samples: tuple[float, ...]

    @classmethod
    def of(
        cls,
        name: str,
        rounds: Sequence[Round],
        *,
        only: Collection[str] | None = None,
        leaving_out: Collection[str] = (),
    ) -> Self:
        """Add up the named steps of each round, or all but some.

        Raises:
            KeyError: a round has no step of that name.
        """
        return cls(name=name, samples=tuple(_seconds(each.steps, only, leaving_out) for each in rounds))

    @property
    def median(self) -> float:
        """The median of all rounds."""
        return statistics.median(self.samples)

    def __str__(self) -> str:
        values = (self.median, min(self.samples), max(self.samples))
        return f"{self.name:<56}" + "".join(f"{value * 1000:9.1f}" for value in values)


def _seconds(steps: Sequence[Step], only: Collection[str] | None, leaving_out: Collection[str]) -> float:
    by_name = {step.name: step.seconds for step in steps}
    chosen = by_name.keys() if only is None else only
    return sum(by_name[name] for name in chosen) - sum(by_name[name] for name in leaving_out)
