"""An image from an open stream of bytes: a pipe, a socket's file, a response that somebody else asked for.

The stream stays its owner's: it is read here and never closed. How long it may stall is its owner's affair too, because
only the owner can interrupt a read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from libironic_disk.errors import DiskError, SourceFailed
from libironic_disk.machine.images.sources import Data, Piece


@runtime_checkable
class Readable(Protocol):
    """What is needed of a stream."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most ``size`` bytes, none at the end."""


class StreamSource:
    """A stream that may be peeked at, then read once with what was peeked at in front.

    Args:
        stream: open, blocking, at the image's first byte.
        name: what it is called in errors.
        size: how many bytes it should give, None where nobody knows.
    """

    def __init__(self, stream: Readable, *, name: str, size: int | None) -> None:
        self._stream = stream
        self._name = name
        self._size = size
        self._head = bytearray()
        self._read = 0
        self._begun = False

    @property
    def name(self) -> str:
        """What it is called in errors."""
        return self._name

    @property
    def size(self) -> int | None:
        """How many bytes it should give."""
        return self._size

    @property
    def head(self) -> bytes:
        """What was peeked at."""
        return bytes(self._head)

    def peek(self, length: int) -> bytes:
        """Read ahead by at most ``length`` bytes, keep them and return them; none at the end.

        Raises:
            SourceFailed: the stream failed, or gave more or fewer bytes than it should.
        """
        piece = self._next(length)
        self._head += piece
        return piece

    @contextmanager
    def opened(self) -> Iterator[OpenStream]:
        """Begin the one reading.

        Raises:
            SourceFailed: it was read before.
        """
        if self._begun:
            raise SourceFailed(source=self._name, reason="a stream can be read once only, and was")
        self._begun = True
        yield OpenStream(self._head, self._next)

    def _next(self, length: int) -> bytes:
        try:
            piece = self._stream.read(length)
        except DiskError:
            raise
        except Exception as error:  # a stranger's stream: what it raises can't be known
            reason = str(error) or type(error).__name__
            raise SourceFailed(source=self._name, reason=reason, offset=self._read) from error
        if piece is None or len(piece) > length:
            reason = "the stream doesn't block" if piece is None else "the stream gave more bytes than were asked for"
            raise SourceFailed(source=self._name, reason=reason, offset=self._read)
        self._read += len(piece)
        if self._size is not None and (self._read > self._size or (not piece and self._read < self._size)):
            found = "it gave more bytes" if self._read > self._size else "it ended early"
            reason = f"{found}: {self._size} bytes were announced"
            raise SourceFailed(source=self._name, reason=reason, offset=min(self._read, self._size))
        return piece


class OpenStream:
    """A stream while it is read; made by :meth:`StreamSource.opened`."""

    def __init__(self, head: bytearray, read: Callable[[int], bytes]) -> None:
        self._head = head
        self._read = read
        self._position = 0

    def fill(self, buffer: memoryview) -> Piece | None:
        """Return the next piece, a whole buffer of it except at the end; see :class:`OpenSource`."""
        filled = 0
        while filled < len(buffer):
            piece = self._take(len(buffer) - filled)
            if not piece:
                break
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
        if not filled:
            return None
        self._position += filled
        return Data(offset=self._position - filled, data=buffer[:filled])

    def _take(self, length: int) -> bytes:
        if not self._head:
            return self._read(length)
        piece = bytes(self._head[:length])
        del self._head[:length]
        return piece
