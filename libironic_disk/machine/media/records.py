"""What a directory knows of each machine's media: a small file for each, which is also the lock of that machine.

A crash leaves the file and lets the lock go, so that whoever comes next knows what there was to take back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from libironic_disk.errors import BootTaskBusy, NotEnoughRoom
from libironic_disk.machine import lockfile
from libironic_disk.machine.paths import reported

_SUFFIX: Final = ".media"
_LOCK: Final = ".media-lock"
_LONGEST: Final = 4096
_CONTENT: Final = "content"


class Record:
    """What is known of one machine, for as long as nobody else has it; :meth:`Records.claimed` gives it."""

    def __init__(self, records: Records, path: Path, descriptor: int) -> None:
        self._records = records
        self._path = path
        self._descriptor = descriptor
        self._rooms, self._content = parsed(os.pread(descriptor, _LONGEST, 0))

    @property
    def content(self) -> str:
        """A digest of what was last put in for the instance, whole; empty if nothing was."""
        return self._content

    def set_content(self, digest: str) -> None:
        """Remember what was put in."""
        with self._records.locked():
            self._write(self._rooms, digest)

    def take_room(self, purpose: str, size: int) -> None:
        """Promise some bytes of the directory to a purpose, in place of those that it had.

        Raises:
            NotEnoughRoom: all machines together would have more than the limit.
            PathFailed: it can't be written down, and isn't promised.
        """
        with self._records.locked():
            others = sum(self._rooms.values()) - self._rooms.get(purpose, 0)
            self._records.check(size, others + self._records.promised(but=self._path))
            self._write({**self._rooms, purpose: size}, self._content)

    def give_back(self, purpose: str) -> None:
        """Promise nothing any more."""
        with self._records.locked():
            self._write({key: value for key, value in self._rooms.items() if key != purpose}, self._content)

    def is_empty(self) -> bool:
        """Whether there is nothing to remember."""
        return not self._rooms and not self._content

    def _write(self, rooms: dict[str, int], content: str) -> None:
        """Write it down, and only then believe it: what can't be written wasn't promised, nor put in."""
        values = rooms | ({_CONTENT: content} if content else {})
        with reported(self._path):
            # To say nothing takes no room, which a full disk hasn't.
            if values:
                text = json.dumps(values).encode()
                os.pwrite(self._descriptor, text, 0)
                os.ftruncate(self._descriptor, len(text))
            else:
                os.ftruncate(self._descriptor, 0)
            os.fsync(self._descriptor)
        self._rooms, self._content = rooms, content


class Records:
    """The records of all machines.

    Args:
        directory: exists; several processes may share it.
        limit: bytes that may be promised in it. None is as much as there is.
    """

    def __init__(self, directory: Path, limit: int | None) -> None:
        self.directory: Final = directory
        self._limit = limit

    @contextmanager
    def claimed(self, node: str) -> Iterator[Record]:
        """Have a machine's media to oneself.

        Raises:
            BootTaskBusy: another thread or process has them now.
            PathFailed: the directory can't be written to, or the record not be read.
        """
        path = self.directory / f"{node}{_SUFFIX}"
        descriptor = _claim(node, path)
        try:
            with reported(path):
                record = Record(self, path, descriptor)
            try:
                yield record
            except BaseException:
                # One that stays says nothing.
                if record.is_empty():
                    with suppress(OSError):
                        path.unlink(missing_ok=True)
                raise
            if record.is_empty():
                with reported(path):
                    path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from promising room, for a moment.

        Raises:
            PathFailed: the lock's file can't be made.
        """
        with ExitStack() as stack:
            with reported(self.directory / _LOCK):
                stack.enter_context(lockfile.held(self.directory / _LOCK))
            yield

    def promised(self, *, but: Path) -> int:
        """Return the bytes that all machines but one were promised."""
        total = 0
        for path in self.directory.glob(f"*{_SUFFIX}"):
            if path != but:
                with reported(path), suppress(FileNotFoundError):
                    total += sum(parsed(path.read_bytes()[:_LONGEST])[0].values())
        return total

    def check(self, wanted: int, taken: int) -> None:
        """Check a promise against the limit.

        Raises:
            NotEnoughRoom: it is more than there is.
        """
        if self._limit is not None and wanted + taken > self._limit:
            available = max(0, self._limit - taken)
            raise NotEnoughRoom(directory=str(self.directory), wanted=wanted, available=available)


def _claim(node: str, path: Path) -> int:
    with reported(path):
        descriptor, is_ours = lockfile.attempted(path)
    if is_ours:
        return descriptor
    os.close(descriptor)
    raise BootTaskBusy(subject=node, holder="another task of the same machine")


def parsed(text: bytes) -> tuple[dict[str, int], str]:
    """Read a record: the bytes by purpose, and a digest.

    One that a crash cut off says nothing, by which everything is made anew.
    """
    try:
        values = json.loads(text or b"{}")
    except (ValueError, RecursionError):
        return {}, ""
    if not isinstance(values, dict):
        return {}, ""
    content = values.pop(_CONTENT, "")
    # To Python a truth value is a number, and no record of ours has one.
    rooms = {str(key): value for key, value in values.items() if type(value) is int and value >= 0}
    return rooms, content if isinstance(content, str) else ""
