"""Faults of what a call reads, makes and opens in folders: sources, new files, and descriptors."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass

from libironic_disk.errors import DiskError
from libironic_disk.events import Cancellation, EventSink
from tests.support.faults.fault import COUNTING, Counted, Fault, Put, counted
from tests.support.faults.kinds import FOLDER_FAULTS
from tests.support.faults.listening import Call
from tests.support.faults.systemcalls import FLUSHES, OPENS, PLACES, READS, WRITES, Effect, SystemCallFault
from tests.support.faults.work import Scene
from tests.support.faults.worker import Work

_NEW_DESCRIPTORS = frozenset({*OPENS, "socket", "memfd_create"})
_MOST = 20
"""How many descriptors a call has, or a few more."""


def in_sources(scene: Scene, call: Call) -> bool:
    """Whether a call goes to what the work only reads; one that copies by the kernel reads its first descriptor."""
    target = call.source() if call.name == "copy_file_range" else call.target()
    return target is not None and scene.in_sources(target)


def making(scene: Scene, call: Call) -> bool:
    """Whether a call makes a file in one of the folders."""
    target = call.target()
    return bool(call.arguments[2] & os.O_CREAT) and target is not None and scene.in_folders(target)


def opening(scene: Scene, call: Call) -> bool:
    """Whether a call opens something of the scene, or needs descriptors of which nobody sees what they are for."""
    target = call.target()
    if target is None:
        return call.name not in OPENS
    return scene.in_folders(target) or scene.in_sources(target) or scene.is_temporary(target)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptorsRunOut:
    """The process may have so many descriptors more, and no others; the programs that it starts neither."""

    name: str = "only so many descriptors are left"
    kills: bool = False
    stays: bool = True

    def put(self, scene: Scene, step: int) -> Put:
        """Put it in."""

        def inside(work: Work, sink: EventSink, switch: Cancellation) -> object:
            if step == COUNTING:
                return Counted(value=work(sink, switch), seen=_MOST)
            open_now = max(int(number) for number in os.listdir("/proc/self/fd"))  # noqa: PTH208
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + step, limits[1]))
            try:
                return Counted(value=work(sink, switch), seen=_MOST)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)

        return Put(inside=inside, count=counted)

    def is_right(self, error: BaseException) -> bool:
        """Whether it is an error of ours."""
        return isinstance(error, DiskError)


SOURCE_FAULTS: tuple[Fault, ...] = (
    SystemCallFault(
        name="EIO of a read of a source", calls=READS | {"copy_file_range"}, where=in_sources, effect=Effect.EIO
    ),
    SystemCallFault(name="EIO of opening a source", calls=OPENS, where=in_sources, effect=Effect.EIO),
)
"""What the file system of kernels, RAM disks and ISOs does."""

MAKING_FAULTS: tuple[Fault, ...] = (
    SystemCallFault(
        name="EIO of a new file in the folder", calls=frozenset({"openat"}), where=making, effect=Effect.EIO
    ),
    SystemCallFault(name="no descriptor is left", calls=_NEW_DESCRIPTORS, where=opening, effect=Effect.EMFILE),
    SystemCallFault(
        name="no descriptor is left from then on",
        calls=_NEW_DESCRIPTORS,
        where=opening,
        effect=Effect.EMFILE,
        stays=True,
    ),
    SystemCallFault(name="no memory for an open file", calls=_NEW_DESCRIPTORS, where=opening, effect=Effect.ENOMEM),
)
"""What the machine says when something is to be opened."""

KILL = SystemCallFault(
    name="kill -9 at a file call",
    calls=WRITES | PLACES | OPENS | FLUSHES | {"fchmod", "fchmodat"},
    where=lambda scene, call: (
        (target := call.target()) is not None and (scene.in_folders(target) or scene.is_temporary(target))
    ),
    effect=Effect.KILL,
)

SOURCES_GO: Fault = SystemCallFault(
    name="the sources' disk goes away", calls=READS, where=in_sources, effect=Effect.ENODEV, stays=True
)

ALL: tuple[Fault, ...] = (*FOLDER_FAULTS, *SOURCE_FAULTS, *MAKING_FAULTS, DescriptorsRunOut(), KILL)
