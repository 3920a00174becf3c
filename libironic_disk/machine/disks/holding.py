"""A disk held for the time of the work on it: attached where it is a plain file, locked, open, and proven unused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from libironic_disk.errors import DeviceFailed, DeviceReadOnly, DiskError, PlanOutdated, add_aftermath
from libironic_disk.events import Cancellation
from libironic_disk.machine.disks import claims, disk_io, loop, observing, sysfs
from libironic_disk.machine.disks.outcome import Progress, labelled
from libironic_disk.machine.disks.sysfs import BlockNode
from libironic_disk.pure.disks.facts import DiskKind, Fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldDisk:
    """A locked disk, open for reading and writing.

    ``path`` is what the caller calls it; ``block`` is the device behind that, a loop device where it is a plain file.
    ``progress`` is what every error that ends the holding says of the disk. ``guard`` is the descriptor that has the
    lock.
    """

    path: str
    kind: DiskKind
    sector_size: int
    block: BlockNode
    fd: int
    guard: int
    lock_timeout: float
    progress: Progress

    @property
    def node(self) -> str:
        """The device's node."""
        return self.block.node

    def check(self, fingerprint: Fingerprint) -> None:
        """Prove that it is the disk that was planned for and that nobody else uses it.

        Raises:
            PlanOutdated: it isn't.
            DeviceBusy: somebody does.
            DeviceReadOnly: it can't be opened for writing.
            DeviceFailed: it can't be read, or doesn't do what it is told.
        """
        self.check_same(fingerprint)
        claims.check_unused(self.block)

    def check_same(self, fingerprint: Fingerprint) -> None:
        """Prove that it is the disk that was planned for, and that it can be flushed.

        Raises:
            PlanOutdated: it isn't.
            DeviceFailed: it can't be read, or doesn't do what it is told.
        """
        # Behind the first write, all that could be done about it would be to leave the disk in whatever state it is.
        disk_io.check_flushes(self.fd, self.node)
        differences = fingerprint.differences(self._fingerprint())
        if differences:
            raise PlanOutdated(device=self.path, differences=differences)

    def _fingerprint(self) -> Fingerprint:
        if self.kind is DiskKind.PLAIN_FILE:
            return observing.observe_file(self.path, sector_size=self.sector_size).fingerprint
        return observing.observe_disk(self.block, self.path).fingerprint

    def let_udevd_finish(self, cancel: Cancellation) -> None:
        """Have udevd, where it runs, deal with every event of partitions that are gone.

        Under the lock it leaves events for later. By then a new partition may have the name: what it finds there it
        takes for what was on the old one, whose end comes next, and mdadm's rules throw the new one out of its array.

        Raises:
            DeviceLocked: somebody else got the lock in between, and kept it.
            PlanOutdated, DeviceBusy: they made something else of the disk, or use it. It must not be written any more.
            DeviceReadOnly: it can't be opened for writing.
            DeviceFailed: it can't be read.
            Cancelled: the caller wished so while the lock was waited for.
        """
        # It takes no lock for the disks of device mapper, and kpartx's rules would make the old partitions anew.
        if sysfs.is_mapped(self.block) or not claims.is_udevd_there():
            return
        try:
            before = self._fingerprint()
            claims.let_udevd_finish(self.guard, self.block, timeout=self.lock_timeout, cancel=cancel)
            self.check(before)
        except DiskError as error:
            words = "was wiped, and is not written any more: somebody else may have had it meanwhile"
            add_aftermath(error, f"{self.path} {words}")
            raise


@contextmanager
def held(
    path: str, kind: DiskKind, *, sector_size: int, lock_timeout: float, cancel: Cancellation
) -> Iterator[HeldDisk]:
    """Lock and open a disk; nothing is written.

    Raises:
        DeviceBusy: it is a plain file, and a loop device has it.
        DeviceLocked: somebody else kept the lock.
        DeviceReadOnly: it can't be written.
        DeviceFailed: it can't be opened.
        Cancelled: the caller wished so.
    """
    progress = Progress()
    with labelled(progress), ExitStack() as stack:
        node = path
        if kind is DiskKind.PLAIN_FILE:
            file = stack.enter_context(_opened(path))
            stack.enter_context(claims.locked(file, path, timeout=lock_timeout, cancel=cancel))
            claims.check_file_unused(path)
            node = stack.enter_context(loop.attached(path, sector_size=sector_size))
        block = sysfs.whole_disk(node)
        # udevd acts when a descriptor that can write is closed: the lock has one of its own, which is closed later.
        guard = stack.enter_context(_opened(block.node, os.O_RDONLY))
        stack.enter_context(claims.locked(guard, block.node, timeout=lock_timeout, cancel=cancel))
        stack.callback(claims.let_udevd_notice)
        fd = stack.enter_context(_opened(block.node))
        yield HeldDisk(
            path=path,
            kind=kind,
            sector_size=sector_size,
            block=block,
            fd=fd,
            guard=guard,
            lock_timeout=lock_timeout,
            progress=progress,
        )


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
