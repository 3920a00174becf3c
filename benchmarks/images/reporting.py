"""The table: our medians beside the rivals', and whether they are where they have to be."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.images.measuring import Measured
from libironic_disk.units import MIB

MOST_MEMORY: Final = 128 * MIB


def report(measured: Sequence[Measured]) -> Iterator[str]:
    """Give the lines of a report: what must be reached, memory, then the spread of every side's seconds."""
    yield from _table(measured)
    yield ""
    highest = max(_peak(each) for each in measured)
    yield (
        f"peak resident memory of libironic_disk in any round, MiB: {highest / MIB:.1f}, at most"
        f" {MOST_MEMORY // MIB}: {_verdict(highest <= MOST_MEMORY)}"
    )
    yield "temporary files of libironic_disk: none, it ran where none can be made"
    yield ""
    yield f"{'seconds':<68}{'median':>9}{'min':>9}{'max':>9}"
    for each in measured:
        yield _spread(f"{each.work.name}: libironic_disk", _our_seconds(each))
        for rival, samples in each.rivals.items():
            yield _spread(f"{each.work.name}: {rival}", samples)


def _table(measured: Sequence[Measured]) -> Iterator[str]:
    yield (
        f"{f'medians of {len(measured[0].ours)} rounds, seconds':<36}{'ours':>7}  {'theirs':<30}{'':>7}"
        f"{'ratio':>7}{'at most':>9}  {'reached':<7}{'MiB':>7}"
    )
    for each in measured:
        ours = statistics.median(_our_seconds(each))
        peak = _peak(each) / MIB
        start = f"{each.work.name:<36}{ours:7.2f}"
        for bound in each.work.bounds:
            theirs = statistics.median(each.rivals[bound.rival])
            ratio = ours / theirs
            yield (
                f"{start}  {bound.rival:<30}{theirs:7.2f}{ratio:7.2f}{bound.at_most:9.2f}"
                f"  {_verdict(ratio <= bound.at_most):<7}{peak:7.1f}"
            )
        if not each.work.bounds:
            yield f"{start}{'':64}{peak:7.1f}"


def _our_seconds(each: Measured) -> tuple[float, ...]:
    return tuple(took.seconds for took in each.ours)


def _peak(each: Measured) -> int:
    return max(took.peak_memory for took in each.ours)


def _verdict(reached: bool) -> str:
    return "yes" if reached else "NO"


def _spread(name: str, samples: Sequence[float]) -> str:
    return f"{name:<68}{statistics.median(samples):9.2f}{min(samples):9.2f}{max(samples):9.2f}"
