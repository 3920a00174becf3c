"""Who uses a disk, and keeping others away while we do.

The lock is systemd's (BLOCK_DEVICE_LOCKING): flock on the whole disk's node keeps udevd from probing it and from
making the kernel read its table again. It keeps away only those who ask for it; who merely opens the disk is found by
O_EXCL, and who mounted it or built upon it is named from the kernel's own lists.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from libironic_disk.errors import DeviceBusy, DeviceFailed, DeviceLocked, DeviceReadOnly, DiskError
from libironic_disk.events import Cancellation
from libironic_disk.machine import process
from libironic_disk.machine.disks import disk_io, shortage, sysfs, users
from libironic_disk.machine.disks.sysfs import BlockNode

_NAP = 0.005
_UDEV_CONTROL = Path("/run/udev/control")
_PING_TIMEOUT = 5
_EVENTS_TIMEOUT = 10


@contextmanager
def locked(fd: int, device: str, *, timeout: float, cancel: Cancellation | None = None) -> Iterator[None]:
    """Hold the exclusive lock on an open disk or file.

    It belongs to the open file: threads of one process exclude each other as well, and it ends with the process.

    Raises:
        DeviceLocked: another holder kept it for ``timeout`` seconds.
        DeviceFailed: the kernel has no lock to give.
        Cancelled: the caller wished so while it was waited for.
    """
    _lock(fd, device, timeout, cancel)
    try:
        yield
    finally:
        # The lock ends with the descriptor anyway, and must not end what was right as a failure.
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)


@contextmanager
def disk_locked(node: str, *, timeout: float, cancel: Cancellation | None = None) -> Iterator[None]:
    """Hold the exclusive lock of the disk that a partition is on, as a deployment of that disk does.

    The partition's own would keep nobody off who is about to make another one in its place; and the node, held open for
    as long as the lock is waited for, would keep the kernel from taking the old one away.

    Raises:
        DeviceLocked: another holder kept it for ``timeout`` seconds.
        NotABlockDevice: the node leads to no device.
        DeviceFailed: the disk can't be opened.
        Cancelled: the caller wished so while it was waited for.
    """
    disk = sysfs.disk_of(sysfs.block_node(sysfs.block_device_number(node)))
    with disk_io.opened(disk.node, os.O_RDONLY) as fd, locked(fd, disk.node, timeout=timeout, cancel=cancel):
        yield


def _lock(fd: int, device: str, timeout: float, cancel: Cancellation | None) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise DeviceLocked(device=device, waited=timeout, holders=users.lock_holders(fd)) from None
            if cancel is not None:
                cancel.check("waiting for the lock")
            time.sleep(_NAP)
        except OSError as error:
            raise _no_lock(device, error) from error


def _no_lock(device: str, error: OSError) -> DeviceFailed:
    return DeviceFailed(device=device, action="locking", reason=error.strerror or str(error))


def is_udevd_there() -> bool:
    """Whether udevd runs, and can be reached from here."""
    return _UDEV_CONTROL.exists()


def let_udevd_finish(fd: int, disk: BlockNode, *, timeout: float, cancel: Cancellation) -> None:
    """Wait until udevd has dealt with every event of a disk and its partitions so far; ``fd`` has the lock on it.

    For each event udevd takes a shared lock, and one that it doesn't get is left for later, with all that follow it on
    the same disk. So the lock is a shared one meanwhile. To make it exclusive again the kernel may let go of it first:
    what was proven of the disk has to be proven anew. One more event is asked for, because it comes behind all others
    of the disk; to wait until udevd has none at all would be to wait for the locks of other disks. A udevd that doesn't
    get there within 10 seconds is no reason to fail.

    Raises:
        DeviceLocked: somebody else got the lock and kept it for ``timeout`` seconds.
        DeviceFailed: the kernel has no lock to give.
        Cancelled: the caller wished so while it was waited for.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
    except OSError as error:
        raise _no_lock(disk.node, error) from error
    with suppress(DiskError):
        process.run("udevadm", "trigger", "--settle", str(disk.directory), timeout=_EVENTS_TIMEOUT)
    _lock(fd, disk.node, timeout, cancel)


