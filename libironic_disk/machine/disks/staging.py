"""A disk being made: partitions that can be filled, and a table that comes last.

From the first write on, the disk holds no table and no boot code. The kernel is told of the partitions all the same,
so that they can be formatted and filled, and :meth:`StagedDisk.commit` writes what makes the disk bootable, its very
first sector as the last of all. Whoever leaves earlier, by an error or otherwise, leaves a disk that does not boot.

Where a partition is kept its table must survive too: there the boot code alone is withheld, and a failure blanks every
partition that isn't kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from libironic_disk.errors import (
    DeviceFailed,
    DeviceReadOnly,
    DiskError,
    DiskState,
    PlanOutdated,
    add_aftermath,
)
from libironic_disk.events import Cancellation, EventSink, Phase, phase
from libironic_disk.machine.disks import (
    claims,
    committing,
    disk_io,
    libparted,
    loop,
    observing,
    partition_nodes,
    sysfs,
    wiping,
)
from libironic_disk.machine.disks.sysfs import BlockNode
from libironic_disk.pure.disks.encoding import encode_table
from libironic_disk.pure.disks.facts import DiskKind
from libironic_disk.pure.disks.planning import Action, Plan
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.model import Extent

_NODE_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedDisk:
    """A disk whose partitions are there and whose table isn't yet.

    ``node`` is the whole disk, ``nodes`` leads from partition numbers to their devices.
    """

    plan: Plan
    node: str
    nodes: Mapping[int, str]
    _finish: Callable[[Sequence[Extent]], None]

    def node_of(self, role: Role) -> str:
        """Return the device of the partition with this role.

        Raises:
            KeyError: the plan has none.
        """
        part = self.plan.partition(role)
        if part is None:
            raise KeyError(role)
        return self.nodes[part.number]

    def commit(self, head: Sequence[Extent] = ()) -> None:
        """Write the table and what makes the disk bootable, and prove it by reading it back.

        Args:
            head: what else goes into the first MiB: boot code for the first 440 bytes, and GRUB's core image on an MBR.

        Raises:
            DeviceFailed: something couldn't be written, or reads back otherwise.
            Cancelled: the caller wished so before the first byte of this was written.
        """
        self._finish(head)


@contextmanager
def staged(plan: Plan, *, lock_timeout: float, sink: EventSink, cancel: Cancellation) -> Iterator[StagedDisk]:
    """Open, lock and check a disk, wipe it and give its partitions; see this module's text for what holds meanwhile.

    Raises:
        PlanOutdated: it isn't the disk that was planned for. Nothing was written.
        DeviceBusy: somebody uses it. Nothing was written.
        DeviceLocked: somebody else kept the lock. Nothing was written.
        DeviceReadOnly: it can't be written.
        DeviceFailed: the kernel refused a read or a write.
        NodeMissing: a partition didn't appear.
        Cancelled: the caller wished so.
    """
    progress = _Progress()
    with _labelled(progress), ExitStack() as held:
        node = plan.device
        if plan.kind is DiskKind.PLAIN_FILE:
            file = held.enter_context(_opened(plan.device))
            held.enter_context(claims.locked(file, plan.device, timeout=lock_timeout, cancel=cancel))
            claims.check_file_unused(plan.device)
            node = held.enter_context(loop.attached(plan.device, sector_size=plan.topology.sector_size))
        disk = sysfs.whole_disk(node)
        # udevd acts when a descriptor that can write is closed: the lock has one of its own, which is closed later.
        guard = held.enter_context(_opened(disk.node, os.O_RDONLY))
        held.enter_context(claims.locked(guard, disk.node, timeout=lock_timeout, cancel=cancel))
        held.callback(claims.let_udevd_notice)
        fd = held.enter_context(_opened(disk.node))
        with phase(sink, Phase.CHECK, plan.device):
            _check_unchanged(plan, disk)
            claims.check_unused(disk)
            _check_writable(plan, disk)
            cancel.check("checking the disk")
        if plan.is_empty:
            progress.state = DiskState.FINISHED
            yield StagedDisk(plan=plan, node=disk.node, nodes=_told(fd, disk, plan), _finish=lambda head: None)
            return
        partition_nodes.remove_all(fd, disk)
        held.enter_context(_blanked_unless_committed(fd, disk, plan, progress))
        with phase(sink, Phase.WIPE, plan.device):
            committing.withhold(fd, disk.node, plan)
            wiping.wipe(fd, disk.node, plan, cancel)
        with phase(sink, Phase.PARTITION, plan.device):
            nodes = _told(fd, disk, plan)

        def finish(head: Sequence[Extent]) -> None:
            cancel.check("the last check before the table is written")
            with phase(sink, Phase.COMMIT, plan.device):
                committing.commit(fd, disk.node, plan, head)
                progress.state = DiskState.FINISHED

        yield StagedDisk(plan=plan, node=disk.node, nodes=nodes, _finish=finish)


@dataclass(slots=True)
class _Progress:
    """How far the work on a disk has come, for the errors that pass."""

    state: DiskState = DiskState.UNCHANGED


@contextmanager
def _labelled(progress: _Progress) -> Iterator[None]:
    """Say in every error that passes in which state the disk is, whatever was being released when it happened."""
    try:
        yield
    except DiskError as error:
        error.disk = progress.state
        raise


def _check_unchanged(plan: Plan, disk: BlockNode) -> None:
    if plan.kind is DiskKind.PLAIN_FILE:
        now = observing.observe_file(plan.device, sector_size=plan.topology.sector_size)
    else:
        now = observing.observe_disk(disk, plan.device)
    differences = plan.fingerprint.differences(now.fingerprint)
    if differences:
        raise PlanOutdated(device=plan.device, differences=differences)


def _told(fd: int, disk: BlockNode, plan: Plan) -> dict[int, str]:
    """Tell the kernel of every planned partition that it doesn't know yet, and return their nodes."""
    known = {(part.number, part.start, part.size) for part in sysfs.partitions(disk)}
    for part in plan.partitions:
        if (part.number, part.start, part.size) not in known:
            partition_nodes.add(fd, disk.node, part.number, part.span)
    wanted = [(part.number, part.span) for part in plan.partitions]
    return partition_nodes.wait_for(disk, wanted, timeout=_NODE_TIMEOUT)


