"""A disk that has less room than it says: the kernel itself finds none for a write, often long after it was made."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from libironic_disk.errors import DeviceFailed, PathFailed, ProgramFailed
from libironic_disk.events import Cancellation, Event, EventSink, Phase, PhaseFinished
from libironic_disk.units import MIB
from tests.support.faults.fault import COUNTING, Counted, Put, counted
from tests.support.faults.work import Scene
from tests.support.faults.worker import Work
from tests.support.oracles import output


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLittleRoom:
    """The disk's file lies in a file system with room for fewer pages than a sound run takes.

    A place is a page that such a run takes beyond those that the disk has. There is none for it, nor for all that come
    later. Wants a work with a medium (:func:`tests.support.faults.scenes.with_a_medium`).
    """

    name: str
    stays: bool
    after: Phase | None = None
    """What still has all the room that it needs; None where nothing has."""
    kills: bool = False

    def put(self, scene: Scene, step: int) -> Put:
        """Take away what room there is but that of the steps before this one."""
        medium = _Medium(scene)
        if self.after is None:
            before = medium.taken()
            medium.limit(step)
            return Put(count=lambda _: medium.taken() - before, end=medium.free)

        def inside(work: Work, sink: EventSink, switch: Cancellation) -> object:
            before: list[int] = []

            def told(event: Event) -> None:
                if isinstance(event, PhaseFinished) and event.phase is self.after:
                    medium.give_back()
                    before[:] = [medium.taken()]
                    medium.limit(step)
                sink(event)

            value = work(told, switch)
            return Counted(value=value, seen=medium.taken() - before[0])

        return Put(inside=inside, count=counted, end=medium.free)

    def is_right(self, error: BaseException) -> bool:
        """Whether it blames the disk, or what a program or a file system has there."""
        return isinstance(error, DeviceFailed | PathFailed | ProgramFailed)


NONE_FOR_ZEROS = TooLittleRoom(name="the disk has no room for what it promised", stays=True)
"""A disk may be one that not even zeros can be written to, so that nobody knows what it is."""
NONE_FOR_DATA = TooLittleRoom(
    name="the disk has no room for more than it had when it was wiped", stays=False, after=Phase.WIPE
)


class _Medium:
    """The file system that has a scene's disks."""

    def __init__(self, scene: Scene) -> None:
        assert scene.medium is not None, "the disks have no medium of their own"
        self._place: Path = scene.medium
        self._nodes = scene.nodes

    def taken(self) -> int:
        """Return how many pages it has given."""
        if self._nodes:
            subprocess.run(["blockdev", "--flushbufs", *self._nodes], check=True)
        status = os.statvfs(self._place)
        return status.f_blocks - status.f_bfree

    def give_back(self) -> None:
        """Give back what a wiped disk has between its ends: pages that the run frees would be room for it."""
        for file in self._place.iterdir():
            middle = ("--offset", str(MIB), "--length", str(file.stat().st_size - 2 * MIB))
            subprocess.run(["fallocate", "--punch-hole", *middle, file], check=True)

    def limit(self, step: int) -> None:
        """Leave room for the pages before a step, the first being 1; all room at :data:`COUNTING`."""
        if step != COUNTING:
            self._resize((self.taken() + step - 1) * os.statvfs(self._place).f_frsize)

    def free(self) -> None:
        """Give it all the room that there is."""
        self._resize(0)

    def _resize(self, size: int) -> None:
        output("mount", "-o", f"remount,size={size}", str(self._place))
