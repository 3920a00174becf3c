"""Calls on a range of an open file that Python's os module doesn't have."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from functools import cache
from typing import Final

KEEP_SIZE: Final = 0x01
PUNCH_HOLE: Final = 0x02
ZERO_RANGE: Final = 0x10

SYNC_WAIT_BEFORE: Final = 1
SYNC_WRITE: Final = 2
SYNC_WAIT_AFTER: Final = 4

_BLKZEROOUT: Final = 0x127F


def allocate(descriptor: int, mode: int, start: int, length: int) -> None:
    """Call fallocate(2) with a mode.

    Raises:
        OSError: with the kernel's errno.
    """
    _check(_libc().fallocate64(descriptor, mode, ctypes.c_int64(start), ctypes.c_int64(length)))


def zero_out(descriptor: int, start: int, length: int) -> None:
    """Have the kernel write zeros to a block device (BLKZEROOUT; ``linux/fs.h``); multiples of its sectors.

    Raises:
        OSError: with the kernel's errno; ENOTTY for anything but a block device.
    """
    fcntl.ioctl(descriptor, _BLKZEROOUT, struct.pack("=QQ", start, length))


def synchronise(descriptor: int, flags: int, start: int, length: int) -> None:
    """Call sync_file_range(2): begin to write dirty pages back, or wait for them. The disk's own cache isn't flushed.

    Raises:
        OSError: with the kernel's errno; a page that couldn't be written is reported here.
    """
    _check(_libc().sync_file_range(descriptor, ctypes.c_int64(start), ctypes.c_int64(length), ctypes.c_uint(flags)))


def address(data: memoryview) -> int:
    """Return where in memory the first of some writable bytes is; there must be one."""
    return ctypes.addressof(ctypes.c_char.from_buffer(data))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
