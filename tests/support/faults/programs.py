"""Faults of the programs that the library runs; they stand at the gateway to programs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from unittest import mock

from oslo_concurrency import processutils

from libironic_disk.errors import DiskError, ProgramFailed, ProgramTimedOut, ToolMissing
from libironic_disk.events import Cancellation, EventSink
from tests.support.faults.fault import Counted, Counter, Put, counted
from tests.support.faults.work import Scene
from tests.support.faults.worker import Work


class Ill(StrEnum):
    """What is wrong with a program."""

    MISSING = "is missing"
    FAILS = "fails"
    FAILS_LATE = "fails when its work is done"
    HANGS = "hangs"
    KILLED = "is killed, as by the kernel when memory runs out"
    STARVED = "gets no memory"


_TOO_LITTLE: Final = 1 << 20
"""Bytes of address space in which no program starts."""

_STAND_INS = {
    Ill.FAILS: ("sh", "-c", "echo broken on purpose >&2; exit 113", "sh"),
    Ill.FAILS_LATE: ("sh", "-c", '"$@"; echo broken on purpose >&2; exit 113', "sh"),
    Ill.HANGS: ("sh", "-c", "sleep 1000 & wait", "sh"),
    Ill.KILLED: ("sh", "-c", "kill -9 $$", "sh"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramFault:
    """A fault of each program that is run; it stands at the gateway to programs."""

    ill: Ill
    only: str = ""
    """The program that alone has it; any by default."""
    kills: bool = False
    stays: bool = False

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.only or 'a program'} {self.ill}"

    def put(self, scene: Scene, step: int) -> Put:
        """Put it in."""

        def inside(work: Work, sink: EventSink, switch: Cancellation) -> object:
            counter = Counter()
            with self._gateway(counter, step):
                return Counted(value=work(sink, switch), seen=counter.seen)

        return Put(inside=inside, count=counted)

    @contextmanager
    def _gateway(self, counter: Counter, step: int) -> Iterator[None]:
        execute: Callable[..., object] = processutils.execute
        which = shutil.which
        absent: set[str] = set()

        def broken(*argv: str, timeout: float, **others: object) -> object:
            if (self.only and argv[0] != self.only) or not counter.here(step):
                return execute(*argv, timeout=timeout, **others)
            if self.ill is Ill.STARVED:
                others["prlimit"] = processutils.ProcessLimits(address_space=_TOO_LITTLE)
                return execute(*argv, timeout=timeout, **others)
            if self.ill is Ill.HANGS:
                timeout = min(timeout, 0.5)
            return execute(*_STAND_INS[self.ill], *argv, timeout=timeout, **others)

        def missing(name: str, *, path: str) -> str | None:
            # A program is looked for before each start, and together with others before the first write.
            if (not self.only or name == self.only) and name not in absent and counter.here(step):
                absent.add(name)
            return None if name in absent else which(name, path=path)

        if self.ill is Ill.MISSING:
            with mock.patch.object(shutil, "which", missing):
                yield
        else:
            with mock.patch.object(processutils, "execute", broken):
                yield

    def is_right(self, error: BaseException) -> bool:
        """Whether it is the error of the program itself."""
        match self.ill:
            case Ill.MISSING:
                return isinstance(error, ToolMissing)
            case Ill.HANGS:
                return isinstance(error, ProgramTimedOut)
            case Ill.KILLED:
                return isinstance(error, ProgramFailed) or "kill" in str(error).lower() or "status -9" in str(error)
            case Ill.STARVED:
                return isinstance(error, ProgramFailed) or "status" in str(error)
            case _:
                return isinstance(error, DiskError) and "broken on purpose" in str(error)
