"""Partition tables: what a disk holds, what it is to hold, and making it so.

Three functions in this order::

    facts = observe("/dev/sda")            # opens it read-only
    wanted = plan(layout, facts)           # touches nothing
    print(as_text(wanted))
    apply(wanted)                          # refuses if the disk isn't the one that was observed

:func:`stage` is for callers that fill the partitions before the disk may boot, as :mod:`libironic_disk.deploy` does.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libironic_disk import filesystems
from libironic_disk.errors import DiskState, leaving
from libironic_disk.events import Cancellation, EventSink, Phase, ignore, phase
from libironic_disk.machine import process
from libironic_disk.machine.disks import observing, sysfs
from libironic_disk.machine.disks.hostlock import host_lock
from libironic_disk.machine.disks.staging import StagedDisk, staged
from libironic_disk.pure.disks import planner
from libironic_disk.pure.disks.facts import DiskFacts
from libironic_disk.pure.disks.layout import Layout
from libironic_disk.pure.disks.planning import Existing, Plan
from libironic_disk.pure.words import as_word

LOCK_TIMEOUT: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A disk that is as it was planned.

    ``nodes`` leads from partition numbers to devices; they are gone again where the disk is a plain file.
    """

    plan: Plan
    nodes: Mapping[int, str]


def observe(path: str, *, file_sector_size: int | None = None) -> DiskFacts:
    """Look at a disk without changing it: it is opened read-only.

    Args:
        path: a whole disk; links such as those of /dev/disk/by-id are followed.
        file_sector_size: says that ``path`` is a plain file, to be a disk with sectors of so many bytes.

    Raises:
        NotABlockDevice: the path names something else, or a partition.
        DeviceFailed: it can't be read.
    """
    if file_sector_size is not None:
        return observing.observe_file(path, sector_size=file_sector_size)
    return observing.observe_disk(sysfs.whole_disk(path), path)


def plan(layout: Layout, facts: DiskFacts, *, existing: Existing = Existing.MATCH) -> Plan:
    """Decide what becomes of a disk; nothing is touched.

    Args:
        layout: what it is to look like.
        facts: what :func:`observe` returned.
        existing: whether a disk that already looks so is left alone, which gives an empty plan.

    Raises:
        LayoutInvalid: the layout contradicts itself; lists every defect. Or ``existing`` is no such word.
        LayoutDoesNotFit: the disk is too small.
        TableLimit: it would fit, but an MBR can't reach so far.
        DeviceReadOnly: the disk can't be written.
        PreservationRefused: a partition to keep isn't on the disk, exactly so.
    """
    existing = as_word(Existing, existing, "existing")
    return planner.make_plan(layout, facts, seed=secrets.token_bytes(32), existing=existing)


def apply(
    wanted: Plan,
    *,
    sink: EventSink = ignore,
    cancel: Cancellation | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
    lock_path: Path | None = None,
) -> Applied:
    """Make a disk what was planned: old metadata gone, file systems made, the table written last.

    Args:
        wanted: the plan; an empty one changes nothing.
        sink: told what happens.
        cancel: thrown by the caller, the work stops and the disk holds no table.
        lock_timeout: seconds to wait for another user's lock.
        lock_path: a directory in which callers that share a host also lock each other out by oslo.concurrency.

    Raises:
        ToolMissing: a program for a file system isn't installed. Nothing was written.
        DeviceError: any of those of :func:`stage`.
        ProgramError: a file system couldn't be made; the disk holds no table.
        Cancelled: the caller wished so.
    """
    switch = cancel or Cancellation()
    with stage(wanted, sink=sink, cancel=switch, lock_timeout=lock_timeout, lock_path=lock_path) as disk:
        make_filesystems(disk, sink=sink, cancel=switch)
        disk.commit()
        return Applied(plan=wanted, nodes=disk.nodes)


@contextmanager
def stage(
    wanted: Plan,
    *,
    sink: EventSink = ignore,
    cancel: Cancellation | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
    lock_path: Path | None = None,
) -> Iterator[StagedDisk]:
    """Give the partitions of a disk to be filled while it holds no table, and lock it meanwhile.

    Leaving the ``with`` without :meth:`StagedDisk.commit`, by an error or otherwise, leaves a disk that doesn't boot.

    Raises:
        ToolMissing: a program for a file system isn't installed. Nothing was written.
        PlanOutdated: it isn't the disk that was planned for. Nothing was written.
        DeviceBusy: somebody uses it; names who. Nothing was written.
        DeviceLocked: somebody else kept the lock. Nothing was written.
        DeviceReadOnly: it can't be written.
        DeviceFailed: the kernel refused a read or a write.
        NodeMissing: a partition didn't appear.
        Cancelled: the caller wished so.
    """
    switch = cancel or Cancellation()
    # An error that comes from behind the first write says so itself.
    with leaving(DiskState.UNCHANGED), host_lock(wanted.device, lock_path, timeout=lock_timeout, cancel=switch):
        process.require(filesystems.required_tools(part.filesystem for part in wanted.makes if part.filesystem))
        with staged(wanted, lock_timeout=lock_timeout, sink=sink, cancel=switch) as disk:
            yield disk


def make_filesystems(disk: StagedDisk, *, sink: EventSink = ignore, cancel: Cancellation | None = None) -> None:
    """Make every file system and swap area that the plan of a staged disk names.

    Raises:
        ProgramError: a program failed.
        DeviceFailed: something else than what was made is found.
        Cancelled: the caller wished so.
    """
    for part in disk.plan.makes:
        if part.filesystem is None:
            continue
        with phase(sink, Phase.FORMAT, f"{part.filesystem} on {part.name}"):
            filesystems.make(
                part.filesystem,
                disk.nodes[part.number],
                label=part.label,
                uuid=part.filesystem_uuid,
                cancel=cancel,
            )
