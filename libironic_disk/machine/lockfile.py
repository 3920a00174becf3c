"""Locks between threads and between processes: files that are held by flock(2), so a lock ends with its process.

Each opening of such a file is a holder of its own, in whichever thread it was.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_OPEN: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock whose file stays, and wait for it: nobody has it for long.

    Raises:
        OSError: the file can't be made.
    """
    descriptor = os.open(path, _OPEN | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def attempted(name: str | Path, *, directory: int | None = None) -> tuple[int, bool]:
    """Open a lock whose holder may remove its file; return the descriptor, and whether the lock is ours now.

    Links are not followed. The caller closes the descriptor.

    Args:
        name: of the file.
        directory: a descriptor that the name is looked up from.

    Raises:
        OSError: the file can't be made, or what has its name is something else.
    """
    while True:
        with suppress(FileNotFoundError):
            _require_file(os.stat(name, dir_fd=directory, follow_symlinks=False))
        descriptor = os.open(name, _OPEN | os.O_NOFOLLOW, 0o600, dir_fd=directory)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(descriptor, name, directory):
                return descriptor, True
        except BlockingIOError:
            return descriptor, False
        except BaseException:
            os.close(descriptor)
            raise
        # Whoever had it has removed it after we opened it, and somebody else may have made a new one.
        os.close(descriptor)


def _require_file(found: os.stat_result) -> None:
    """Refuse what isn't a plain file: opening a device already acts on it, and a pipe has nothing written to it."""
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EEXIST, "what has the name of a lock is no plain file")


def _is_still(descriptor: int, name: str | Path, directory: int | None) -> bool:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))