def _check_writable(plan: Plan, disk: BlockNode) -> None:
    """Find what would refuse the plan only after the wipe: our encoding, libparted, and a kernel without partitions."""
    if not sysfs.can_have_partitions(disk):
        reason = "the kernel gives this kind of device no partitions"
        raise DeviceFailed(device=disk.node, action="partitioning", reason=reason)
    if plan.action is Action.MAKE:
        encode_table(plan, b"")
        libparted.check_layout(disk.node, plan)


@contextmanager
def _blanked_unless_committed(fd: int, disk: BlockNode, plan: Plan, progress: _Progress) -> Iterator[None]:
    # Unless it is blanked below, nobody knows what a failing write left.
    progress.state = DiskState.UNKNOWN
    try:
        yield
    except BaseException as error:
        # A failure behind the commit belongs to the caller and leaves the finished disk alone.
        if progress.state is not DiskState.FINISHED:
            _blank_and_say_so(fd, disk, plan, progress, error)
        raise
    if progress.state is not DiskState.FINISHED:
        committing.blank(fd, disk.node, plan)
        progress.state = DiskState.UNBOOTABLE
        _forget_partitions(fd, disk, plan)


def _blank_and_say_so(fd: int, disk: BlockNode, plan: Plan, progress: _Progress, error: BaseException) -> None:
    try:
        committing.blank(fd, disk.node, plan)
    except (DiskError, OSError) as second:
        add_aftermath(error, f"{plan.device} could not be made unbootable: {second}")
        return
    progress.state = DiskState.UNBOOTABLE
    add_aftermath(error, f"{plan.device} was left so that it does not boot")
    try:
        _forget_partitions(fd, disk, plan)
    except (DiskError, OSError) as second:
        add_aftermath(error, f"the kernel still knows its partitions: {second}")


def _forget_partitions(fd: int, disk: BlockNode, plan: Plan) -> None:
    if plan.action is Action.MAKE:
        partition_nodes.remove_all(fd, disk)


@contextmanager
def _opened(path: str, mode: int = os.O_RDWR) -> Iterator[int]:
    try:
        fd = os.open(path, mode | os.O_CLOEXEC)
    except OSError as error:
        if disk_io.is_write_protected(error):
            raise DeviceReadOnly(device=path) from error
        raise DeviceFailed(device=path, action="opening", reason=error.strerror or str(error)) from error
    try:
        yield fd
    finally:
        os.close(fd)
