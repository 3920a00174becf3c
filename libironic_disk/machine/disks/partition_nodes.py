"""Partitions as the kernel knows them: told one by one, and waited for until they are what was asked for.

BLKPG tells the kernel of one partition at a time (``linux/blkpg.h``). BLKRRPART would make it read the table instead,
which fails while any partition is open, needs the table on the disk and a kernel that can parse it, and takes away
every node for a moment. That a node exists proves nothing: it may be an older partition's.

Of a disk that is device mapper's the kernel knows no partitions: there each is a mapping
(:mod:`~libironic_disk.machine.disks.mapper`).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from libironic_disk.errors import DeviceBusy, DeviceFailed, DiskError, NodeMissing, ProgramFailed, add_aftermath
from libironic_disk.machine.disks import claims, disk_io, mapper, sysfs
from libironic_disk.machine.disks.sysfs import BlockNode, KernelPartition
from libironic_disk.pure.ranges import ByteRange

_BLKPG: Final = 0x1269
_ADD: Final = 1
_DELETE: Final = 2
_LONGEST_NAP: Final = 0.05
_BUSY_TIMEOUT: Final = 5.0


class _Partition(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_longlong),
        ("length", ctypes.c_longlong),
        ("number", ctypes.c_int),
        ("device_name", ctypes.c_char * 64),
        ("volume_name", ctypes.c_char * 64),
    )


class _Argument(ctypes.Structure):
    _fields_ = (
        ("operation", ctypes.c_int),
        ("flags", ctypes.c_int),
        ("length", ctypes.c_int),
        ("data", ctypes.POINTER(_Partition)),
    )


def _blkpg(fd: int, operation: int, number: int, span: ByteRange) -> None:
    partition = _Partition(start=span.start, length=span.size, number=number)
    argument = _Argument(operation=operation, length=ctypes.sizeof(partition), data=ctypes.pointer(partition))
    fcntl.ioctl(fd, _BLKPG, bytes(argument))


def add(fd: int, disk: BlockNode, number: int, span: ByteRange) -> None:
    """Tell the kernel of a partition.

    Raises:
        DeviceFailed: it refuses.
        ToolMissing, ProgramTimedOut: of a mapped disk, dmsetup isn't installed or doesn't answer.
    """
    try:
        if sysfs.is_mapped(disk):
            _add_mapping(disk, number, span)
        else:
            _blkpg(fd, _ADD, number, span)
    except (OSError, ProgramFailed) as error:
        reason = (error.stderr if isinstance(error, ProgramFailed) else error.strerror) or str(error)
        action = f"adding partition {number} of"
        raise DeviceFailed(device=disk.node, action=action, reason=reason.strip(), offset=span.start) from error


def _add_mapping(disk: BlockNode, number: int, span: ByteRange) -> None:
    try:
        mapper.add_partition(disk.directory, disk.devno, number, span)
    except ProgramFailed:
        # udevd may have run kpartx: it takes no lock for the disks of device mapper.
        known = {(part.number, part.start, part.size) for part in sysfs.partitions(disk)}
        if (number, span.start, span.size) not in known:
            raise


def remove_all(fd: int, disk: BlockNode) -> None:
    """Make the kernel forget every partition of a disk, or none of them.

    A partition that is merely open is waited for: blkid and its like look at one for milliseconds, lock or no lock,
    and the kernel refuses as long as they do.

    Raises:
        DeviceBusy: one of them stayed open for 5 seconds; those already forgotten are told again.
        DeviceFailed: the kernel refuses.
        ToolMissing, ProgramTimedOut: of a mapped disk, dmsetup isn't installed or doesn't answer.
    """
    is_mapped = sysfs.is_mapped(disk)
    if is_mapped:
        # Even if there are none: the new ones come behind the wipe.
        mapper.require_tools()
        # udevd's kpartx would give back what is removed here, if it still has a close of the disk to deal with.
        claims.let_udevd_notice()
    known = sysfs.partitions(disk)
    deadline = time.monotonic() + _BUSY_TIMEOUT
    gone: list[KernelPartition] = []
    try:
        # The last one first: mapped, a logical partition may be built upon the extended one.
        for part in reversed(known):
            if is_mapped:
                _remove_mapping(disk, part)
            else:
                _remove(fd, disk.node, part.number, deadline)
            gone.append(part)
    except BaseException as error:
        _tell_again(fd, disk, gone, error)
        raise


def remove_all_of(disks: Iterable[tuple[int, BlockNode]]) -> None:
    """Make the kernel forget every partition of several disks, or none of them.

    Raises:
        DeviceBusy, DeviceFailed, ToolMissing, ProgramTimedOut: as :func:`remove_all`; all are told again.
    """
    gone: list[tuple[int, BlockNode, Sequence[KernelPartition]]] = []
    try:
        for fd, disk in disks:
            known = sysfs.partitions(disk)
            remove_all(fd, disk)
            gone.append((fd, disk, known))
    except BaseException as error:
        for fd, disk, parts in gone:
            _tell_again(fd, disk, parts, error)
        raise


def _tell_again(fd: int, disk: BlockNode, gone: Iterable[KernelPartition], error: BaseException) -> None:
    for part in gone:
        try:
            add(fd, disk, part.number, ByteRange(part.start, part.start + part.size))
        except DiskError as second:
            add_aftermath(error, str(second))


def _remove_mapping(disk: BlockNode, part: KernelPartition) -> None:
    name = sysfs.word(part.block, "dm/name")
    try:
        mapper.remove(part.block.directory)
    except ProgramFailed as error:
        if not part.block.directory.exists():
            return
        if mapper.is_open(name):
            raise DeviceBusy(device=disk.node, users=(f"partition {part.number} is open",)) from error
        action = f"removing partition {part.number} of"
        raise DeviceFailed(device=disk.node, action=action, reason=error.stderr.strip()) from error


def _remove(fd: int, device: str, number: int, deadline: float) -> None:
    nap = 0.001
    while True:
        try:
            _blkpg(fd, _DELETE, number, ByteRange(0, 0))
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            if error.errno != errno.EBUSY:
                reason = error.strerror or str(error)
                raise DeviceFailed(device=device, action=f"removing partition {number} of", reason=reason) from error
            if time.monotonic() >= deadline:
                raise DeviceBusy(device=device, users=(f"partition {number} is open",)) from error
        else:
            return
        time.sleep(nap)
        nap = min(nap * 2, _LONGEST_NAP)


@contextmanager
def kept(disk: BlockNode, nodes: Iterable[str]) -> Iterator[None]:
    """Keep the partitions of a mapped disk while the disk holds no table that has them.

    udevd locks no disk of device mapper's, and where kpartx's rules are installed it runs ``kpartx -u`` whenever
    somebody who could write a multipath map closes it. That removes each partition that no table has, unless it is
    open.

    Raises:
        DeviceFailed: one of them can't be opened.
    """
    with ExitStack() as stack:
        for node in nodes if sysfs.is_mapped(disk) else ():
            stack.enter_context(disk_io.opened(node, os.O_RDONLY))
        yield


def flush(node: str) -> None:
    """Wait until the disk has everything that was written to a partition.

    Raises:
        DeviceFailed: a write that had seemed to succeed was lost.
    """
    with disk_io.opened(node, os.O_RDONLY) as fd:
        disk_io.flush(fd, node)


def wait_for(disk: BlockNode, wanted: Sequence[tuple[int, ByteRange]], *, timeout: float) -> dict[int, str]:
    """Wait until each partition is there with its own number, start and size, and return their nodes by number.

    Raises:
        NodeMissing: one of them isn't after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    nap = 0.001
    while True:
        known = {part.number: part for part in sysfs.partitions(disk)}
        missing = [(number, _lacking(known.get(number), span)) for number, span in wanted]
        missing = [(number, why) for number, why in missing if why]
        if not missing:
            return {number: known[number].block.node for number, _ in wanted}
        if time.monotonic() >= deadline:
            number, found = missing[0]
            raise NodeMissing(device=disk.node, number=number, waited=timeout, found=found)
        time.sleep(nap)
        nap = min(nap * 2, _LONGEST_NAP)


def _lacking(part: KernelPartition | None, span: ByteRange) -> str:
    """Say what is still wrong with a partition; nothing when its node leads to exactly these bytes."""
    if part is None:
        return "the kernel does not know it"
    if (part.start, part.size) != (span.start, span.size):
        return f"the kernel has {part.size} bytes from byte {part.start} under that number"
    try:
        status = os.stat(part.block.node)
    except OSError as error:
        return f"{part.block.node}: {error.strerror}"
    if not stat.S_ISBLK(status.st_mode) or status.st_rdev != part.block.devno:
        return f"{part.block.node} leads to another device"
    return ""
