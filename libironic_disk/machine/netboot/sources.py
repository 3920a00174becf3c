"""Files that are to be published: looked at for the plan, and copied into a store below the root.

They are copied and never linked: a link would let whoever writes into the original change what machines are booting,
and the other way round. What is in the store is never written again, so links to that are safe: a thousand machines
with one RAM disk need the room of one.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import PurePath
from typing import Final

from libironic_disk.errors import InvalidParameterValue, SourceChanged, SourceFailed, reason_of
from libironic_disk.machine.netboot.rootdir import PUBLIC, PublishedRoot
from libironic_disk.machine.undoing import undone_on_error
from libironic_disk.pure.netboot.names import STATE
from libironic_disk.pure.netboot.planning import SeenFile

STORE: Final = f"{STATE}/images"
_PIECE: Final = 16 << 20
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def see(path: PurePath) -> SeenFile:
    """Look at a file that is to be published.

    Raises:
        InvalidParameterValue: it isn't there, is no regular file, can't be read, or is empty.
    """
    try:
        # Opening a device already acts on it: one rewinds a tape, another begins to count down to a reset.
        is_regular = stat.S_ISREG(os.stat(path).st_mode)
        descriptor = os.open(path, _READ) if is_regular else None
    except (OSError, ValueError) as error:
        raise InvalidParameterValue(problems=(f"{path}: {reason_of(error)}",)) from error
    if descriptor is None:
        raise InvalidParameterValue(problems=(f"{path} is no regular file",))
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise InvalidParameterValue(problems=(f"{path} is no regular file",))
    if not found.st_size:
        raise InvalidParameterValue(problems=(f"{path} is empty",))
    return _seen(path, found)


def stored(file: SeenFile) -> str:
    """Return the path of a file in the store."""
    return f"{STORE}/{file.identity}"


@contextmanager
def copied(root: PublishedRoot, file: SeenFile) -> Iterator[str]:
    """Copy a file to a temporary name in the store, whole and on the disk; give that path.

    It is held by flock(2) until the ``with`` ends, so :func:`collect` can tell it from what a crash left.

    Raises:
        SourceChanged: it isn't the one that was planned for, or is written to.
        SourceFailed: it can't be read.
        PathFailed: it can't be written.
    """
    root.make_directories(STORE, mode=0o700)
    path = f"{STORE}/.{file.identity}.{secrets.token_hex(8)}"
    try:
        source = os.open(file.path, _READ)
    except OSError as error:
        raise SourceFailed(source=str(file.path), reason=error.strerror or str(error)) from error
    with ExitStack() as stack:
        stack.callback(os.close, source)
        _check_same(source, file)
        with root.parent(path) as (directory, name):
            target = _new_file(directory, name)
            stack.callback(os.close, target)
            # Once it has another name, there is nothing to remove.
            stack.enter_context(_gone_afterwards(root, path))
            _copy_bytes(source, target, file)
            os.fchmod(target, PUBLIC)
            os.fsync(target)
        _check_same(source, file)
        yield path


@contextmanager
def _gone_afterwards(root: PublishedRoot, path: str) -> Iterator[None]:
    """Remove a file at the end; after an error, that this fails too is added to it."""
    with undone_on_error(lambda: root.remove(path), "and cleaning up failed"):
        yield
    root.remove(path)


def place(root: PublishedRoot, file: SeenFile, copy: str | None, path: str) -> None:
    """Give a file of the store its public name. The caller holds the lock of the whole root.

    Args:
        root: where.
        file: which.
        copy: as :func:`copied` gives it; None if the store had the file.
        path: its public name.
    """
    home = stored(file)
    # Somebody else may have been quicker.
    if copy is not None and root.look(home) is None:
        with root.parent(copy) as (directory, name):
            os.rename(name, home.rpartition("/")[2], src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)
    root.link(home, path)


def collect(root: PublishedRoot) -> None:
    """Remove from the store what nobody publishes any more. The caller holds the lock of the whole root."""
    for name in root.names(STORE):
        path = f"{STORE}/{name}"
        found = root.look(path)
        if found is None or not stat.S_ISREG(found.st_mode):
            # Nothing of ours: opening a device already acts on it.
            continue
        if name.startswith("."):
            _remove_abandoned(root, path)
        elif found.st_nlink == 1:
            root.remove(path)


def _remove_abandoned(root: PublishedRoot, path: str) -> None:
    with root.parent(path) as (directory, name):
        try:
            descriptor = os.open(name, _READ | os.O_NOFOLLOW, dir_fd=directory)
        except OSError:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=directory)
        except OSError:
            # It is being written.
            return
        finally:
            os.close(descriptor)


def _new_file(directory: int, name: str) -> int:
    """Make a file that is locked from the first moment at which anybody could take it for abandoned."""
    while True:
        descriptor = os.open(name, _CREATE, 0o600, dir_fd=directory)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def _copy_bytes(source: int, target: int, file: SeenFile) -> None:
    done = 0
    by_kernel = True
    while done < file.size:
        wanted = min(_PIECE, file.size - done)
        if by_kernel:
            try:
                count = os.copy_file_range(source, target, wanted, done, done)
            except OSError:
                # It can't between these two, or one of them fails: by hand it shows which.
                by_kernel = False
                continue
        else:
            count = os.pwrite(target, _read_at(source, file, done, wanted), done)
        if not count:
            # It became shorter: what comes next finds that.
            return
        done += count


def _read_at(source: int, file: SeenFile, offset: int, size: int) -> bytes:
    try:
        return os.pread(source, size, offset)
    except OSError as error:
        raise SourceFailed(source=str(file.path), reason=error.strerror or str(error), offset=offset) from error


def _check_same(descriptor: int, file: SeenFile) -> None:
    if _seen(file.path, os.fstat(descriptor)) != file:
        raise SourceChanged(source=str(file.path), reason="it isn't the file any more that was planned for")


def _seen(path: PurePath, found: os.stat_result) -> SeenFile:
    return SeenFile(
        path=path,
        size=found.st_size,
        device=found.st_dev,
        inode=found.st_ino,
        modified=found.st_mtime_ns,
        changed=found.st_ctime_ns,
    )
