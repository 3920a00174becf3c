"""Partitions as the kernel knows them: told one by one, and waited for until they are what was asked for.

BLKPG tells the kernel of one partition at a time (``linux/blkpg.h``). BLKRRPART would make it read the table instead,
which fails while any partition is open, needs the table on the disk and a kernel that can parse it, and takes away
every node for a moment. That a node exists proves nothing: it may be an older partition's.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import time
from collections.abc import Sequence
from typing import Final

from libironic_disk.errors import DeviceBusy, DeviceFailed, NodeMissing, add_aftermath
from libironic_disk.machine.disks import sysfs
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


def add(fd: int, device: str, number: int, span: ByteRange) -> None:
    """Tell the kernel of a partition.

    Raises:
        DeviceFailed: it refuses.
    """
    try:
        _blkpg(fd, _ADD, number, span)
    except OSError as error:
        reason = error.strerror or str(error)
        action = f"adding partition {number} of"
        raise DeviceFailed(device=device, action=action, reason=reason, offset=span.start) from error


def remove_all(fd: int, disk: BlockNode) -> None:
    """Make the kernel forget every partition of a disk, or none of them.

    A partition that is merely open is waited for: blkid and its like look at one for milliseconds, lock or no lock,
    and the kernel refuses as long as they do.

    Raises:
        DeviceBusy: one of them stayed open for 5 seconds; those already forgotten are told again.
        DeviceFailed: the kernel refuses.
    """
    known = sysfs.partitions(disk)
    deadline = time.monotonic() + _BUSY_TIMEOUT
    gone: list[KernelPartition] = []
    try:
        for part in known:
            _remove(fd, disk.node, part.number, deadline)
            gone.append(part)
    except BaseException as error:
        for part in gone:
            try:
                add(fd, disk.node, part.number, ByteRange(part.start, part.start + part.size))
            except DeviceFailed as second:
                add_aftermath(error, str(second))
        raise


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
