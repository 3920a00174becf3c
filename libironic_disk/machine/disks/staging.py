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
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from libironic_disk.errors import DeviceFailed, DiskError, DiskState, add_aftermath
from libironic_disk.events import Cancellation, EventSink, Phase, phase
from libironic_disk.machine.disks import committing, libparted, partition_nodes, sysfs, wiping
from libironic_disk.machine.disks.holding import HeldDisk, held
from libironic_disk.machine.disks.outcome import Progress, blanked_on_error, blanked_unless_finished
from libironic_disk.machine.disks.sysfs import BlockNode
from libironic_disk.pure.disks.encoding import encode_table
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
    _progress: Progress

    @property
    def is_finished(self) -> bool:
        """Whether the disk is as it was planned."""
        return self._progress.state is DiskState.FINISHED

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

    def say(self, state: DiskState) -> None:
        """Have errors say this of the disk from now on, as of what is written into partitions that were there."""
        self._progress.state = state

    def revoke(self) -> None:
        """Have the disk made unbootable on the way out after all, as another one that belongs to it wasn't finished."""
        self._progress.state = DiskState.UNKNOWN


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
    sector_size = plan.topology.sector_size
    with held(plan.device, plan.kind, sector_size=sector_size, lock_timeout=lock_timeout, cancel=cancel) as disk:
        with phase(sink, Phase.CHECK, plan.device):
            disk.check(plan.fingerprint)
            check_writable(plan, disk.block)
            cancel.check("checking the disk")
        with filling(plan, disk, sink=sink, cancel=cancel) as filled:
            yield filled


@contextmanager
def filling(plan: Plan, disk: HeldDisk, *, sink: EventSink, cancel: Cancellation) -> Iterator[StagedDisk]:
    """Wipe a disk that was checked, and give its partitions.

    Raises:
        DeviceFailed: the kernel refused a read or a write.
        NodeMissing: a partition didn't appear.
        Cancelled: the caller wished so.
    """
    progress = disk.progress
    if plan.is_empty:
        progress.state = DiskState.FINISHED
        yield StagedDisk(
            plan=plan, node=disk.node, nodes=_told(disk, plan), _finish=lambda head: None, _progress=progress
        )
        return
    partition_nodes.remove_all(disk.fd, disk.block)
    blank = partial(committing.blank, disk.fd, disk.node, plan)
    forget = partial(_forget_partitions, disk, plan)
    with blanked_on_error(progress, plan.device, blank=blank, forget=forget), phase(sink, Phase.WIPE, plan.device):
        committing.withhold(disk.fd, disk.node, plan)
        wiping.wipe(disk.fd, disk.node, plan, cancel)
    # Not before the wipe, as udevd would start what the disk was a member of; and a disk that is lost isn't blanked.
    disk.let_udevd_finish(cancel)
    with blanked_unless_finished(progress, plan.device, blank=blank, forget=forget):
        with phase(sink, Phase.PARTITION, plan.device):
            nodes = _told(disk, plan)

        def finish(head: Sequence[Extent]) -> None:
            cancel.check("the last check before the table is written")
            with phase(sink, Phase.COMMIT, plan.device):
                # Whoever filled a partition may not have waited, and a flush of the disk hears nothing of its writes.
                for node in nodes.values():
                    partition_nodes.flush(node)
                committing.commit(disk.fd, disk.node, plan, head)
                progress.state = DiskState.FINISHED

        with partition_nodes.kept(disk.block, nodes.values()):
            yield StagedDisk(plan=plan, node=disk.node, nodes=nodes, _finish=finish, _progress=progress)


def disarm(disks: Sequence[HeldDisk]) -> None:
    """Take away what starts each of some disks, and no more: a system that one of them starts may have volumes on all.

    Raises:
        DeviceFailed: one couldn't be read or written.
    """
    for disk in disks:
        disk.progress.state = DiskState.UNKNOWN
    try:
        for disk in disks:
            size = os.lseek(disk.fd, 0, os.SEEK_END)
            committing.disarm(disk.fd, disk.node, size=size, sector_size=disk.sector_size)
    except DiskError as error:
        add_aftermath(error, "the disks have their old tables, and some of them boot nothing any more")
        raise


def _told(disk: HeldDisk, plan: Plan) -> dict[int, str]:
    """Tell the kernel of every planned partition that it doesn't know yet, and return their nodes."""
    known = {(part.number, part.start, part.size) for part in sysfs.partitions(disk.block)}
    for part in plan.partitions:
        if (part.number, part.start, part.size) not in known:
            partition_nodes.add(disk.fd, disk.block, part.number, part.span)
    wanted = [(part.number, part.span) for part in plan.partitions]
    return partition_nodes.wait_for(disk.block, wanted, timeout=_NODE_TIMEOUT)


def check_writable(plan: Plan, disk: BlockNode) -> None:
    """Find what would refuse the plan only after the wipe: our encoding, libparted, and a kernel without partitions.

    Raises:
        TableLimit: the table can't express it.
        DeviceFailed: libparted or the kernel wouldn't.
    """
    if not sysfs.can_have_partitions(disk):
        reason = "the kernel gives this kind of device no partitions"
        raise DeviceFailed(device=disk.node, action="partitioning", reason=reason)
    if plan.action is Action.MAKE:
        encode_table(plan, b"")
        libparted.rehearse(disk.node, plan)


def _forget_partitions(disk: HeldDisk, plan: Plan) -> None:
    if plan.action is Action.MAKE:
        partition_nodes.remove_all(disk.fd, disk.block)
