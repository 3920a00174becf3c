"""What the disks' own locks don't keep apart: two applies with no disk in common can want one number, or one name.

The files lie where root alone can make any, so that nobody else can keep them locked, and stay.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from libironic_disk.errors import DeviceFailed, reason_of
from libironic_disk.events import Cancellation
from libironic_disk.machine.disks import claims

_DIRECTORY: Final = Path("/run/libironic_disk")
_NUMBERS_TIMEOUT: Final = 60.0


@contextmanager
def numbers_locked(cancel: Cancellation) -> Iterator[None]:
    """Keep every other apply of this host from choosing an array's number until ours is taken.

    Raises:
        DeviceLocked: somebody was making an array for a minute.
        DeviceFailed: there can't be such a lock.
        Cancelled: the caller wished so while it was waited for.
    """
    with _locked("arrays", _NUMBERS_TIMEOUT, cancel):
        yield


@contextmanager
def names_locked(groups: Iterable[str], *, timeout: float, cancel: Cancellation) -> Iterator[None]:
    """Keep every other apply of this host from making groups of these names; to be held until they are there.

    Raises:
        DeviceLocked: somebody was making a group of that name for ``timeout`` seconds.
        DeviceFailed: there can't be such a lock.
        Cancelled: the caller wished so while it was waited for.
    """
    with ExitStack() as stack:
        # In one order: two callers with names in common never wait for each other.
        for name in sorted(groups):
            stack.enter_context(_locked(f"group-{name}", timeout, cancel))
        yield


@contextmanager
def _locked(name: str, timeout: float, cancel: Cancellation) -> Iterator[None]:
    path = _DIRECTORY / name
    try:
        _DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DeviceFailed(device=str(path), action="opening the lock", reason=reason_of(error)) from error
    try:
        with claims.locked(fd, str(path), timeout=timeout, cancel=cancel):
            yield
    finally:
        os.close(fd)
