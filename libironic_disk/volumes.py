"""Several disks together: their partitions, mirrors of these, and volume groups on either.

The same four steps as for one disk (:mod:`libironic_disk.partitioner`)::

    facts = observe(["/dev/sda", "/dev/sdb"])
    wanted = plan(storage, facts)
    print(as_text(wanted))
    apply(wanted)

What runs upon the disks is never stopped unless the plan says so, by name; and what is also on a disk outside of the
request is never touched.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from libironic_disk import filesystems, partitioner
from libironic_disk.errors import (
    DeviceBusy,
    DiskError,
    DiskState,
    LayoutInvalid,
    NotABlockDevice,
    PlanOutdated,
    add_aftermath,
    leaving,
)
from libironic_disk.events import Cancellation, EventSink, Phase, ignore, phase
from libironic_disk.machine import process
from libironic_disk.machine.disks import observing, sysfs
from libironic_disk.machine.disks.holding import HeldDisk, held
from libironic_disk.machine.disks.hostlock import host_lock
from libironic_disk.machine.disks.staging import StagedDisk, filling
from libironic_disk.machine.disks.sysfs import BlockNode
from libironic_disk.machine.volumes import clearing, finding, locking, making, stacking
from libironic_disk.partitioner import LOCK_TIMEOUT
from libironic_disk.pure.disks.facts import DiskKind
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.disks.planning import Existing, Plan
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.model import Extent
from libironic_disk.pure.volumes import planner
from libironic_disk.pure.volumes.drawing import as_text as as_text
from libironic_disk.pure.volumes.facts import StorageFacts
from libironic_disk.pure.volumes.planning import Contents, StoragePlan
from libironic_disk.pure.volumes.storage import Storage
from libironic_disk.pure.words import as_word


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedStorage:
    """Disks that are as planned; ``nodes`` leads from ``array`` and ``group/volume`` to devices, which run."""

    plan: StoragePlan
    nodes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedStorage:
    """Disks whose volumes are there and whose tables aren't yet.

    ``disks`` are in the plan's order; ``nodes`` leads from ``array`` and ``group/volume`` to devices.
    """

    plan: StoragePlan
    disks: tuple[StagedDisk, ...]
    nodes: Mapping[str, str]

    def say(self, state: DiskState) -> None:
        """Have errors say this of the disks from now on, as of what is written into volumes that were there."""
        for disk in self.disks:
            disk.say(state)

    def commit(self, heads: Mapping[str, Sequence[Extent]] = MappingProxyType({})) -> None:
        """Write every disk's table, or leave none of them bootable; for an empty plan nothing is written.

        Args:
            heads: what else goes into the first MiB of a disk, by its path.

        Raises:
            KeyError: the plan has no disk with one of these paths.
            DeviceFailed: something couldn't be written, or reads back otherwise, or an array lost a member.
            Cancelled: the caller wished so before a disk's table was written.
        """
        if unknown := heads.keys() - {disk.plan.device for disk in self.disks}:
            raise KeyError(*sorted(unknown))
        try:
            for array in self.plan.arrays:
                making.check_whole(array.name, self.nodes[array.name])
            # What boots comes last: a power cut in between must leave no single disk that boots without the others.
            for disk in sorted(self.disks, key=lambda each: _boots(each.plan, heads)):
                disk.commit(heads.get(disk.plan.device, ()))
        except BaseException:
            for disk in self.disks:
                disk.revoke()
            raise


def observe(paths: Sequence[str], *, file_sector_size: int | None = None) -> StorageFacts:
    """Look at some disks and what is built upon them; nothing is changed.

    Args:
        paths: whole disks.
        file_sector_size: says that they are plain files, to be planned for as disks with sectors of so many bytes. No
            volumes are made on such.

    Arrays and groups that don't run are seen as far as their members are read without starting them: what is in a
    volume or an array that is stopped isn't.

    Raises:
        LayoutInvalid: two paths lead to one disk.
        NotABlockDevice: a path names something else, or a partition.
        DeviceFailed: a disk can't be read.
        ToolMissing: there are volumes on the disks, and LVM or mdadm isn't installed.
        ProgramError: LVM or mdadm failed.
    """
    if file_sector_size is not None:
        return StorageFacts(disks=tuple(observing.observe_file(path, sector_size=file_sector_size) for path in paths))
    disks = tuple((partitioner.observe(path), sysfs.whole_disk(path)) for path in paths)
    blocks = [block for _, block in disks]
    if len({block.devno for block in blocks}) < len(blocks):
        raise LayoutInvalid(problems=(f"two of {', '.join(paths)} are the same disk",))
    holders = stacking.holders(blocks)
    members = finding.members_of(disks)
    arrays = finding.arrays(disks, holders, members)
    return StorageFacts(
        disks=tuple(facts for facts, _ in disks),
        holders=holders,
        arrays=arrays,
        groups=finding.groups(disks, members, arrays),
    )


def plan(
    storage: Storage, facts: StorageFacts, *, existing: Existing = Existing.MATCH, take_apart: bool = False
) -> StoragePlan:
    """Decide what becomes of some disks; nothing is touched.

    Args:
        storage: what they are to look like, in the order in which they were observed.
        facts: what :func:`observe` returned.
        existing: whether disks that already look so are left alone, which gives an empty plan.
        take_apart: allow the plan to stop what runs upon the disks; it then names each in ``stops``.

    Raises:
        LayoutInvalid: the description contradicts itself, or the disks; lists every defect.
        LayoutDoesNotFit, VolumesDoNotFit: a disk or a group is too small.
        NameTaken: another group on the machine has the name of one of these.
        DeviceBusy: something runs upon the disks that isn't to be stopped, is mounted, is of a kind that is never
            stopped, or is also on another disk; names all of it.
        TableLimit, DeviceReadOnly, PreservationRefused: as :func:`libironic_disk.partitioner.plan`.
    """
    existing = as_word(Existing, existing, "existing")
    return planner.make_plan(storage, facts, seed=secrets.token_bytes(32), existing=existing, take_apart=take_apart)


def apply(
    wanted: StoragePlan,
    *,
    sink: EventSink = ignore,
    cancel: Cancellation | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
    lock_path: Path | None = None,
) -> AppliedStorage:
    """Make disks what was planned; arrays and volumes run afterwards.

    Raises:
        DiskError: those of :func:`stage`.
        ProgramError: a file system couldn't be made; no disk holds a table.
    """
    switch = cancel or Cancellation()
    with stage(wanted, sink=sink, cancel=switch, lock_timeout=lock_timeout, lock_path=lock_path) as storage:
        make_filesystems(storage, sink=sink, cancel=switch)
        storage.commit()
        return AppliedStorage(plan=wanted, nodes=storage.nodes)


@contextmanager
def stage(
    wanted: StoragePlan,
    *,
    sink: EventSink = ignore,
    cancel: Cancellation | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
    lock_path: Path | None = None,
) -> Iterator[StagedStorage]:
    """Give volumes to be filled while no disk holds a table, and lock all of the disks meanwhile.

    Leaving the ``with`` without :meth:`StagedStorage.commit` stops what was made and leaves no disk that boots. Nothing
    is made, stopped or taken away where the plan is empty; but that nobody uses any of it is proven then too.

    What is wrong before the first write, as it nearly always is, leaves every disk ``unchanged``; the error says so.

    Raises:
        ToolMissing: a program isn't installed. Nothing was written.
        NotABlockDevice: one of them is a plain file, which is no disk any more when this ends. Nothing was written.
        NameTaken: another group on the machine has the name of one of these by now. Nothing was written.
        LayoutInvalid: ``/dev`` has something with the name of a group. Nothing was written.
        TableLimit: a table can't express what was planned. Nothing was written.
        PlanOutdated: these aren't the disks that were planned for, or something else runs upon them.
        DeviceBusy: somebody uses a disk, or what runs upon it; names who.
        DeviceLocked: somebody else kept the lock of a disk, makes a group of one of these names, or chose the number of
            an array for a minute.
        DeviceReadOnly: a disk can't be written.
        DeviceFailed, NodeMissing: the kernel refused something.
        ProgramError: LVM or mdadm failed.
        Cancelled: the caller wished so.
    """
    switch = cancel or Cancellation()
    with leaving(DiskState.UNCHANGED), ExitStack() as stack:
        for each in wanted.disks:
            if each.kind is DiskKind.PLAIN_FILE and (wanted.arrays or wanted.groups):
                raise NotABlockDevice(device=each.device, found="is a plain file, on which no volumes are made")
        process.require((*making.required_tools(wanted), *filesystems.required_tools(_file_systems(wanted))))
        if not wanted.is_empty:
            # Before the disks: while udevd has a disk's lock, who wants the disk must not have to wait for its name.
            names = (group.name for group in wanted.groups)
            stack.enter_context(locking.names_locked(names, timeout=lock_timeout, cancel=switch))
        # In the order of their nodes: two callers with disks in common never wait for each other.
        plans = sorted(wanted.disks, key=lambda disk: Path(disk.device).resolve())
        disks = [stack.enter_context(_locked(each, lock_timeout, lock_path, switch)) for each in plans]
        pairs = list(zip(plans, disks, strict=True))
        running = _running(wanted) if wanted.is_empty else {}
        clearing.check(wanted, pairs, running.values(), switch)
        clearing.take_apart(wanted, disks, sink)
        filled = {
            each.device: stack.enter_context(filling(each, disk, sink=sink, cancel=switch)) for each, disk in pairs
        }
        staged = tuple(filled[each.device] for each in wanted.disks)
        with _volumes(wanted, filled, [disk.block for disk in disks], running, sink, switch) as nodes:
            yield StagedStorage(plan=wanted, disks=staged, nodes=nodes)


def make_filesystems(storage: StagedStorage, *, sink: EventSink = ignore, cancel: Cancellation | None = None) -> None:
    """Make every file system and swap area that the plan names, on partitions, arrays and volumes.

    Raises:
        ProgramError: a program failed.
        DeviceFailed: something else than what was made is found.
        Cancelled: the caller wished so.
    """
    if storage.plan.is_empty:
        return
    for disk in storage.disks:
        partitioner.make_filesystems(disk, sink=sink, cancel=cancel)
    for name, contents in _contents(storage.plan):
        if contents.filesystem is not None:
            with phase(sink, Phase.FORMAT, f"{contents.filesystem} on {name}"):
                filesystems.make(
                    contents.filesystem,
                    storage.nodes[name],
                    label=contents.label,
                    uuid=contents.filesystem_uuid,
                    cancel=cancel,
                )


def stop(facts: StorageFacts) -> None:
    """Stop every array and volume that runs upon some disks, as they were observed; what is on them stays.

    Raises:
        DeviceBusy: something else runs there too, or one is in use or also on another disk; nothing is stopped.
        PlanOutdated: something else runs by now; nothing is stopped.
        DeviceFailed, NotABlockDevice: a disk can't be looked at, or has gone.
        ProgramError: one of them can't be stopped.
    """
    obstacles = tuple(planner.obstacles(facts))
    if obstacles:
        raise DeviceBusy(device=facts.name, users=obstacles)
    clearing.check_running(facts.holders, [sysfs.whole_disk(disk.path) for disk in facts.disks], facts.name)
    making.check_idle(facts.holders, facts.name)
    for holder in facts.holders:
        making.stop(holder.kind, holder.node, holder.name)


def _boots(plan: Plan, heads: Mapping[str, Sequence[Extent]]) -> bool:
    return plan.device in heads or plan.partition(Role.ESP) is not None


def _contents(wanted: StoragePlan) -> Iterator[tuple[str, Contents]]:
    for array in wanted.arrays:
        yield array.name, array.contents
    for group in wanted.groups:
        for volume in group.volumes:
            yield f"{group.name}/{volume.name}", volume.contents


def _file_systems(wanted: StoragePlan) -> Iterator[FileSystem]:
    if wanted.is_empty:
        return
    on_disks = (part.filesystem for disk in wanted.disks for part in disk.makes)
    yield from (found for found in (*on_disks, *(each.filesystem for _, each in _contents(wanted))) if found)


@contextmanager
def _locked(plan: Plan, lock_timeout: float, lock_path: Path | None, cancel: Cancellation) -> Iterator[HeldDisk]:
    sector_size = plan.topology.sector_size
    with (
        host_lock(plan.device, lock_path, timeout=lock_timeout, cancel=cancel),
        held(plan.device, plan.kind, sector_size=sector_size, lock_timeout=lock_timeout, cancel=cancel) as disk,
    ):
        yield disk


@contextmanager
def _volumes(
    wanted: StoragePlan,
    filled: Mapping[str, StagedDisk],
    blocks: Sequence[BlockNode],
    running: Mapping[str, str],
    sink: EventSink,
    cancel: Cancellation,
) -> Iterator[Mapping[str, str]]:
    """Make arrays and groups; unless all disks are finished in the end, stop them again."""
    if wanted.is_empty:
        yield running
        return
    nodes: dict[str, str] = {}
    try:
        for array in wanted.arrays:
            with phase(sink, Phase.PARTITION, f"array {array.name}"):
                members = [filled[device].nodes[number] for device, number in array.members]
                nodes[array.name] = making.make_array(array, members, cancel)
        for group in wanted.groups:
            with phase(sink, Phase.PARTITION, f"group {group.name}"):
                members = [filled[device].nodes[number] for device, number in group.members]
                made = making.make_group(group, [*members, *(nodes[name] for name in group.arrays)], cancel)
                nodes |= {f"{group.name}/{name}": node for name, node in made.items()}
        yield nodes
    except BaseException as error:
        # A failure behind the commit belongs to the caller, and leaves finished disks and what runs on them alone.
        if not _finished(filled):
            try:
                making.stop_all(blocks)
            except (DiskError, OSError) as second:
                add_aftermath(error, f"volumes still run: {second}")
        raise
    if not _finished(filled):
        making.stop_all(blocks)


def _finished(filled: Mapping[str, StagedDisk]) -> bool:
    """Whether every disk is finished; if one isn't, the others don't stay so either."""
    if all(disk.is_finished for disk in filled.values()):
        return True
    for disk in filled.values():
        disk.revoke()
    return False


def _running(wanted: StoragePlan) -> dict[str, str]:
    """Return the nodes of all arrays and volumes of an empty plan.

    Raises:
        PlanOutdated: one of them doesn't run any more, or has lost a member.
    """
    if not (wanted.arrays or wanted.groups):
        return {}
    facts = observe([disk.device for disk in wanted.disks])
    whole = {array.uuid: array.node for array in facts.arrays if array.node and not array.lost}
    nodes = {array.name: whole[array.uuid] for array in wanted.arrays if array.uuid in whole}
    nodes |= {
        f"{group.name}/{volume.name}": volume.node
        for group in facts.groups
        if not group.foreign
        for volume in group.volumes
        if volume.node
    }
    gone = tuple(f"{name} doesn't run any more, or is not whole" for name, _ in _contents(wanted) if name not in nodes)
    if gone:
        raise PlanOutdated(device=wanted.name, differences=gone)
    return nodes
