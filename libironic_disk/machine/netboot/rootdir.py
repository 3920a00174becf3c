"""The directory that a server publishes, changed in steps that are each there as a whole or not at all.

Names are resolved inside it by :class:`~libironic_disk.machine.trees.rootfs.RootDir`, so no link leads out. The last
part of a path is never followed: what is written replaces a link, and what is removed is the link.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

from libironic_disk.errors import InvalidParameterValue, PathFailed
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.machine.undoing import undone_on_error

PUBLIC: Final = 0o644
PRIVATE: Final = 0o600
_DIRECTORY: Final = 0o755
_PRIVATE_DIRECTORY: Final = 0o700
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class PublishedRoot:
    """An open root; :func:`opened` makes one.

    Every method raises :class:`~libironic_disk.errors.PathFailed` where the machine refuses.
    """

    __slots__ = ("_tree", "descriptor", "name")

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor = descriptor
        self.name = name
        self._tree = RootDir(descriptor, tree=name)

    @contextmanager
    def parent(self, path: str) -> Iterator[tuple[int, str]]:
        """Open the directory that a path is in; give its descriptor and the last part of the path."""
        directory, _, name = path.rpartition("/")
        with self._tree.directory(directory or "/", readable=True) as descriptor:
            try:
                yield descriptor, name
            except OSError as error:
                self._fail(path, error)

    @contextmanager
    def directory(self, path: str) -> Iterator[int]:
        """Open a directory; what happens while it is open is the caller's to tell."""
        with self._tree.directory(path, readable=True) as descriptor:
            yield descriptor

    def look(self, path: str) -> os.stat_result | None:
        """Return what is under a path, itself and not what a link leads to; None for nothing."""
        directory, _, _ = path.rpartition("/")
        if directory and not self._tree.exists(directory):
            return None
        with self.parent(path) as (descriptor, name):
            try:
                return os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except FileNotFoundError:
                return None

    def names(self, path: str) -> tuple[str, ...]:
        """Return the names in a directory; none where there is no directory."""
        return self._tree.names(path, limit=1_000_000) if self._tree.exists(path) else ()

    def read(self, path: str, *, limit: int) -> bytes | None:
        """Return a regular file's contents; None where there is nothing."""
        found = self.look(path)
        if found is None:
            return None
        if not stat.S_ISREG(found.st_mode):
            raise PathFailed(tree=self.name, path=path, reason="it is not a regular file")
        return self._tree.read_file(path, limit=limit)

    def make_directories(self, path: str, *, mode: int = _DIRECTORY) -> None:
        """Make a directory and those above it where they are missing, on the disk and whatever the umask is."""
        done = ""
        for part in path.split("/"):
            done = f"{done}/{part}" if done else part
            with self.parent(done) as (descriptor, name):
                try:
                    os.mkdir(name, mode=_PRIVATE_DIRECTORY, dir_fd=descriptor)
                except FileExistsError:
                    if mode == _PRIVATE_DIRECTORY or not _was_just_made(descriptor, name):
                        continue
                os.chmod(name, mode, dir_fd=descriptor)
                os.fsync(descriptor)

    def write(self, path: str, data: bytes, *, mode: int = PUBLIC) -> None:
        """Write a file that has its name only when it is complete and on the disk.

        The caller keeps others from writing the same one, so what has the temporary name was left by a crash.
        """
        with self.parent(path) as (descriptor, name):
            temporary = temporary_name(name)
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=descriptor)
            with removed_on_error(descriptor, temporary):
                with os.fdopen(os.open(temporary, _CREATE, 0o600, dir_fd=descriptor), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fchmod(file.fileno(), mode)
                    os.fsync(file.fileno())
                os.rename(temporary, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
            os.fsync(descriptor)

    def link(self, source: str, path: str) -> None:
        """Give a file another name beside its own, atomically in the place of what has that name now."""
        with self.parent(source) as (from_fd, from_name), self.parent(path) as (descriptor, name):
            temporary = temporary_name(name)
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=descriptor)
            with removed_on_error(descriptor, temporary):
                os.link(from_name, temporary, src_dir_fd=from_fd, dst_dir_fd=descriptor, follow_symlinks=False)
                # Were both names the same file's already, this would do nothing and leave the temporary one.
                os.rename(temporary, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=descriptor)
            os.fsync(descriptor)

    def remove(self, path: str) -> None:
        """Remove a file, and what a crash left of its writing; that there is none is no error."""
        if self.look(path.rpartition("/")[0] or ".") is None:
            return
        with self.parent(path) as (descriptor, name):
            for each in (name, temporary_name(name)):
                with suppress(FileNotFoundError):
                    os.unlink(each, dir_fd=descriptor)
            os.fsync(descriptor)

    def remove_directory(self, path: str) -> None:
        """Remove a directory and the files in it; that there is none is no error."""
        found = self.look(path)
        if found is None:
            return
        if not stat.S_ISDIR(found.st_mode):
            self.remove(path)
            return
        for name in self.names(path):
            self.remove(f"{path}/{name}")
        self.remove_if_empty(path)

    def remove_if_empty(self, path: str) -> None:
        """Remove a directory if nothing is in it; that there is none is no error."""
        if self.look(path) is None:
            return
        # It has something in it, or it isn't there any more.
        with self.parent(path) as (descriptor, name), suppress(OSError):
            os.rmdir(name, dir_fd=descriptor)

    def free_bytes(self) -> int:
        """Return how many bytes may still be written by who isn't the superuser."""
        found = os.statvfs(self.descriptor)
        return found.f_bavail * found.f_frsize

    def _fail(self, path: str, error: OSError) -> NoReturn:
        raise PathFailed.of(self.name, path, error) from error


def temporary_name(name: str) -> str:
    """Return the name that a file has while it is written; it follows from its own, so that clean-up knows it."""
    return f".{name}.new"


@contextmanager
def removed_on_error(directory: int, name: str) -> Iterator[None]:
    """Remove a file if the block fails; that it can't be removed is added to the error."""

    def remove() -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)

    with undone_on_error(remove, f"and {name} couldn't be removed"):
        yield


def _was_just_made(directory: int, name: str) -> bool:
    """Whether a directory is as it is between its making and its opening to readers: there a crash may have left it."""
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    is_private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == _PRIVATE_DIRECTORY
    # Another thread's, which is just being made, gets its mode twice.
    return is_private and found.st_uid == os.geteuid() and _is_empty(directory, name)


def _is_empty(directory: int, name: str) -> bool:
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        with os.scandir(descriptor) as entries:
            return next(entries, None) is None
    finally:
        os.close(descriptor)


@contextmanager
def opened(root: Path) -> Iterator[PublishedRoot]:
    """Open the directory that a server publishes.

    Raises:
        InvalidParameterValue: it isn't there, is no directory, or can't be opened.
    """
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidParameterValue(problems=(f"the root directory {root}: {error.strerror}",)) from error
    try:
        yield PublishedRoot(descriptor, str(root))
    finally:
        os.close(descriptor)
