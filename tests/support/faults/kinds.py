"""The faults that calls are walked through, by what has them."""

from __future__ import annotations

from typing import Final

from tests.support.faults.callers import CancelledAtEvent, RaisedAtEvent
from tests.support.faults.fault import Fault
from tests.support.faults.programs import Ill, ProgramFault
from tests.support.faults.systemcalls import (
    FLUSHES,
    LOCKS,
    MEMORY_FILES,
    MOUNTS,
    OPENS,
    PLACES,
    READS,
    WRITES,
    Effect,
    SystemCallFault,
    anywhere,
    anywhere_of_ours,
    facts,
    full_temporary,
    in_folders,
    on_disk,
    ours_or_a_mount,
)


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
    SystemCallFault(
        name="ENOMEM of a file in memory", calls=MEMORY_FILES, where=anywhere, effect=Effect.ENOMEM, bounded=True
    ),
)
"""What the kernel answers for want of descriptors or memory."""

PROGRAM_FAULTS: tuple[Fault, ...] = tuple(ProgramFault(ill=ill) for ill in Ill)

KILL_ANYWHERE: Final[Fault] = SystemCallFault(
    name="kill -9 at any call",
    calls=WRITES | FLUSHES | PLACES | READS | MOUNTS,
    where=ours_or_a_mount,
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
