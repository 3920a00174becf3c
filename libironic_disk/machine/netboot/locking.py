"""Locks on a machine, its network cards and a whole root, between threads and between processes.

A lock is a file below the root that is held by flock(2), so it ends with its process. The file says who has it, and is
gone when nobody has.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from libironic_disk.errors import BootTaskBusy
from libironic_disk.machine import lockfile
from libironic_disk.machine.netboot.rootdir import PublishedRoot
from libironic_disk.pure.netboot.names import STATE

LOCKS: Final = f"{STATE}/locks"
_ROOT: Final = "root"
_NAP: Final = 0.01
_PATIENCE: Final = 60.0
_HOLDER_BYTES: Final = 200


@contextmanager
def locked(root: PublishedRoot, subject: str, *, holder: str, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock of a node or a MAC address.

    Args:
        root: where.
        subject: whose lock it is; part of a file's name.
        holder: what others are told who has it.
        patience: seconds to wait for it.

    Raises:
        BootTaskBusy: somebody else has it; with what they said.
        PathFailed: the lock's file can't be made.
    """
    root.make_directories(STATE, mode=0o700)
    root.make_directories(LOCKS, mode=0o700)
    with root.parent(f"{LOCKS}/{subject}") as (directory, name):
        descriptor = _taken(directory, name, subject, time.monotonic() + patience)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode()[:_HOLDER_BYTES], 0)
        yield
    finally:
        # While it is still held: who opened it before finds that it isn't the file of that name any more.
        with suppress(OSError), root.parent(f"{LOCKS}/{subject}") as (directory, name):
            os.unlink(name, dir_fd=directory)
        os.close(descriptor)


@contextmanager
def whole_root(root: PublishedRoot, *, holder: str) -> Iterator[None]:
    """Hold the lock of what machines share; it is waited for, because nobody has it for long.

    Raises:
        BootTaskBusy: somebody had it for a minute.
        PathFailed: the lock's file can't be made.
    """
    with locked(root, _ROOT, holder=holder, patience=_PATIENCE):
        yield


def _taken(directory: int, name: str, subject: str, deadline: float) -> int:
    while True:
        descriptor, is_ours = lockfile.attempted(name, directory=directory)
        if is_ours:
            return descriptor
        holder = os.pread(descriptor, _HOLDER_BYTES, 0).decode(errors="replace") or "somebody else"
        os.close(descriptor)
        if time.monotonic() >= deadline:
            raise BootTaskBusy(subject=subject, holder=holder)
        time.sleep(_NAP)
