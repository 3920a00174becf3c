"""The rounds of partitioning and formatting, and their report."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks import disk
from benchmarks.figures import Timing
from benchmarks.partitioning.job import Job
from benchmarks.partitioning.result import check
from benchmarks.peers import OURS, OWN_PROCESSES, PEER, environment
from benchmarks.rounds import Round, Runner, started
from libironic_disk.units import GIB, MIB

DISK_SIZE: Final = 8 * GIB
TARGET: Final = 0.25

_MADE: Final = ("make_partitions", "mkfs vfat", "mkfs swap", "mkfs ext4")


def measure(rounds: int) -> dict[str, list[Round]]:
    """Do rounds in turns, after one of each side that isn't counted; return them by side."""
    commands = {
        OURS: (sys.executable, "-m", "benchmarks.partitioning.ours"),
        PEER: (*OWN_PROCESSES, str(environment(PEER)), "-m", "benchmarks.partitioning.theirs"),
    }
    done: dict[str, list[Round]] = {side: [] for side in commands}
    with ExitStack() as held:
        job = _job(held.enter_context(disk.loop_disk(DISK_SIZE)))
        logs = Path(held.enter_context(tempfile.TemporaryDirectory()))
        runners = {side: held.enter_context(started(argv, logs / side)) for side, argv in commands.items()}
        for number in range(rounds + 1):
            for side, runner in runners.items():
                took = _round(runner, job, side)
                if number > 0:
                    done[side].append(took)
    return done


def _job(device: str) -> Job:
    esp, ephemeral, swap, config_drive = 550, 1024, 512, 1
    # A MiB before the first partition and one behind the last, for the tables.
    root = DISK_SIZE // MIB - 2 - esp - ephemeral - swap - config_drive
    return Job(device=device, esp=esp, ephemeral=ephemeral, swap=swap, config_drive=config_drive, root=root)


def _round(runner: Runner, job: Job, side: str) -> Round:
    # The agent calls sync, which waits for what anybody on the machine has written.
    os.sync()
    took = runner.round(job)
    check(job, side)
    return took


def report(done: Mapping[str, Sequence[Round]]) -> Iterator[str]:
    """Give the lines of a report: whole rounds, ratios, the steps, peak memory."""
    ours, theirs = done[OURS], done[PEER]
    everything = Timing.of(f"{OURS}, everything", ours)
    less_wipe = Timing.of(f"{OURS}, less its wipe", ours, leaving_out=("wipe",))
    wiped_and_made = Timing.of(f"{PEER}, wipe + make_partitions + mkfs", theirs, only=("wipe", *_MADE))
    made = Timing.of(f"{PEER}, make_partitions + mkfs", theirs, only=_MADE)
    all_steps = Timing.of(f"{PEER}, all steps", theirs)
    yield f"{f'{len(ours)} rounds of each, in turns; milliseconds':<56}{'median':>9}{'min':>9}{'max':>9}"
    yield from map(str, (everything, less_wipe, wiped_and_made, made, all_steps))
    yield ""
    for mine, other in ((everything, wiped_and_made), (less_wipe, made), (everything, made), (everything, all_steps)):
        yield _ratio(mine, other)
    for side, rounds in done.items():
        yield ""
        yield f"the steps of {side}"
        yield from (str(Timing.of(f"  {step.name}", rounds, only=(step.name,))) for step in rounds[0].steps)
    yield ""
    for side, rounds in done.items():
        yield f"{f'peak resident memory of {side}, MiB':<56}{max(each.peak_memory for each in rounds) / MIB:9.1f}"


def _ratio(mine: Timing, other: Timing) -> str:
    ratio = mine.median / other.median
    verdict = "at most a quarter" if ratio <= TARGET else "MORE than a quarter"
    return f"{ratio:6.3f} = {mine.name} / {other.name}: {verdict}"