def let_udevd_notice() -> None:
    """Wait until udevd, where it runs, has dealt with every close so far; to be called with the lock still held.

    When a descriptor that could write a whole disk is closed, udevd makes the kernel read the table again unless
    somebody has the lock by then. That takes each partition's node away, and a kernel that can't parse the table gives
    none back. It answers a ping only when it has nothing else to do (systemd, ``manager_start_ctrl``), and one that
    never answers is no reason to fail.
    """
    if is_udevd_there():
        with suppress(DiskError):
            process.run("udevadm", "control", "--ping", f"--timeout={_PING_TIMEOUT}", timeout=_PING_TIMEOUT + 1)


def is_claimed(node: str) -> bool:
    """Whether a mount, in whatever namespace, a device that is built upon it or a program has claimed a device.

    Raises:
        DeviceFailed: it can't be opened.
    """
    try:
        os.close(os.open(node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise DeviceFailed(device=node, action="opening", reason=error.strerror or str(error)) from error
    return False


def check_file_unused(path: str) -> None:
    """Prove that no loop device has a plain file attached: through one, a part of it may be mounted.

    Raises:
        DeviceBusy: names the loop devices.
    """
    file = os.stat(path)
    attached = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            status = os.stat(backing.read_text().rstrip("\n"))
        except OSError as error:
            shortage.refuse(error, path)
            continue
        if (status.st_dev, status.st_ino) == (file.st_dev, file.st_ino):
            attached.append(f"it is attached to /dev/{backing.parts[3]}")
    if attached:
        raise DeviceBusy(device=path, users=tuple(sorted(attached)))


def check_unused(disk: BlockNode, *, beside: Container[str] = ()) -> None:
    """Prove that nobody uses a disk or any of its partitions; ``beside`` are holders that may, by sysfs's names.

    Raises:
        DeviceBusy: names every mount, swap area and holder; or says that the kernel refuses without naming why, as
            for a mount in another namespace.
        DeviceReadOnly: the disk can't be opened for writing.
        DeviceFailed: it can't be opened at all.
    """
    found = tuple(dict.fromkeys(_users(disk, beside)))
    if found:
        raise DeviceBusy(device=disk.node, users=found)
    blocks = sysfs.with_partitions(disk)
    held = {block.devno for block in blocks if sysfs.holders(block)}
    for block in blocks:
        # What still has holders has partitions of device mapper's, or what may be there. They claim it, so that nobody
        # else can have; and who claims a partition claims its disk.
        if block.devno in held or (held and block.devno == disk.devno):
            continue
        node = block.node
        try:
            # Exclusive for this moment only: mkfs claims a partition the same way, and would be refused.
            os.close(os.open(node, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC))
        except OSError as error:
            if error.errno == errno.EBUSY:
                unnamed = f"{node} is claimed by a mount in another namespace or by another program"
                raise DeviceBusy(device=disk.node, users=(unnamed,)) from error
            if disk_io.is_write_protected(error):
                raise DeviceReadOnly(device=disk.node) from error
            raise DeviceFailed(device=node, action="opening", reason=error.strerror or str(error)) from error


def _users(disk: BlockNode, beside: Container[str]) -> Iterator[str]:
    blocks = sysfs.with_partitions(disk)
    yield from users.uses(blocks)
    own = {block.name for block in blocks}
    for block in blocks:
        for holder in sysfs.holders(block):
            if holder not in own and holder not in beside:
                yield f"{block.node} is held by {_named(holder)}"


def _named(holder: str) -> str:
    """Return the name of what is built upon a disk, and what that is where device mapper tells."""
    found = sysfs.mapping(Path("/sys/class/block") / holder)
    if found is None:
        return holder
    maker, name = found
    if maker == sysfs.MULTIPATH:
        return f"{holder}, the multipath map {name}, which is the disk to work on"
    return f"{holder}, the logical volume {name}" if maker == sysfs.LVM else holder
