"""An image in a local file.

The file is identified once, when it is inspected. Whoever opens it later gets that very file in that very state, or an
error: a path may be given another file, and a file other bytes, between the look and the use.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libironic_disk.errors import ImageRefused, SourceFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine.images.sources import Data, Delivered, Piece, Zeros
from libironic_disk.pure.images.qcow2_events import MetadataAccess
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.units import GIB, MIB

# To read the zeros of a shorter hole costs less than to interrupt the data around it.
_SHORTEST_HOLE: Final = MIB
_LARGEST_PIECE_OF_ZEROS: Final = 16 * GIB
# Not blocking concerns the opening of what turns out not to be a file; reading a file takes no notice of it.
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What must stay the same. The time of change is left out: a new hard link alters it and nothing that matters."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> _State:
        return cls(device=found.st_dev, inode=found.st_ino, size=found.st_size, modified_ns=found.st_mtime_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A regular file as it was when :func:`local_file` looked at it."""

    path: Path
    name: str
    state: _State

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.state.size

    def is_at(self, path: Path) -> bool:
        """Whether a path leads to this very file."""
        try:
            found = path.stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (self.state.device, self.state.inode)

    @property
    def access(self) -> MetadataAccess:
        """It can be read in any order at any time."""
        return MetadataAccess.EAGER

    @contextmanager
    def opened(self, *, cancel: Cancellation | None = None, delivered: Delivered | None = None) -> Iterator[OpenFile]:
        """Open the file that was looked at; it never waits for anybody, so nothing needs to be asked.

        Raises:
            SourceFailed: it is gone, or isn't the same any more.
        """
        try:
            descriptor = os.open(self.path, _FLAGS)
        except OSError as error:
            raise SourceFailed(source=self.name, reason=error.strerror or str(error)) from error
        try:
            file = OpenFile(self, descriptor)
            file.check_unchanged()
            yield file
        finally:
            os.close(descriptor)


def local_file(path: Path, *, name: str | None = None) -> LocalFile:
    """Look at a regular file, or at the one that a symbolic link leads to; errors call it ``name`` or by its path.

    Raises:
        ImageRefused: a directory, a device, a pipe: some of these never end, some act on being opened.
        SourceFailed: nothing is there.
    """
    name = name or str(path)
    try:
        found = path.stat()
    except OSError as error:
        raise SourceFailed(source=name, reason=error.strerror or str(error)) from error
    if not stat.S_ISREG(found.st_mode):
        raise ImageRefused(image=name, reason="it is not a regular file")
    return LocalFile(path=path, name=name, state=_State.of(found))


class OpenFile:
    """A local file while it is read; made by :meth:`LocalFile.opened`."""

    def __init__(self, file: LocalFile, descriptor: int) -> None:
        self._file = file
        self._position = 0
        self._data_until = 0
        self.descriptor = descriptor

    def check_unchanged(self) -> None:
        """Check that the file is still as it was when it was looked at.

        Raises:
            SourceFailed: another file, another size, or somebody wrote to it.
        """
        if _State.of(os.fstat(self.descriptor)) != self._file.state:
            raise SourceFailed(source=self._file.name, reason="the file was changed or replaced since it was inspected")

    def pread(self, offset: int, length: int) -> bytes:
        """Read exactly ``length`` bytes at ``offset``, fewer only at the end of the file.

        Raises:
            SourceFailed: the bytes can't be had.
        """
        wanted = max(0, min(length, self._file.size - offset))
        with suppress(OSError):
            # Nearly always all of it comes at once, and needn't be copied once more then.
            found = os.pread(self.descriptor, wanted, offset)
            if len(found) == wanted:
                return found
        buffer = memoryview(bytearray(wanted))
        self._read_whole(buffer, offset)
        return bytes(buffer)

    def stop(self) -> None:
        """Do nothing: the disk answers soon."""

    def read_ranges(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Read several ranges; see :class:`OpenSource`."""
        return [self.pread(each.start, each.size) for each in ranges]

    def fill(self, buffer: memoryview) -> Piece | None:
        """Return the next piece, a hole of the file without reading it; see :class:`OpenSource`."""
        start, left = self._position, self._file.size - self._position
        if not left:
            self.check_unchanged()
            return None
        if start >= self._data_until:
            hole = self._hole(start)
            if hole >= min(_SHORTEST_HOLE, left):
                self._position += min(hole, _LARGEST_PIECE_OF_ZEROS)
                return Zeros(offset=start, length=self._position - start)
            self._data_until = self._data_end(start + hole, start + len(buffer))
        view = buffer[: min(len(buffer), self._data_until - start)]
        self._read_whole(view, start)
        self._position += len(view)
        return Data(offset=start, data=view)

    def _read_whole(self, view: memoryview, offset: int) -> None:
        while view:
            try:
                count = os.preadv(self.descriptor, [view], offset)
            except OSError as error:
                reason = error.strerror or str(error)
                raise SourceFailed(source=self._file.name, reason=reason, offset=offset) from error
            if not count:
                raise SourceFailed(
                    source=self._file.name, reason="the file was cut off while it was read", offset=offset
                )
            view = view[count:]
            offset += count

    def _hole(self, position: int) -> int:
        """How many bytes from ``position`` on are a hole."""
        return self._seek(position, os.SEEK_DATA, absent=self._file.size) - position

    def _data_end(self, position: int, enough: int) -> int:
        """Where the data from ``position`` on ends, short holes included; no further than needed for ``enough``."""
        end = self._seek(position, os.SEEK_HOLE, absent=self._file.size)
        while end < min(enough, self._file.size):
            hole = self._hole(end)
            if hole >= min(_SHORTEST_HOLE, self._file.size - end):
                break
            end = self._seek(end + hole, os.SEEK_HOLE, absent=self._file.size)
        return end

    def _seek(self, position: int, whence: int, *, absent: int) -> int:
        try:
            return min(os.lseek(self.descriptor, position, whence), self._file.size)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return absent
            if error.errno == errno.EINVAL:  # a file system that can't tell: all of it is data
                return position if whence == os.SEEK_DATA else self._file.size
            raise SourceFailed(source=self._file.name, reason=error.strerror or str(error), offset=position) from error
