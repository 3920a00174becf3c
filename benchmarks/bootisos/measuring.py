"""The rounds of patching a boot ISO, and their report."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.bootisos.job import Job
from benchmarks.bootisos.making import large_iso
from benchmarks.peers import OURS
from benchmarks.rounds import Round, Runner, started
from lab import cache_directory
from libironic_disk.units import GIB, MIB

MOST_PLANNING: Final = 0.050
MOST_INLINE: Final = MIB
MOST_OF_CP: Final = 1.1
MOST_MEMORY: Final = 64 * MIB
_ROOM: Final = 3  # times the ISO: itself, what it is made of, and a copy


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was found: rounds of ours with a file written and without, from the page cache and not; peers' seconds."""

    size: int
    written: tuple[Round, ...]
    warm: tuple[Round, ...]
    cold: tuple[Round, ...]
    cp: tuple[float, ...]
    xorriso: tuple[float, ...]


def measure(rounds: int) -> Measured:
    """Do rounds in turns, after one of each that isn't counted; xorriso has one alone.

    Raises:
        SystemExit: there is too little room, or sgdisk finds fault with what was written.
    """
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="bootisos-", dir=cache)))
        _check_room(folder)
        source = large_iso(folder)
        _check(source)
        target = folder / "copy.iso"
        argv = (sys.executable, "-m", "benchmarks.bootisos.ours")
        runner = held.enter_context(started(argv, folder / "log"))
        written, cp = _written(runner, source, target, rounds)
        return Measured(
            size=source.stat().st_size,
            written=written,
            warm=tuple(runner.round(Job(source=str(source), destination="")) for _ in range(3 * rounds)),
            cold=tuple(_cold(runner, source) for _ in range(rounds)),
            cp=cp,
            xorriso=(_timed(target, *_replay(source, target, folder)),),
        )


def _written(runner: Runner, source: Path, target: Path, rounds: int) -> tuple[tuple[Round, ...], tuple[float, ...]]:
    ours: list[Round] = []
    cp: list[float] = []
    for number in range(rounds + 1):
        took = _round(runner, source, target, checked=number == 0)
        seconds = _timed(target, "sh", "-c", 'cp "$1" "$2" && sync "$2"', "sh", str(source), str(target))
        if number > 0:
            ours.append(took)
            cp.append(seconds)
    return tuple(ours), tuple(cp)


def _round(runner: Runner, source: Path, target: Path, *, checked: bool) -> Round:
    os.sync()
    took = runner.round(Job(source=str(source), destination=str(target)))
    if checked:
        _check(target)
    target.unlink()
    return took


def _timed(target: Path, *argv: str) -> float:
    os.sync()
    began = time.perf_counter()
    subprocess.run(argv, check=True, capture_output=True)
    seconds = time.perf_counter() - began
    target.unlink()
    return seconds


def _cold(runner: Runner, source: Path) -> Round:
    with source.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return runner.round(Job(source=str(source), destination=""))


def _replay(source: Path, target: Path, folder: Path) -> tuple[str, ...]:
    new = folder / "new.cfg"
    new.write_text("# another menu\n")
    command = ("xorriso", "-no_rc", "-indev", f"stdio:{source}", "-outdev", f"stdio:{target}")
    replay = ("-boot_image", "any", "replay", "-overwrite", "on", "-map", str(new), "/boot/grub/linux.cfg")
    synced = 'target=$1; shift; "$@" && sync "$target"'
    return ("sh", "-c", synced, "sh", str(target), *command, *replay, "-commit", "-end")


def _check(iso: Path) -> None:
    said = subprocess.run(["sgdisk", "--verify", str(iso)], capture_output=True, text=True, check=False).stdout
    if "No problems found" not in said:
        raise SystemExit(f"sgdisk finds fault with {iso.name}: {said}")


def _check_room(folder: Path) -> None:
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < _ROOM * 4 * GIB:
        raise SystemExit(f"{folder}: {_ROOM * 4} GiB are wanted, {free / GIB:.1f} are free")


def report(done: Measured) -> Iterator[str]:
    """Give the lines of a report: what has to be reached, then the spread."""
    plan, inline = _steps(done.warm, "plan"), max(_steps(done.warm, "inline"))
    ratio = statistics.median(_steps(done.written, "write")) / statistics.median(done.cp)
    peak = max(each.peak_memory for each in (*done.written, *done.warm, *done.cold))
    yield f"an ISO of {done.size / GIB:.2f} GiB; three kernel parameters, one file, one for the initial RAM disk"
    yield ""
    yield _bound("patch planned, ms, median", statistics.median(plan) * 1000, MOST_PLANNING * 1000)
    yield _bound("kept beside the base, KiB", inline / 1024, MOST_INLINE / 1024)
    yield _bound("written and synced, of the time of cp and sync", ratio, MOST_OF_CP)
    yield _bound(f"peak resident memory of {OURS}, MiB", peak / MIB, MOST_MEMORY / MIB)
    yield ""
    yield f"{'milliseconds':<56}{'median':>9}{'min':>9}{'max':>9}"
    for name, rounds in (("in the page cache", done.warm), ("not in the page cache", done.cold)):
        for step in ("open", "plan", "first MiB"):
            yield _spread(f"{step}, the ISO {name}", _steps(rounds, step))
    yield ""
    yield f"{'milliseconds':<56}{'median':>9}{'min':>9}{'max':>9}"
    yield _spread(f"{OURS}, written and synced", _steps(done.written, "write"))
    yield _spread("cp and sync", done.cp)
    yield _spread("xorriso, replayed into a new file, and sync", done.xorriso)


def _steps(rounds: Sequence[Round], name: str) -> tuple[float, ...]:
    return tuple(step.seconds for each in rounds for step in each.steps if step.name == name)


def _bound(name: str, value: float, most: float) -> str:
    return f"{name:<56}{value:9.2f}  at most {most:7.1f}: {'yes' if value <= most else 'NO'}"


def _spread(name: str, samples: Sequence[float]) -> str:
    values = (statistics.median(samples), min(samples), max(samples))
    return f"{name:<56}" + "".join(f"{value * 1000:9.1f}" for value in values)
