"""Making a file available to machines that fetch it by its URL: the protocol, and a directory that some server serves.

Names of published files end in ``.iso`` or ``.img``: the firmware of several makers takes no URL that ends otherwise.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from libironic_disk.boot.readables import PublishedContent, Readable, opened
from libironic_disk.errors import InvalidParameterValue, NotEnoughRoom, SourceChanged, SourceFailed, reason_of
from libironic_disk.machine import lockfile
from libironic_disk.machine.paths import removed_on_error, reported
from libironic_disk.machine.replacing import sync
from libironic_disk.units import MIB

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}\.(?:iso|img)")
_LOCK: Final = ".publishing"
_UNFINISHED: Final = ".publishing-"
_CHUNK: Final = MIB
_MODE: Final = 0o644
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
# What a file system says to a hard link that it can't have, or that this user may not make (protected_hardlinks).
_NO_LINK: Final = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
)


class Publisher(Protocol):
    """Where files are put so that machines can fetch them."""

    def publish(self, name: str, content: PublishedContent) -> str:
        """Make the content available under a name, in place of what had the name; return its URL.

        The content stays as it is, readable and unchanged, until the name is withdrawn or published again.

        Raises:
            InvalidParameterValue: the name isn't one.
            NotEnoughRoom: there is less room than it needs. Nothing was changed.
            SourceFailed: the content can't be read.
        """

    def withdraw(self, name: str) -> None:
        """Take back what has the name, and the room that it took. If nothing has it, nothing happens.

        Raises:
            InvalidParameterValue: the name isn't one.
        """


def checked_name(name: str) -> str:
    """Return the name of a published file if it is one.

    Raises:
        InvalidParameterValue: it has a slash, begins with a dot, or ends in neither ``.iso`` nor ``.img``.
    """
    if not _NAME.fullmatch(name):
        raise InvalidParameterValue(
            problems=(f"{name!r} can't be published: it is no plain name ending in .iso or .img",)
        )
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Usage:
    """What a directory holds: bytes of its files, and those of them that are promised but not written yet."""

    used: int
    promised: int


class DirectoryPublisher:
    """A directory, all of it ours, that an HTTP server of the caller's serves.

    A file of the same file system that everybody may read is linked, which takes no room. Everything else is written
    beside its place and renamed, so that nobody ever fetches half of it, and so that no byte is written through a link
    into the file that it came from. Several processes may publish into one directory.

    Args:
        directory: exists.
        base_url: what the server calls it.
        limit: bytes that all copies in it may have together; what is linked doesn't count. None is as much as fits.
    """

    def __init__(self, directory: Path, base_url: str, *, limit: int | None = None) -> None:
        self._directory = directory
        self._base_url = base_url.rstrip("/")
        self._limit = limit

    def publish(self, name: str, content: PublishedContent) -> str:
        """Put the content into the directory, whole or not at all; return its URL.

        Raises:
            InvalidParameterValue: the name isn't one.
            NotEnoughRoom: the file system, or the limit, has less room than it needs. Nothing was changed.
            SourceFailed: the content can't be read.
            PathFailed: the directory can't be written to.
        """
        place = self._directory / checked_name(name)
        with reported(place):
            if not (isinstance(content, Path) and self._linked(content, place)):
                self._copied(opened(content), place)
            sync(self._directory)
        return f"{self._base_url}/{name}"

    def withdraw(self, name: str) -> None:
        """Remove a file, and what a crash left of writing others; if there is none, nothing happens.

        Raises:
            InvalidParameterValue: the name isn't one.
            PathFailed: the directory can't be written to.
        """
        place = self._directory / checked_name(name)
        with reported(place), self._locked():
            place.unlink(missing_ok=True)
            self._forget_unfinished()
            # Else a power cut brings back what may have the agent's token in it.
            sync(self._directory)

    def _linked(self, source: Path, place: Path) -> bool:
        """Put a link in place if the server could read it; tell whether it is there."""
        try:
            status = source.stat()
        except (OSError, ValueError) as error:
            raise _failed(source, error) from error
        try:
            if stat.S_ISBLK(status.st_mode):
                return False
            # A pipe might never be opened.
            if not stat.S_ISREG(status.st_mode):
                raise SourceFailed(source=str(source), reason="it is neither a plain file nor a block device")
            if not status.st_mode & stat.S_IROTH:
                return False
            with self._locked():
                beside = _beside(place)
                # Of a symbolic link the file is meant, which a change of the link can't replace afterwards.
                os.link(source.resolve(strict=True), beside)
                with removed_on_error(beside):
                    beside.replace(place)
                # Renaming one link of a file over another of the same file does nothing, by POSIX.
                beside.unlink(missing_ok=True)
        except OSError as error:
            if error.errno in _NO_LINK:
                return False
            raise
        return True

    def _copied(self, content: Readable, place: Path) -> None:
        beside = _beside(place)
        try:
            with ExitStack() as stack:
                with self._locked():
                    self._check_room(content.size, place)
                    stack.enter_context(removed_on_error(beside))
                    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                    stack.callback(os.close, descriptor)
                    # Held while it is written: one that nobody holds is what a crash left.
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # Its length is how other writers learn what is promised to this one.
                    os.ftruncate(descriptor, content.size)
                _write(content, descriptor)
                os.fchmod(descriptor, _MODE)
                os.fsync(descriptor)
                beside.replace(place)
        except OSError as error:
            if error.errno in _FULL:
                raise self._no_room(content.size, self._available(self._usage(place))) from error
            raise

    def _check_room(self, wanted: int, place: Path) -> None:
        self._forget_unfinished()
        available = self._available(self._usage(place))
        if wanted > available:
            raise self._no_room(wanted, available)

    def _available(self, usage: _Usage) -> int:
        system = os.statvfs(self._directory)
        free = system.f_bavail * system.f_frsize - usage.promised
        return max(0, free if self._limit is None else min(free, self._limit - usage.used))

    def _no_room(self, wanted: int, available: int) -> NotEnoughRoom:
        return NotEnoughRoom(directory=str(self._directory), wanted=wanted, available=available)

    def _usage(self, replaced: Path) -> _Usage:
        """Count the copies, but for the one that is to be replaced."""
        used = promised = 0
        with os.scandir(self._directory) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and entry.name != replaced.name:
                        used += status.st_size
                        if entry.name.startswith(_UNFINISHED):
                            promised += max(0, status.st_size - status.st_blocks * 512)
        return _Usage(used=used, promised=promised)

    def _forget_unfinished(self) -> None:
        """Remove what was being written when its process ended: nobody holds it."""
        for left in self._directory.glob(f"{_UNFINISHED}*"):
            with suppress(FileNotFoundError, BlockingIOError):
                descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    left.unlink(missing_ok=True)
                finally:
                    os.close(descriptor)

    def _locked(self) -> AbstractContextManager[None]:
        """Keep other writers, threads and processes, from the directory; for moments only."""
        return lockfile.held(self._directory / _LOCK)


def _beside(place: Path) -> Path:
    return place.with_name(f"{_UNFINISHED}{secrets.token_hex(8)}")


def _write(content: Readable, descriptor: int) -> None:
    position = 0
    while position < content.size:
        piece = content.read_at(position, _CHUNK)
        if len(piece) != min(_CHUNK, content.size - position):
            raise SourceChanged(source="what is published", reason="it became shorter", offset=position)
        while piece:
            written = os.pwrite(descriptor, piece, position)
            position += written
            piece = piece[written:]


def _failed(source: Path, error: OSError | ValueError) -> SourceFailed:
    return SourceFailed(source=str(source), reason=reason_of(error))
