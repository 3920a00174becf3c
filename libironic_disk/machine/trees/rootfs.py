"""Files inside a file system that an image's author filled.

A name in there is never opened by string, because every part of it may be a symbolic link to anywhere. It is resolved
as the system in the image would after its boot, with the tree's root as ``/``: by openat2(2) where the kernel has it
(Linux 5.6), else by a walk of our own in :mod:`libironic_disk.machine.trees.treewalk`.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Final, NoReturn

from libironic_disk.errors import PathFailed
from libironic_disk.machine import syscalls
from libironic_disk.machine.trees.treewalk import open_walking

Opener = Callable[[int, str, int], int]
"""``opener(root, path, flags)`` opens a path inside a tree and returns a descriptor, or raises OSError."""

_NO_XDEV, _NO_MAGICLINKS, _IN_ROOT = 0x01, 0x02, 0x10
_TRIES: Final = 32
_READ_CHUNK: Final = 1 << 20
# What a disk's driver says of a bad place or a lost connection (Linux' block/blk-core.c, blk_errors); most file systems
# make EIO of it, and XFS passes it on.
_DRIVERS_ERRORS: Final = frozenset(
    {errno.EIO, errno.ENODATA, errno.ETIMEDOUT, errno.ENOLINK, errno.EREMOTEIO, errno.EBADE, errno.EILSEQ}
)
_REFUSALS: Final = _DRIVERS_ERRORS | {errno.EMFILE, errno.ENFILE, errno.ENODEV, errno.ENOMEM}


def open_in_root(root: int, path: str, flags: int) -> int:
    """Open an existing path with openat2(2): no link, no ``..`` and no other mount leads out of the tree.

    Raises:
        OSError: as open(2) does; ENOSYS before Linux 5.6.
    """
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, _NO_XDEV | _NO_MAGICLINKS | _IN_ROOT)
    for _ in range(_TRIES):
        try:
            return syscalls.syscall(syscalls.OPENAT2, root, os.fsencode(path), how, len(how))
        except OSError as error:
            # Some rename or mount on this machine, not in this tree, happened during a `..`: the kernel asks for
            # another try.
            if error.errno != errno.EAGAIN:
                raise
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def best_opener(root: int) -> Opener:
    """Return :func:`open_in_root` where it works, else the walk; old container filters answer EPERM to new calls."""
    try:
        os.close(open_in_root(root, ".", os.O_PATH))
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EPERM}:
            return open_walking
        raise
    return open_in_root


def is_refusal(error: PathFailed) -> bool:
    """Whether the kernel could not look: then nothing is known of what is there, and an image without it is another."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _REFUSALS


