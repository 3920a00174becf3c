"""An image from an open stream of bytes: a pipe, a socket's file, a response that somebody else asked for, a generator.

The stream stays its owner's: it is read here and never closed. How long it may stall is its owner's affair too, because
only the owner can interrupt a read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from libironic_disk.errors import Cancelled, DiskError, SourceFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine.images.sources import Data, Delivered, Piece
from libironic_disk.pure.images.qcow2_events import MetadataAccess
from libironic_disk.pure.ranges import ByteRange


@runtime_checkable
class Readable(Protocol):
    """What is needed of a stream."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most ``size`` bytes, none at the end."""


class Pieces:
    """A :class:`Readable` of the pieces that an iterable gives, of whatever size; empty ones are passed over."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._left = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        """Return what is left of a piece, at most ``size`` bytes; none at the end."""
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left = memoryview(piece).cast("B")
        taken, self._left = self._left[:size], self._left[size:]
        return bytes(taken)


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
    def access(self) -> MetadataAccess:
        """It has one order."""
        return MetadataAccess.NEVER

    @property
    def head(self) -> bytes:
        """What was peeked at."""
        return bytes(self._head)

    def peek(self, length: int) -> bytes:
        """Read ahead by at most ``length`` bytes, keep them and return them; none at the end.

        Raises:
            SourceFailed: the stream failed, gave more or fewer bytes than it should, or is being read already.
        """
        self._check_unread()
        piece = self._next(length)
        self._head += piece
        return piece

    @contextmanager
    def opened(self, *, cancel: Cancellation | None = None, delivered: Delivered | None = None) -> Iterator[OpenStream]:
        """Begin the one reading; it never begins anew, so no digest is asked for.

        Raises:
            SourceFailed: it was read before.
        """
        self._check_unread()
        self._begun = True
        yield OpenStream(self._name, self._head, self._next, cancel)

    def _check_unread(self) -> None:
        if self._begun:
            raise SourceFailed(source=self._name, reason="a stream can be read once only, and was")

    def _next(self, length: int) -> bytes:
        try:
            piece = self._stream.read(length)
        except DiskError:
            raise
        except Exception as error:  # a stranger's stream: what it raises can't be known
            reason = str(error) or type(error).__name__
            raise SourceFailed(source=self._name, reason=reason, offset=self._read) from error
        problem = _problem(piece, length)
        if piece is None or problem is not None:
            raise SourceFailed(source=self._name, reason=f"the stream {problem}", offset=self._read)
        self._read += len(piece)
        if self._size is not None and (self._read > self._size or (not piece and self._read < self._size)):
            found = "it gave more bytes" if self._read > self._size else "it ended early"
            reason = f"{found}: {self._size} bytes were announced"
            raise SourceFailed(source=self._name, reason=reason, offset=min(self._read, self._size))
        return piece


def _problem(piece: object, length: int) -> str | None:
    """Say what is wrong with what a reading of ``length`` bytes gave."""
    if piece is None:
        return "doesn't block"
    if not isinstance(piece, bytes | bytearray | memoryview):
        return f"gives {type(piece).__name__} and not bytes"
    return "gave more bytes than were asked for" if len(piece) > length else None


class OpenStream:
    """A stream while it is read; made by :meth:`StreamSource.opened`."""

    def __init__(self, name: str, head: bytearray, read: Callable[[int], bytes], cancel: Cancellation | None) -> None:
        self._name = name
        self._head = memoryview(bytes(head))
        head.clear()
        self._read = read
        self._cancel = cancel
        self._position = 0
        self._stopped = False

    def stop(self) -> None:
        """Let no more be read; who waits for the stream itself is ended by its owner alone."""
        self._stopped = True

    def read_ranges(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Refuse: a stream has one order."""
        raise SourceFailed(source=self._name, reason="a stream can't be read out of order")

    def fill(self, buffer: memoryview) -> Piece | None:
        """Return the next piece, what one reading gives; see :class:`OpenSource`.

        Raises:
            SourceFailed: it failed, or gave more or fewer bytes than it should.
            Cancelled: the caller wished so, or stopped it.
        """
        if self._stopped:
            raise Cancelled(during="image")
        if self._cancel is not None:
            self._cancel.check("image")
        piece: memoryview | bytes = self._head[: len(buffer)]
        if piece:
            self._head = self._head[len(piece) :]
        else:
            piece = self._read(len(buffer))
        if not piece:
            return None
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return Data(offset=self._position - len(piece), data=buffer[: len(piece)])
