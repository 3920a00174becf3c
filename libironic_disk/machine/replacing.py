"""Files that take the place of others as a whole: each is made under a hidden name beside it first.

What a process that was killed left under such a name goes with the next file for the same place, and so does the
directory with its parts. Nobody can ask the dead, but the kernel: whoever makes a file has a lock on it (flock(2)),
which ends with its process.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from libironic_disk.errors import PathFailed
from libironic_disk.machine.paths import HERE, removed_on_error, reported

_MODE: Final = 0o666  # less the process's mask
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_LOOK: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@contextmanager
def replacing(destination: Path) -> Iterator[Path]:
    """Give the path of an empty file, which takes the destination's place when the ``with`` ends well.

    Within it the caller writes to that file, which is there already, and brings it to the disk (:func:`sync`).
    After an error nothing is left of it, and what was there before is still there. A link is replaced, and not what it
    leads to.

    Raises:
        PathFailed: it can't be made, written or renamed.
    """
    try:
        _remove_left(destination)
        temporary, descriptor = _made(destination)
    except (OSError, ValueError) as error:
        raise PathFailed.of(HERE, str(destination), error) from error
    try:
        with reported(destination), removed_on_error(temporary):
            yield temporary
            temporary.replace(destination)
    finally:
        os.close(descriptor)
    _sync_directory(destination)


def parts_of(temporary: Path) -> Path:
    """Return where whoever makes a file may have a directory with what it is made of: beside it, on its file system."""
    return temporary.with_name(f"{temporary.name}.parts")


def sync(path: Path) -> None:
    """Bring a file that another program wrote to the disk, or a directory's names.

    Raises:
        OSError: with the kernel's errno.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_plain(destination: Path) -> None:
    """Refuse a place where something is that is no plain file, or that leads to such a thing.

    The name of a disk that somebody gave for that of a file would be lost to all other programs.

    Raises:
        PathFailed: it is so, or can't be looked at.
    """
    try:
        mode = destination.stat().st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise PathFailed.of(HERE, str(destination), error) from error
    if not stat.S_ISREG(mode):
        reason = "it is a directory" if stat.S_ISDIR(mode) else "it is no plain file, and can't be replaced by one"
        raise PathFailed(tree=HERE, path=str(destination), reason=reason)


def _made(destination: Path) -> tuple[Path, int]:
    """Make a file beside the destination, locked; return its path and the descriptor that has the lock."""
    while True:
        path = destination.with_name(f".{destination.name}-{secrets.token_hex(4)}")
        descriptor = os.open(path, _CREATE, _MODE)
        try:
            if _is_ours(descriptor):
                return path, descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_ours(descriptor: int) -> bool:
    """Lock a new file, unless somebody else found it unlocked before that, took it for left, and removes it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # Without locks, as some file systems are, what is left stays; that is no reason to write nothing.
        return True
    return os.fstat(descriptor).st_nlink > 0


def _remove_left(destination: Path) -> None:
    """Remove what the dead left; what can't be told or removed stays, and is no error of the file that is to come."""
    made = re.compile(re.escape(f".{destination.name}-") + "[0-9a-f]{8}")
    with suppress(OSError), os.scandir(destination.parent) as entries:
        for entry in entries:
            if made.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    _remove_if_left(Path(entry.path))


def _remove_if_left(path: Path) -> None:
    descriptor = os.open(path, _LOOK)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The file last: without it nobody would know whose the parts are.
            with suppress(FileNotFoundError):
                shutil.rmtree(parts_of(path))
            path.unlink()
    finally:
        os.close(descriptor)


def _sync_directory(destination: Path) -> None:
    """Bring the name to the disk; where that fails, the file is there and may not outlast a power cut."""
    with reported(destination):
        sync(destination.parent)
