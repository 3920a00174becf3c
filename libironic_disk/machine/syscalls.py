"""System calls that Python's os module doesn't have. The numbers are the same on every architecture since Linux 5.1."""

from __future__ import annotations

import ctypes
import os
from typing import Final

FSOPEN: Final = 430
FSCONFIG: Final = 431
FSMOUNT: Final = 432
OPENAT2: Final = 437


def syscall(number: int, *arguments: int | bytes | None) -> int:
    """Make a system call and return its result.

    ``arguments`` are integers and, for pointers, bytes that the kernel only reads.

    Raises:
        OSError: with the kernel's errno.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(ctypes.c_long(number), *(_word(argument) for argument in arguments)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def syncfs(descriptor: int) -> None:
    """Write all that is dirty in the file system of ``descriptor`` to its device.

    Raises:
        OSError: a write failed, now or since the file system was mounted (Linux 5.8).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(ctypes.c_int(descriptor)) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _word(argument: int | bytes | None) -> ctypes.c_long | ctypes.c_char_p:
    # A bare Python integer would be passed as a 32-bit int, whose upper half the kernel then reads as garbage.
    return ctypes.c_long(argument) if isinstance(argument, int) else ctypes.c_char_p(argument)
