"""A plain file as a block device, for as long as a `with` lasts.

Source of the calls: loop(4) and ``linux/loop.h``. LOOP_CONFIGURE (Linux 5.8) sets file, sector size and flags at one
blow; the older LOOP_SET_FD left a moment in which the device had the wrong sector size.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from libironic_disk.errors import DeviceFailed, add_aftermath
from libironic_disk.machine.disks import sysfs

_GET_FREE: Final = 0x4C82
_CONFIGURE: Final = 0x4C0A
_CLEAR: Final = 0x4C01
# AUTOCLEAR: the kernel detaches the device with its last user, so that not even kill -9 leaves one behind.
# PARTSCAN: without it, detaching leaves the partitions' nodes to the next user of the same number.
_AUTOCLEAR_AND_PARTSCAN: Final = 4 | 8
_INFO: Final = struct.Struct("=5Q4I64s64s32s2Q")
_ATTEMPTS: Final = 50


@contextmanager
def attached(path: str, *, sector_size: int) -> Iterator[str]:
    """Attach a plain file and give the path of its block device; detach it afterwards.

    Args:
        path: the file.
        sector_size: the logical sector size that the device is to have.

    Raises:
        DeviceFailed: the file can't be opened or no loop device can be had.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(path, "opening", error) from error
    try:
        loop, node = _configured(file, path, sector_size)
    finally:
        os.close(file)
    try:
        yield node
    except BaseException as error:
        try:
            _detach(loop, node)
        except DeviceFailed as second:
            add_aftermath(error, str(second))
        raise
    _detach(loop, node)


def _configured(file: int, path: str, sector_size: int) -> tuple[int, str]:
    # struct loop_info64: five 64-bit words, then offset type, key size, flags ..., the names and the key.
    info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, _AUTOCLEAR_AND_PARTSCAN, os.fsencode(path)[-63:], b"", b"", 0, 0)
    config = struct.pack("=2I", file, sector_size) + info + bytes(64)
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(path, "attaching", error) from error
    try:
        for _ in range(_ATTEMPTS):
            node = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
            loop = os.open(node, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(loop, _CONFIGURE, config)
            except OSError as error:
                os.close(loop)
                # Somebody else was given the same free number and was faster.
                if error.errno != errno.EBUSY:
                    raise
                continue
            return loop, node
    except OSError as error:
        raise _failed(path, "attaching", error) from error
    finally:
        os.close(control)
    raise DeviceFailed(device=path, action="attaching", reason="others took every free loop device")


def _detach(loop: int, node: str) -> None:
    """Detach and wait until it is done: the file must not have a user any more when the caller goes on."""
    try:
        backing = sysfs.block_node(os.fstat(loop).st_rdev).directory / "loop" / "backing_file"
        fcntl.ioctl(loop, _CLEAR)
    except OSError as error:
        raise _failed(node, "detaching", error) from error
    finally:
        os.close(loop)
    deadline = time.monotonic() + 5
    while backing.exists():
        if time.monotonic() > deadline:
            raise DeviceFailed(device=node, action="detaching", reason="somebody still has it open")
        time.sleep(0.001)


def _failed(device: str, action: str, error: OSError) -> DeviceFailed:
    return DeviceFailed(device=device, action=action, reason=error.strerror or str(error))
