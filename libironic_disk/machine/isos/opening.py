"""ISO images, and files that are put into them, opened to be read by any number of threads."""

from __future__ import annotations

import bisect
import os
import stat
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

from libironic_disk.errors import SourceChanged, SourceFailed, reason_of

# A named pipe without a writer would be waited for.
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


class Part(NamedTuple):
    """A run of bytes of an open file."""

    file: OpenFile
    offset: int
    size: int


class OpenFile:
    """A file that is read at any place and never written: a plain file, or a block device such as a CD drive.

    Reads are positional, so that threads don't disturb each other. Whoever reads learns when it was changed
    in the meantime.

    Raises:
        SourceFailed: it can't be opened, or isn't such a file.
    """

    __slots__ = ("__weakref__", "_changed", "_descriptor", "_regular", "_release", "name", "size")

    def __init__(self, path: Path | str) -> None:
        self.name: Final = os.fspath(path)
        try:
            # Opening a device of another kind already acts on it.
            self._require_kind(os.stat(self.name))
            self._descriptor = os.open(self.name, _FLAGS)
        except (OSError, ValueError) as error:
            raise self._failed(error) from error
        try:
            status = os.fstat(self._descriptor)
            self._regular = self._require_kind(status)
            self.size: Final = status.st_size if self._regular else os.lseek(self._descriptor, 0, os.SEEK_END)
            self._changed = status.st_mtime_ns
        except BaseException:
            os.close(self._descriptor)
            raise
        # A file that is put is closed with the last patched ISO that has it, if nobody closes it before.
        self._release = weakref.finalize(self, os.close, self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; closing it again changes nothing."""
        self._descriptor = -1
        self._release()

    @property
    def identity(self) -> str:
        """What tells these bytes from others, as long as nobody sets clocks back: file, size, time of change.

        Raises:
            SourceFailed: it was closed.
        """
        try:
            status = os.fstat(self._descriptor)
        except OSError as error:
            raise self._failed(error) from error
        return f"{status.st_dev}:{status.st_ino}:{self.size}:{self._changed}"

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def check_unchanged(self) -> None:
        """Check that nobody wrote to the file since it was opened.

        Raises:
            SourceChanged: somebody did.
            SourceFailed: it was closed.
        """
        try:
            status = os.fstat(self._descriptor)
        except OSError as error:
            raise self._failed(error) from error
        if self._regular and (status.st_size, status.st_mtime_ns) != (self.size, self._changed):
            raise SourceChanged(source=self.name, reason="it was written to after it was opened")

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset``, fewer only at the end.

        Raises:
            SourceChanged: it was written to after it was opened.
            SourceFailed: it can't be read, or was closed.
        """
        wanted = max(0, min(size, self.size - offset))
        pieces: list[bytes] = []
        while wanted:
            try:
                piece = os.pread(self._descriptor, wanted, offset)
            except OSError as error:
                raise self._failed(error, offset) from error
            if not piece:
                raise SourceChanged(source=self.name, reason="it became shorter", offset=offset)
            pieces.append(piece)
            offset += len(piece)
            wanted -= len(piece)
        # Behind the read: what was written before it is known then.
        self.check_unchanged()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def part(self, offset: int, size: int) -> Sequence[Part]:
        """Return where a run of bytes is: here."""
        return (Part(self, offset, size),)

    def _require_kind(self, status: os.stat_result) -> bool:
        """Refuse what is no such file, and tell whether it is a plain one."""
        if stat.S_ISREG(status.st_mode):
            return True
        if not stat.S_ISBLK(status.st_mode):
            raise SourceFailed(source=self.name, reason="it is neither a plain file nor a block device")
        return False

    def _failed(self, error: OSError | ValueError, offset: int | None = None) -> SourceFailed:
        return SourceFailed(source=self.name, reason=reason_of(error), offset=offset)


class JoinedFiles:
    """Several open files as one, the second behind the end of the first and so on.

    By it a rope has ranges of an ISO and of the files that are put into it.
    """

    __slots__ = ("_ends", "files", "size")

    def __init__(self, files: Sequence[OpenFile]) -> None:
        self.files: Final = tuple(files)
        self._ends: Final = [sum(file.size for file in self.files[:count]) for count in range(1, len(self.files) + 1)]
        self.size: Final = self._ends[-1] if self._ends else 0

    @property
    def identity(self) -> str:
        """What tells these bytes from others."""
        return "\n".join(file.identity for file in self.files)

    def start_of(self, index: int) -> int:
        """Return where one of the files begins."""
        return self._ends[index] - self.files[index].size

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset``, fewer only at the end.

        Raises:
            SourceChanged, SourceFailed: as :meth:`OpenFile.read_at`.
        """
        parts = self.part(offset, size)
        if len(parts) == 1:
            return parts[0].file.read_at(parts[0].offset, parts[0].size)
        return b"".join(part.file.read_at(part.offset, part.size) for part in parts)

    def part(self, offset: int, size: int) -> Sequence[Part]:
        """Return where a run of bytes is: in which of the files, piece by piece."""
        found: list[Part] = []
        end = min(offset + size, self.size)
        index = bisect.bisect_right(self._ends, offset)
        while offset < end:
            length = min(end, self._ends[index]) - offset
            found.append(Part(self.files[index], offset - self.start_of(index), length))
            offset += length
            index += 1
        return [part for part in found if part.size]
