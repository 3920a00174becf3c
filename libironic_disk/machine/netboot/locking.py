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

from libironic_disk.errors import BootTaskBusy, PathFailed
from libironic_disk.machine import lockfile
from libironic_disk.machine.netboot.rootdir import PublishedRoot
from libironic_disk.pure.netboot.names import STATE

LOCKS: Final = f"{STATE}/locks"
_ROOT: Final = "root"
_NAP: Final = 0.01
_PATIENCE: Final = 60.0
_INTRODUCTION: Final = 0.2
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
    # Open until the end: to let go needs no descriptor then, of which there may be none.
    with root.directory(LOCKS) as directory:
        try:
            descriptor = _taken(directory, subject, time.monotonic() + patience)
        except OSError as error:
            raise PathFailed.of(root.name, f"{LOCKS}/{subject}", error) from error
        try:
            # A full disk is no reason not to clean it up.
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, holder.encode()[:_HOLDER_BYTES], 0)
            yield
        finally:
            # While it is still held: who opened it before finds that it isn't the file of that name any more.
            with suppress(OSError):
                os.unlink(subject, dir_fd=directory)
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


def collect(root: PublishedRoot) -> None:
    """Remove the files of locks that nobody has: a crash left them."""
    for name in root.names(LOCKS):
        with root.parent(f"{LOCKS}/{name}") as (directory, _):
            descriptor, is_ours = lockfile.attempted(name, directory=directory)
            try:
                if is_ours:
                    os.unlink(name, dir_fd=directory)
            finally:
                os.close(descriptor)


def _taken(directory: int, subject: str, deadline: float) -> int:
    # Who has not said yet who they are may be about to, or only collect what a crash left.
    nameless = max(deadline, time.monotonic() + _INTRODUCTION)
    while True:
        descriptor, is_ours = lockfile.attempted(subject, directory=directory)
        if is_ours:
            return descriptor
        try:
            holder = os.pread(descriptor, _HOLDER_BYTES, 0).decode(errors="replace")
        finally:
            os.close(descriptor)
        if time.monotonic() >= (deadline if holder else nameless):
            raise BootTaskBusy(subject=subject, holder=holder or "somebody else")
        time.sleep(_NAP)
