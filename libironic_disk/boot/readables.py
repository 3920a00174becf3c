"""What can be published: files, bytes, and everything that can be read at any place."""

from __future__ import annotations

import hashlib
import weakref
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from libironic_disk.machine.isos.opening import OpenFile

_TAG_LENGTH: Final = 32


class Readable(Protocol):
    """Bytes that any number of threads read at any place; a :class:`~libironic_disk.bootiso.PatchedIso` is one."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def etag(self) -> str:
        """What tells these bytes from all others, of letters and digits."""

    def read_at(self, offset: int, size: int, /) -> bytes:
        """Return ``size`` bytes from ``offset``, fewer only at the end.

        Raises:
            SourceFailed: they can't be read, or are no longer what they were.
        """


PublishedContent: TypeAlias = Path | Readable | bytes
"""A file, something that can be read at any place, or the bytes themselves."""


class ReadableFile:
    """A file that is read as it was when it was opened; it is closed when nobody has it any more.

    A file that is removed or replaced afterwards is still read, as what it was.

    Raises:
        SourceFailed: it can't be opened, or is neither a plain file nor a block device.
    """

    def __init__(self, path: Path) -> None:
        self._file = OpenFile(path)
        # An answer may still be read when its name is withdrawn: the last of both lets go.
        weakref.finalize(self, self._file.close)
        self.size: Final = self._file.size
        self.etag: Final = _tag(self._file.identity.encode())

    def read_at(self, offset: int, size: int, /) -> bytes:
        """Return bytes of the file.

        Raises:
            SourceChanged: it was written to since it was opened, perhaps while it was read.
            SourceFailed: it can't be read.
        """
        return self._file.read_at(offset, size)


class ReadableBytes:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size: Final = len(data)
        self.etag: Final = _tag(data)

    def read_at(self, offset: int, size: int, /) -> bytes:
        """Return some of the bytes."""
        return self._data[offset : offset + size]


def opened(content: PublishedContent) -> Readable:
    """Return the content as something to be read.

    Raises:
        SourceFailed: it is a file, and can't be opened.
    """
    match content:
        case Path():
            return ReadableFile(content)
        case bytes():
            return ReadableBytes(content)
        case _:
            return content


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_TAG_LENGTH]
