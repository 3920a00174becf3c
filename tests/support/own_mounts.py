"""A call in a process with mounts of its own.

A mount of this process is copied into every namespace that somebody makes meanwhile, and a file system that is mounted
there still is neither written to its disk nor let go of by an unmount here.
"""

from __future__ import annotations

import ctypes
import os
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TypeVar

_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000

_Result = TypeVar("_Result")


def apart(call: Callable[[], _Result]) -> _Result:
    """Call it there, and return what it returned, which has to be something that can be pickled."""
    ours, theirs = get_context("fork").Pipe()
    process = get_context("fork").Process(target=_called, args=(call, theirs))
    process.start()
    theirs.close()
    try:
        said, value = ours.recv()
    finally:
        process.join()
        ours.close()
    assert said == "returned", value
    result: _Result = value
    return result


def _called(call: Callable[[], object], line: Connection) -> None:
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        line.send(("returned", call()))
    except BaseException:
        line.send(("raised", traceback.format_exc()))
