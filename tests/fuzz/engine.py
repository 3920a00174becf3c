"""Atheris (libFuzzer for Python) around a target: seeds, mutations, and what to do about a failure.

libFuzzer's own options do what they say: a seed makes a run repeatable, ``-runs`` and ``-max_total_time`` bound it.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from io import StringIO
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Protocol, cast

# Nothing of the package may be imported up here: what was imported before is not instrumented.
INSTRUMENTED = (
    "libironic_disk.pure",
    "libironic_disk.boot.redfish",
    "libironic_disk.configdrive",
    "libironic_disk.wholedisk.reading",
    "libironic_disk.machine.drives",
    "libironic_disk.machine.http",
    "libironic_disk.machine.images",
)
SEEDS = 64
LONGEST_INPUT = 64 * 1024
SLOWEST_SECONDS = 120
"""After this the engine itself ends an input, whatever hangs."""

# libFuzzer asks getrusage, whose peak begins with the size of whoever started the process. Targets have limits of their
# own.
NO_LIMIT = 0

_BROKEN = 70
_MOST_MEMORY = 6 * 1024**3
_MEMORY = Path("/dev/shm")

Scramble = Callable[[bytes, int], bytes]
"""Change bytes as libFuzzer does, which knows what they were compared with; the number is the most it may return."""


class Target(Protocol):
    """What is fuzzed. An input is bytes; what they mean is the target's business."""

    def seeds(self, random: Random) -> Iterator[bytes]:
        """Give sound inputs, as many as there are or without end."""

    def mutate(self, data: bytes, random: Random, scramble: Scramble) -> bytes:
        """Return another input near this one; which, only ``random`` and ``scramble`` decide."""

    def cross(self, data: bytes, other: bytes, random: Random) -> bytes:
        """Return an input made of two."""

    def check(self, data: bytes) -> bool:
        """Try an input; return False if it isn't worth a place in the corpus. Any exception is a finding."""

    def summary(self) -> str:
        """Return what happened so far, in a line."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How long a run takes; what ends first ends it. ``None`` means no bound."""

    seconds: int | None = None
    runs: int | None = None


def load(name: str) -> Target:
    """Return a target by the name of its module."""
    return cast("Target", import_module(f"tests.fuzz.targets.{name}").TARGET)


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a target's inputs are.

    Attributes:
        corpus: a directory; inputs that reach new code are added. An empty one is filled with seeds.
        findings: a directory; an input that fails is saved there.
    """

    corpus: Path
    findings: Path

    @classmethod
    def of(cls, name: str, *, corpus: Path | None, findings: Path | None) -> Places:
        """Return a target's places, each in a directory of its name: in these, or in the usual one."""
        usual = Path(".cache/fuzz") / name
        return cls(
            corpus=corpus / name if corpus else usual / "corpus",
            findings=findings / name if findings else usual / "findings",
        )


def fuzz(names: Sequence[str], *, seed: int, bounds: Bounds, places: Callable[[str], Places]) -> list[str]:
    """Fuzz targets in turn and return the names of those that something was found with.

    Each has a process of its own, which libFuzzer ends. They begin as copies of this one: to instrument the package
    takes longer than many a short run.

    Args:
        names: of the targets.
        seed: the same one with the same corpus and ``runs`` repeats a run.
        bounds: when each of them ends.
        places: where each has its inputs.
    """
    # Whoever is ended by libFuzzer removes nothing.
    with TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as scratch:
        tempfile.tempdir = scratch
        targets = _loaded(names)
        return [
            name
            for name, target in targets.items()
            if _ended(partial(_fuzz, name, target, seed=seed, bounds=bounds, places=places(name)))
        ]


def _loaded(names: Sequence[str]) -> dict[str, Target]:
    import atheris

    # It names every module that it instruments.
    with redirect_stderr(StringIO()), atheris.instrument_imports(include=[*INSTRUMENTED]):
        return {name: load(name) for name in names}


def _ended(work: Callable[[], None]) -> int:
    """Do something in a process of its own, and return its exit status."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        try:
            # A change that makes inputs grow without end must not take the machine with it.
            resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, resource.RLIM_INFINITY))
            work()
        except SystemExit:
            pass  # it was said before what was found
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(_BROKEN)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _fuzz(name: str, target: Target, *, seed: int, bounds: Bounds, places: Places) -> None:
    """Fuzz a target. It doesn't return: libFuzzer ends the process, with 0 if nothing was found."""
    import atheris

    corpus, findings = places.corpus, places.findings
    _plant(target, corpus, seed)
    findings.mkdir(parents=True, exist_ok=True)
    runs = 0

    def check(data: bytes) -> int:
        nonlocal runs
        runs += 1
        if not runs & (runs - 1):
            _say(f"{name}, {runs} runs: {target.summary()}")
        try:
            return 0 if target.check(data) else -1
        except BaseException:
            saved = findings / f"crash-{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"
            # libFuzzer would do so when the interpreter has ended.
            saved.write_bytes(data)
            _say(f"found with seed {seed} after {runs} runs; replay it: python -m tests.fuzz {name} --replay {saved}")
            raise

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        return _fitting(target.mutate(data, Random(seed), atheris.Mutate), data, most)

    def cross(data: bytes, other: bytes, most: int, seed: int) -> bytes:
        return _fitting(target.cross(data, other, Random(seed)), data, most)

    _say(f"{name}: seed {seed}, corpus {corpus}")
    options = {
        "seed": seed,
        "max_len": LONGEST_INPUT,
        "len_control": 0,
        "timeout": SLOWEST_SECONDS,
        "rss_limit_mb": NO_LIMIT,
        "artifact_prefix": f"{findings}/",
        "print_final_stats": 1,
        "reload": 0,
        "max_total_time": bounds.seconds or 0,
        "runs": -1 if bounds.runs is None else bounds.runs,
    }
    arguments = [sys.argv[0], *(f"-{option}={value}" for option, value in options.items()), str(corpus)]
    atheris.Setup(arguments, check, custom_mutator=mutate, custom_crossover=cross)
    atheris.Fuzz()


def _plant(target: Target, corpus: Path, seed: int) -> None:
    corpus.mkdir(parents=True, exist_ok=True)
    if any(corpus.iterdir()):
        return
    for number, data in zip(range(SEEDS), target.seeds(Random(seed)), strict=False):
        (corpus / f"seed-{number}").write_bytes(data)


def _fitting(changed: bytes, data: bytes, most: int) -> bytes:
    return changed if len(changed) <= most else data[:most]


def _say(text: str) -> None:
    print(f"fuzz: {text}", file=sys.stderr, flush=True)  # noqa: T201 - this is a program
