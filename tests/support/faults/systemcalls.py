"""Faults of system calls, which wait until the walker has let them go on or answered them with an error."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from libironic_disk.errors import Cancelled, DiskError, ProgramFailed
from libironic_disk.events import Cancellation, EventSink
from tests.support.faults.fault import Counted, Counter, Put
from tests.support.faults.listening import Call
from tests.support.faults.work import Scene
from tests.support.faults.worker import Held, Work

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
MEMORY_FILES = frozenset({"memfd_create"})
LOCKS = frozenset({"flock"})


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


_CONTENT_PROGRAMS = ("doesn't keep what is written to it", "says that it made a whole ISO, and there is none")
"""What the library says where mtools or xorriso called a success what the kernel refused them."""


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
        """Whether it says what the kernel answered; a cancelled call says that it was cancelled.

        A program that met it has words of its own, or was content with it, and what it made was looked at.
        """
        if self.effect is Effect.CANCEL:
            return isinstance(error, Cancelled)
        if isinstance(error, ProgramFailed) and error.stderr:
            return True
        if any(words in str(error) for words in _CONTENT_PROGRAMS):
            return True
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


def ours_or_a_mount(scene: Scene, call: Call) -> bool:
    """Whether a call mounts something, or goes to a disk, a folder or a temporary file of the scene."""
    return call.name in MOUNTS or anywhere_of_ours(scene, call)
