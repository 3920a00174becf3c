"""The faults: each can be counted, and put in at any of the places that were counted."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol
from unittest import mock

from oslo_concurrency import processutils

from libironic_disk.errors import Cancelled, DiskError, ProgramFailed, ProgramTimedOut, ToolMissing
from libironic_disk.events import Cancellation, Event, EventSink
from tests.support.faults.listening import Call
from tests.support.faults.work import Scene
from tests.support.faults.worker import Held, Inside, Work, plainly

WRITES = frozenset(
    {"write", "pwrite64", "writev", "pwritev", "pwritev2", "copy_file_range", "sendfile", "splice", "fallocate"}
)
FLUSHES = frozenset({"fsync", "fdatasync", "syncfs", "sync_file_range"})
READS = frozenset({"read", "pread64", "preadv", "preadv2"})
PLACES = frozenset(
    {"mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "ftruncate"}
)
OPENS = frozenset({"openat", "openat2"})
MOUNTS = frozenset({"fsopen", "fsconfig", "fsmount", "mount"})
LOCKS = frozenset({"flock"})

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


class Effect(StrEnum):
    """What becomes of a system call."""

    EIO = "EIO"
    ENOSPC = "ENOSPC"
    ENOMEM = "ENOMEM"
    EMFILE = "EMFILE"
    ENODEV = "ENODEV"
    ENOLCK = "ENOLCK"
    KILL = "kill -9"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemCallFault:
    """A fault at each system call of a kind that leads to a place."""

    name: str
    calls: frozenset[str]
    where: Callable[[Scene, Call], bool]
    effect: Effect
    stays: bool = False
    """Whether all later calls of the kind meet it too, as those to a disk that went away do."""
    bounded: bool = False
    """Whether only what is done within the call itself counts, and not what a worker does around it."""

    @property
    def kills(self) -> bool:
        """Whether it ends the worker without a word."""
        return self.effect is Effect.KILL

    def put(self, scene: Scene, step: int) -> Put:
        """Put it in."""
        counter = Counter()
        marks = Marks() if self.bounded else None

        def decide(call: Call, held: Held) -> int:
            if marks is not None and not marks.are_between(call):
                return 0
            if call.name not in self.calls:
                return 0
            if self.where not in call.known:
                call.known[self.where] = self.where(scene, call)
            if not call.known[self.where]:
                return 0
            if not counter.here(step, stays=self.stays):
                return 0
            match self.effect:
                case Effect.KILL:
                    held.kill()
                    return 0
                case Effect.CANCEL:
                    held.cancel()
                    return 0
                case _:
                    return int(getattr(errno, self.effect))

        if marks is None:
            return Put(held=Held(self.calls, decide), count=lambda _: counter.seen)
        calls = self.calls | {Marks.CALL}
        return Put(inside=marks.around, held=Held(calls, decide), count=lambda _: counter.seen)

    def is_right(self, error: BaseException) -> bool:
        """Whether it says what the kernel answered; a cancelled call says that it was cancelled."""
        if self.effect is Effect.CANCEL:
            return isinstance(error, Cancelled)
        return isinstance(error, DiskError) and os.strerror(getattr(errno, self.effect)) in str(error)


class Marks:
    """Where a call of the library begins and ends, told to the listener by a system call that does nothing."""

    CALL = "ftruncate"

    def __init__(self) -> None:
        self._inside = False

    def are_between(self, call: Call) -> bool:
        """Whether a system call is made within the call of the library; to be asked of each."""
        if call.name == self.CALL and call.arguments[0] & 0xFFFFFFFF == 0xFFFFFFFF:
            self._inside = call.arguments[1] == 1
            return False
        return self._inside

    def around(self, work: Work, sink: EventSink, switch: Cancellation) -> object:
        """Make the call between the marks."""
        self._make(1)
        try:
            return Counted(value=work(sink, switch), seen=0)
        finally:
            self._make(2)

    def _make(self, which: int) -> None:
        with suppress(OSError):
            os.ftruncate(-1, which)


def on_disk(scene: Scene, call: Call) -> bool:
    """Whether a call goes to one of the scene's disks."""
    target = call.target()
    return target is not None and scene.on_disk(target)


def in_folders(scene: Scene, call: Call) -> bool:
    """Whether a call goes to one of the scene's folders."""
    target = call.target()
    return target is not None and scene.in_folders(target)


def anywhere_of_ours(scene: Scene, call: Call) -> bool:
    """Whether a call goes to a disk, a folder or a temporary file of the scene."""
    target = call.target()
    return target is not None and (scene.on_disk(target) or scene.in_folders(target) or scene.is_temporary(target))


def temporary(scene: Scene, call: Call) -> bool:
    """Whether a call goes to a temporary file."""
    target = call.target()
    return target is not None and scene.is_temporary(target)


def anywhere(scene: Scene, call: Call) -> bool:
    """Say yes to every call."""
    return True


def facts(scene: Scene, call: Call) -> bool:
    """Whether a call opens what the library looks at: disks, files of the scene, and what the kernel tells."""
    target = call.target()
    if target is None:
        return False
    if call.name == "openat" and (text := call.path()) is not None and text.startswith(("/proc/", "/sys/", "/dev/")):
        return True
    return anywhere_of_ours(scene, call)


