"""openat2(2) with RESOLVE_IN_ROOT for kernels before Linux 5.6: a path resolved part by part.

Each part is opened without following links, so that what was looked at is what is walked on; links are resolved here,
and ``/`` and ``..`` stop at the root. The answers are those of the kernel's own way, which the tests compare.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Final

_MAX_LINKS: Final = 40  # the kernel's own limit, MAXSYMLINKS


def open_walking(root: int, path: str, flags: int) -> int:
    """Open an existing path inside the tree at the directory ``root``, with the flags of open(2).

    Raises:
        OSError: as open(2) does; EXDEV where the path leads into another mount.
    """
    if not path:
        raise _error(errno.ENOENT)
    with ExitStack() as stack:
        walk = _Walk(root, stack)
        found = walk.to(path)
        # O_PATH descriptors can't be read; the name is opened again where it was found, and must still be the same.
        if flags & os.O_PATH and not flags & os.O_DIRECTORY:
            return os.dup(found)
        descriptor = os.open(walk.last_name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=walk.last_parent)
        try:
            if not os.path.samestat(os.fstat(descriptor), os.fstat(found)):
                raise _error(errno.EAGAIN)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


class _Walk:
    """The directories from the root down to where the walk has come, as descriptors."""

    def __init__(self, root: int, stack: ExitStack) -> None:
        self._stack = stack
        self._directories = [self._open(root, ".")]
        self._mount = _mount_of(self._directories[0])
        self.last_parent = self._directories[0]
        self.last_name = "."

    def to(self, path: str) -> int:
        """Walk to ``path`` and return an O_PATH descriptor of it; it stays open as long as the stack."""
        parts = deque(_parts(path))
        if path.startswith("/"):
            del self._directories[1:]
        links = 0
        found = self._directories[-1]
        while parts:
            name = parts.popleft()
            if name in {".", ".."}:
                found = self._stay_or_rise(name)
                continue
            parent = self._directories[-1]
            found = self._open(parent, name)
            kind = os.fstat(found).st_mode
            if _mount_of(found) != self._mount:
                raise _error(errno.EXDEV)
            if stat.S_ISLNK(kind):
                links += 1
                if links > _MAX_LINKS:
                    raise _error(errno.ELOOP)
                target = os.readlink("", dir_fd=found)
                if target.startswith("/"):
                    del self._directories[1:]
                parts.extendleft(reversed(_parts(target)))
                found = self._directories[-1]
                self.last_parent, self.last_name = found, "."
            elif stat.S_ISDIR(kind):
                self._directories.append(found)
                self.last_parent, self.last_name = found, "."
            elif parts:
                raise _error(errno.ENOTDIR)
            else:
                self.last_parent, self.last_name = parent, name
        return found

    def _stay_or_rise(self, name: str) -> int:
        if name == ".." and len(self._directories) > 1:
            self._directories.pop()
        self.last_parent, self.last_name = self._directories[-1], "."
        return self._directories[-1]

    def _open(self, directory: int, name: str) -> int:
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        self._stack.callback(os.close, descriptor)
        return descriptor


def _parts(path: str) -> list[str]:
    """The names of a path; a slash at its end asks for a directory, as a last ``.`` does."""
    parts = [part for part in path.split("/") if part]
    return [*parts, "."] if path.endswith("/") and parts else parts


def _mount_of(descriptor: int) -> str:
    """The kernel's number of a descriptor's mount; the device isn't enough, btrfs has one for each subvolume."""
    with Path(f"/proc/self/fdinfo/{descriptor}").open(encoding="ascii") as facts:
        return next(line for line in facts if line.startswith("mnt_id:"))


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