class RootDir:
    """A directory as the root of an untrusted tree.

    Args:
        descriptor: of the directory; it stays the caller's to close.
        tree: what errors call the file system, as a rule its device.
        opener: how paths are resolved; the kernel's way if it has one.

    Paths are relative to the root, with or without a leading slash. Every method raises
    :class:`~libironic_disk.errors.PathFailed` where a path is missing, of the wrong kind or can't be read or written.
    """

    __slots__ = ("_opener", "_root", "_tree")

    def __init__(self, descriptor: int, *, tree: str, opener: Opener | None = None) -> None:
        self._root = descriptor
        self._tree = tree
        try:
            self._opener = opener or best_opener(descriptor)
        except OSError as error:
            self._fail("/", error)

    @property
    def tree(self) -> str:
        """What errors call the file system."""
        return self._tree

    @contextmanager
    def directory(self, path: str, *, readable: bool = False) -> Iterator[int]:
        """Open an existing directory inside the tree, as the place for calls that take a ``dir_fd``.

        Unless ``readable``, the descriptor serves for nothing else.
        """
        with self._opened(path, (os.O_RDONLY if readable else os.O_PATH) | os.O_DIRECTORY) as descriptor:
            yield descriptor

    def exists(self, path: str) -> bool:
        """Whether the path leads to anything inside the tree; a dangling link doesn't."""
        try:
            os.close(self._opener(self._root, path, os.O_PATH))
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                return False
            self._fail(path, error)
        return True

    def is_file(self, path: str) -> bool:
        """Whether the path leads to a regular file inside the tree."""
        if not self.exists(path):
            return False
        with self._opened(path, os.O_PATH) as descriptor:
            return stat.S_ISREG(os.fstat(descriptor).st_mode)

    def names(self, path: str, *, limit: int = 10_000) -> tuple[str, ...]:
        """Return the names in a directory, sorted; more than ``limit`` are an error."""
        with self._opened(path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
            try:
                with os.scandir(descriptor) as entries:
                    found = sorted(entry.name for entry in islice(entries, limit + 1))
            except OSError as error:
                self._fail(path, error)
        if len(found) > limit:
            raise PathFailed(tree=self._tree, path=path, reason=f"it has more than {limit} entries")
        return tuple(found)

    def read_file(self, path: str, *, limit: int) -> bytes:
        """Return a regular file's contents; more than ``limit`` bytes are an error."""
        return b"".join(self._pieces(path, limit))

    def crc32(self, path: str, *, limit: int) -> int:
        """Return the CRC-32 of a regular file's contents, zlib's; more than ``limit`` bytes are an error."""
        checksum = 0
        for piece in self._pieces(path, limit):
            checksum = zlib.crc32(piece, checksum)
        return checksum

    def write_file(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        """Write a file that appears under its name only when it is complete and on the disk.

        What was there before is replaced, a symbolic link too: what it points to stays as it was.
        """
        directory, _, name = path.rstrip("/").rpartition("/")
        self.write_files(directory or "/", {name: data}, mode=mode, sync=True)

    def write_files(self, directory: str, files: Mapping[str, bytes], *, mode: int = 0o644, sync: bool = False) -> None:
        """Write many files into one existing directory, each as :meth:`write_file` does.

        Unless ``sync``, they are on the disk only after a syncfs(2), such as the one at the end of a mount.
        """
        with self._opened(directory, os.O_RDONLY | os.O_DIRECTORY) as parent:
            for name, data in files.items():
                path = f"{directory.rstrip('/')}/{name}"
                if name in {"", ".", ".."} or "/" in name:
                    raise PathFailed(tree=self._tree, path=path, reason="that is no name for a file")
                try:
                    _write(parent, name, data, mode=mode, sync=sync)
                except OSError as error:
                    self._fail(path, error)
            if sync:
                try:
                    os.fsync(parent)
                except OSError as error:
                    self._fail(directory, error)

    def remove_unfinished(self, directory: str) -> None:
        """Remove what a process that was killed had begun to write in a directory; nobody else may be writing there."""
        unfinished = [name for name in self.names(directory) if _UNFINISHED.fullmatch(name)]
        with self._opened(directory, os.O_RDONLY | os.O_DIRECTORY) as parent:
            for name in unfinished:
                try:
                    os.unlink(name, dir_fd=parent)
                except OSError as error:
                    self._fail(f"{directory.rstrip('/')}/{name}", error)

    def rewrite_file(self, path: str, data: bytes) -> None:
        """Write a file as :meth:`write_file` does; one that was there leaves it its owner, permissions and labels."""
        mode, owner, labels = 0o644, None, {}
        if self.exists(path):
            with self._opened(path, os.O_PATH) as found:
                self._require_regular(path, found)
            with self._opened(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY) as before:
                seen = os.fstat(before)
                mode, owner = stat.S_IMODE(seen.st_mode), (seen.st_uid, seen.st_gid)
                try:
                    labels = {name: os.getxattr(before, name) for name in os.listxattr(before)}
                except OSError as error:
                    self._fail(path, error)
        # Nobody reads it before it is as closed as the one before.
        self.write_file(path, data, mode=mode & 0o700 if owner else mode)
        if owner is None:
            return
        with self._opened(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY) as descriptor:
            try:
                os.fchown(descriptor, *owner)
                os.fchmod(descriptor, mode)
                for name, value in labels.items():
                    os.setxattr(descriptor, name, value)
            except OSError as error:
                self._fail(path, error)

    def overwrite(self, path: str, data: bytes) -> None:
        """Write over the beginning of a regular file, which keeps its size and its place on the disk.

        Nothing else of the file system changes with it but a time. The data are on the disk on return.
        """
        with self._opened(path, os.O_PATH) as found:
            self._require_regular(path, found)
        with self._opened(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY) as descriptor:
            self._require_regular(path, descriptor)
            if os.fstat(descriptor).st_size < len(data):
                raise PathFailed(tree=self._tree, path=path, reason=f"it has fewer than {len(data)} bytes")
            try:
                if os.pwrite(descriptor, data, 0) != len(data):
                    raise PathFailed(tree=self._tree, path=path, reason="not all of it could be written")
                os.fsync(descriptor)
            except OSError as error:
                self._fail(path, error)

    def make_dirs(self, path: str) -> None:
        """Make a directory and those above it where they are missing; links to directories inside count as such."""
        done = ""
        for name in (part for part in path.split("/") if part not in {"", "."}):
            parent, done = done or "/", f"{done}/{name}"
            if self.exists(done):
                continue
            if name == "..":
                raise PathFailed(tree=self._tree, path=path, reason="its parent is missing")
            with self._opened(parent, os.O_PATH | os.O_DIRECTORY) as descriptor:
                try:
                    os.mkdir(name, dir_fd=descriptor)
                except OSError as error:
                    self._fail(done, error)
        with self._opened(path, os.O_PATH | os.O_DIRECTORY):
            return

    @contextmanager
    def _opened(self, path: str, flags: int) -> Iterator[int]:
        try:
            descriptor = self._opener(self._root, path, flags)
        except OSError as error:
            self._fail(path, error)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _pieces(self, path: str, limit: int) -> Iterator[bytes]:
        # First by O_PATH, which touches nothing: opening a device or a FIFO already acts on it.
        with self._opened(path, os.O_PATH) as found:
            self._require_regular(path, found)
        with self._opened(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY) as descriptor:
            self._require_regular(path, descriptor)
            # A hole of any size costs its author nothing, and whoever reads it everything.
            if os.fstat(descriptor).st_size > limit:
                self._fail_as_too_large(path, limit)
            left = limit
            while piece := self._read(path, descriptor, min(_READ_CHUNK, left + 1)):
                left -= len(piece)
                if left < 0:
                    self._fail_as_too_large(path, limit)
                yield piece

    def _read(self, path: str, descriptor: int, length: int) -> bytes:
        try:
            return os.read(descriptor, length)
        except OSError as error:
            self._fail(path, error)

    def _require_regular(self, path: str, descriptor: int) -> None:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise PathFailed(tree=self._tree, path=path, reason="it is not a regular file")

    def _fail_as_too_large(self, path: str, limit: int) -> NoReturn:
        raise PathFailed(tree=self._tree, path=path, reason=f"it has more than {limit} bytes")

    def _fail(self, path: str, error: OSError) -> NoReturn:
        reason = "it leads into another file system" if error.errno == errno.EXDEV else error.strerror
        raise PathFailed(tree=self._tree, path=path, reason=reason or str(error)) from error


_UNFINISHED: Final = re.compile(r"\.[0-9a-f]{24}")
"""The names that :func:`_write` gives."""


def _write(parent: int, name: str, data: bytes, *, mode: int, sync: bool) -> None:
    temporary = f".{secrets.token_hex(12)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, mode)
            if sync:
                os.fsync(descriptor)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=parent)
        raise