def full_temporary(scene: Scene, call: Call) -> bool:
    """Whether a call needs room in the folder of temporary files."""
    if call.name == "openat" and not call.arguments[2] & os.O_CREAT:
        return False
    return temporary(scene, call)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a call returned, and how many places there were."""

    value: object
    seen: int


def counted(returned: object) -> int:
    """Return how many places a call that returned has counted."""
    assert isinstance(returned, Counted)
    return returned.seen


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockJumps:
    """The machine's clock is set to another day when the caller is told of an event."""

    days: int
    kills: bool = False
    stays: bool = False

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"the clock jumps by {self.days} days"

    def put(self, scene: Scene, step: int) -> Put:
        """Put it in."""

        def inside(work: Work, sink: EventSink, switch: Cancellation) -> object:
            real, real_ns, away = time.time, time.time_ns, 0

            def jump(_: Cancellation) -> None:
                nonlocal away
                away = self.days * 86400

            with (
                mock.patch.object(time, "time", lambda: real() + away),  # noqa: PT008 # it is no constant
                mock.patch.object(time, "time_ns", lambda: real_ns() + away * 10**9),  # noqa: PT008
            ):
                return at_event(step, jump)(work, sink, switch)

        return Put(inside=inside, count=counted)

    def is_right(self, error: BaseException) -> bool:
        """No error comes of it."""
        return False


def _disk(words: str, effect: Effect, calls: frozenset[str], *, stays: bool = False) -> SystemCallFault:
    return SystemCallFault(name=words, calls=calls, where=on_disk, effect=effect, stays=stays)


DISK_FAULTS: tuple[Fault, ...] = (
    _disk("EIO of a write", Effect.EIO, WRITES),
    _disk("ENOSPC of a write", Effect.ENOSPC, WRITES),
    _disk("EIO of a flush", Effect.EIO, FLUSHES),
    _disk("EIO of a read", Effect.EIO, READS),
    _disk("the disk is full for good", Effect.ENOSPC, WRITES, stays=True),
    _disk("the disk goes away", Effect.ENODEV, WRITES | FLUSHES | READS, stays=True),
)
"""What a disk does; seen from the call's own side."""

FOLDER_FAULTS: tuple[Fault, ...] = tuple(
    SystemCallFault(name=name, calls=calls, where=in_folders, effect=effect, stays=stays)
    for name, effect, calls, stays in (
        ("EIO of a write in the folder", Effect.EIO, WRITES | PLACES, False),
        ("the folder is full", Effect.ENOSPC, WRITES | PLACES - {"unlink", "unlinkat"}, True),
        ("EIO of a flush in the folder", Effect.EIO, FLUSHES, False),
        ("EIO of a read in the folder", Effect.EIO, READS, False),
    )
)
"""What the file system of a folder does that the caller names."""

MACHINE_FAULTS: tuple[Fault, ...] = (
    *(
        SystemCallFault(name=f"{effect} of an open", calls=OPENS, where=facts, effect=effect, bounded=True)
        for effect in (Effect.EMFILE, Effect.EIO)
    ),
    *(
        SystemCallFault(name=f"{effect} of a mount", calls=MOUNTS, where=anywhere, effect=effect, bounded=True)
        for effect in (Effect.ENOMEM, Effect.EIO)
    ),
    SystemCallFault(name="ENOLCK of a lock", calls=LOCKS, where=anywhere, effect=Effect.ENOLCK, bounded=True),
)
"""What the kernel answers for want of descriptors or memory."""

PROGRAM_FAULTS: tuple[Fault, ...] = tuple(ProgramFault(ill=ill) for ill in Ill)


def _ours_or_a_mount(scene: Scene, call: Call) -> bool:
    return call.name in MOUNTS or anywhere_of_ours(scene, call)


KILL_ANYWHERE: Final[Fault] = SystemCallFault(
    name="kill -9 at any call",
    calls=WRITES | FLUSHES | PLACES | READS | MOUNTS,
    where=_ours_or_a_mount,
    effect=Effect.KILL,
    bounded=True,
)
"""For calls that write little, or nothing."""

OTHER_FAULTS: tuple[Fault, ...] = (
    SystemCallFault(
        name="the folder of temporary files is full",
        calls=WRITES | PLACES - {"unlink", "unlinkat"} | {"openat"},
        where=full_temporary,
        effect=Effect.ENOSPC,
        stays=True,
    ),
    SystemCallFault(name="kill -9", calls=WRITES | FLUSHES | PLACES, where=anywhere_of_ours, effect=Effect.KILL),
    SystemCallFault(
        name="cancelled at a system call",
        calls=WRITES | FLUSHES | PLACES,
        where=anywhere_of_ours,
        effect=Effect.CANCEL,
    ),
    CancelledAtEvent(),
    RaisedAtEvent(),
    ClockJumps(days=400),
    ClockJumps(days=-400),
)

COMMON_FAULTS: tuple[Fault, ...] = (
    *DISK_FAULTS,
    *FOLDER_FAULTS,
    *MACHINE_FAULTS,
    KILL_ANYWHERE,
    *PROGRAM_FAULTS,
    *OTHER_FAULTS,
)
"""All of these: their places in a work are counted in one run."""
