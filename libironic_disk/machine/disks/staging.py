"""A disk being made: partitions that can be filled, and a table that comes last.

From the first write on, the disk holds no table and no boot code. The kernel is told of the partitions all the same,
so that they can be formatted and filled, and :meth:`StagedDisk.commit` writes what makes the disk bootable, its very
first sector as the last of all. Whoever leaves earlier, by an error or otherwise, leaves a disk that does not boot.

Where a partition is kept its table must survive too: there the boot code alone is withheld, and a failure blanks every
partition that isn't kept.
"""

from __future__ import annotations

import errno
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
from libironic_disk.machine.disks import claims, disk_io, libparted, loop, observing, partition_nodes, sysfs, wiping
from libironic_disk.machine.disks.sysfs import BlockNode
from libironic_disk.pure.disks.encoding import encode_table
from libironic_disk.pure.disks.facts import DiskKind
from libironic_disk.pure.disks.matching import table_differences
from libironic_disk.pure.disks.planner import EDGE, HEAD
from libironic_disk.pure.disks.planning import Action, Plan
from libironic_disk.pure.ranges import ByteRange, edges
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.bootrecord import BOOT_CODE_SIZE, with_boot_code
from libironic_disk.pure.tables.model import Extent
from libironic_disk.pure.tables.reading import read_table, regions

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
    with ExitStack() as held:
        node = plan.device
        if plan.kind is DiskKind.PLAIN_FILE:
            file = held.enter_context(_opened(plan.device))
            held.enter_context(claims.locked(file, plan.device, timeout=lock_timeout))
            node = held.enter_context(loop.attached(plan.device, sector_size=plan.topology.sector_size))
        disk = sysfs.whole_disk(node)
        # udevd acts when a descriptor that can write is closed: the lock has one of its own, which is closed later.
        guard = held.enter_context(_opened(disk.node, os.O_RDONLY))
        held.enter_context(claims.locked(guard, disk.node, timeout=lock_timeout))
        held.callback(claims.let_udevd_notice)
        fd = held.enter_context(_opened(disk.node))
        with phase(sink, Phase.CHECK, plan.device):
            _check_unchanged(plan, disk)
            claims.check_unused(disk)
            cancel.check("checking the disk")
        if plan.is_empty:
            yield StagedDisk(plan=plan, node=disk.node, nodes=_told(fd, disk, plan), _finish=lambda head: None)
            return
        partition_nodes.remove_all(fd, disk)
        held.enter_context(_blanked_unless_committed(fd, disk, plan, committed := []))
        with phase(sink, Phase.WIPE, plan.device):
            wiping.wipe(fd, disk.node, plan, cancel)
        with phase(sink, Phase.PARTITION, plan.device):
            _write_interim(fd, disk, plan)
            nodes = _told(fd, disk, plan)

        def finish(head: Sequence[Extent]) -> None:
            cancel.check("the last check before the table is written")
            with phase(sink, Phase.COMMIT, plan.device):
                _write_final(fd, disk.node, plan, head)
            committed.append(True)

        yield StagedDisk(plan=plan, node=disk.node, nodes=nodes, _finish=finish)


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


def _write_interim(fd: int, disk: BlockNode, plan: Plan) -> None:
    """Bring the disk into the state in which its partitions can be filled and nothing can boot."""
    if plan.action is Action.KEEP:
        disk_io.write(fd, disk.node, [Extent(0, bytes(BOOT_CODE_SIZE))])
        disk_io.flush(fd, disk.node)
        return
    libparted.write_table(disk.node, plan)
    disk_io.forget(fd)
    sector_size = plan.topology.sector_size
    made = read_table(disk_io.reader(fd, disk.node), device=disk.node, disk_size=plan.size, sector_size=sector_size)
    laid_out = {(part.number, part.start, part.size) for part in made.partitions} if made else set()
    if laid_out != {(part.number, part.start, part.size) for part in plan.partitions}:
        reason = "libparted laid the partitions out otherwise than planned"
        raise DeviceFailed(device=disk.node, action="partitioning", reason=reason)
    disk_io.zero(fd, disk.node, [ByteRange(at, at + size) for at, size in regions(made, plan.size, sector_size)])
    disk_io.flush(fd, disk.node)


def _write_final(fd: int, device: str, plan: Plan, head: Sequence[Extent]) -> None:
    boot_code = b"".join(extent.data for extent in head if extent.offset == 0)
    gap = [extent for extent in head if extent.offset > 0]
    sector_size = plan.topology.sector_size
    read = disk_io.reader(fd, device)
    if plan.action is Action.KEEP:
        first = Extent(0, with_boot_code(read(0, sector_size), boot_code))
        others: list[Extent] = []
    else:
        *others, first = encode_table(plan, boot_code)
    # The first sector decides whether there is a table at all, and a disk writes one sector whole or not at all.
    disk_io.write(fd, device, [*others, *gap])
    disk_io.flush(fd, device)
    disk_io.write(fd, device, [first])
    disk_io.flush(fd, device)
    found = read_table(read, device=device, disk_size=plan.size, sector_size=sector_size)
    differences = table_differences(plan.table, plan.partitions, found)
    if differences or found is None or found.disk_id != plan.disk_id or read(0, len(first.data)) != first.data:
        reason = "; ".join(differences) or "other bytes than were written"
        raise DeviceFailed(device=device, action="reading the new table back from", reason=reason)


@contextmanager
def _blanked_unless_committed(fd: int, disk: BlockNode, plan: Plan, committed: Sequence[bool]) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        # A failure behind the commit belongs to the caller and leaves the finished disk alone.
        state = DiskState.FINISHED if committed else _blank_and_say_so(fd, disk, plan, error)
        if isinstance(error, DiskError):
            error.disk = state
        raise
    if not committed:
        _blank(fd, disk, plan)


def _blank_and_say_so(fd: int, disk: BlockNode, plan: Plan, error: BaseException) -> DiskState:
    try:
        _blank(fd, disk, plan)
    except DiskError as second:
        add_aftermath(error, f"{plan.device} could not be made unbootable: {second}")
        return DiskState.UNKNOWN
    add_aftermath(error, f"{plan.device} was left so that it does not boot")
    return DiskState.UNBOOTABLE


def _blank(fd: int, disk: BlockNode, plan: Plan) -> None:
    if plan.action is Action.KEEP:
        disk_io.write(fd, disk.node, [Extent(0, bytes(BOOT_CODE_SIZE))])
        spans = [edge for part in plan.partitions if not part.keep for edge in edges(part.span, EDGE)]
        disk_io.zero(fd, disk.node, spans)
        disk_io.flush(fd, disk.node)
        return
    tables = [ByteRange(extent.offset, extent.offset + len(extent.data)) for extent in encode_table(plan, b"")]
    disk_io.zero(fd, disk.node, [ByteRange(0, min(HEAD, plan.size)), *tables])
    disk_io.flush(fd, disk.node)
    partition_nodes.remove_all(fd, disk)


@contextmanager
def _opened(path: str, mode: int = os.O_RDWR) -> Iterator[int]:
    try:
        fd = os.open(path, mode | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise DeviceReadOnly(device=path) from error
        raise DeviceFailed(device=path, action="opening", reason=error.strerror or str(error)) from error
    try:
        yield fd
    finally:
        os.close(fd)
