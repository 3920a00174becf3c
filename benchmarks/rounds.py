"""One round of a benchmark, and the process that does rounds when it is told to.

Each side has a process of its own, started once, so that no interpreter's start and no import is measured and neither
side's memory is counted for the other. Requests and answers are lines of JSON on its standard input and output. The
peers' environments lack libironic_disk and what it needs: this module imports the standard library alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple, NoReturn, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CHECKOUT: Final = Path(__file__).resolve().parent.parent
_END_TIMEOUT: Final = 10
_RESET_PEAK: Final = "5"  # proc(5), clear_refs
_Job = TypeVar("_Job")


class Step(NamedTuple):
    """A part of a round and the seconds that it took."""

    name: str
    seconds: float


class Round(NamedTuple):
    """The steps of a round, which follow each other without a gap, and the process's peak memory in it, in bytes."""

    steps: tuple[Step, ...]
    peak_memory: int

    @property
    def seconds(self) -> float:
        """What all steps took."""
        return sum(step.seconds for step in self.steps)


def serve(job: Callable[..., _Job], work: Callable[[_Job], Sequence[Step]]) -> None:
    """Do a round for every job that is read from standard input, until that is closed.

    Args:
        job: makes a job from what :meth:`Runner.round` was given.
        work: does the round.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    # Whatever a round prints belongs into the log.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
        steps = work(job(**json.loads(line)))
        print(json.dumps([steps, _peak_memory()]), file=answers)


def _peak_memory() -> int:
    # Not getrusage's ru_maxrss: that survives exec, and a small process begins with the size of whoever started it.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel doesn't tell the peak of resident memory")


class Runner:
    """The process of one side; :func:`started` makes one."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def round(self, job: DataclassInstance) -> Round:
        """Have a round done and return what it took.

        Raises:
            SystemExit: the process ended; tells what it said last.
        """
        asked, answers = _pipes(self._process)
        try:
            print(json.dumps(asdict(job)), file=asked, flush=True)
        except BrokenPipeError:
            self._ended()
        answer = answers.readline()
        if not answer:
            self._ended()
        steps, peak = json.loads(answer)
        return Round(tuple(Step(*step) for step in steps), peak)

    def _ended(self) -> NoReturn:
        raise SystemExit(f"a benchmark's process ended:\n{self._log.read_text(errors='replace')[-4000:]}")


@contextmanager
def started(argv: Sequence[str], log: Path) -> Iterator[Runner]:
    """Start the process of one side, its standard error going to a file; end it afterwards."""
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            argv, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            yield Runner(process, log)
            _pipes(process)[0].close()
            process.wait(_END_TIMEOUT)
        finally:
            process.kill()


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("started without pipes")
    return process.stdin, process.stdout


def timed(name: str, work: Callable[[], object]) -> Step:
    """Do a part of a round and return what it took."""
    began = time.perf_counter()
    work()
    return Step(name, time.perf_counter() - began)
