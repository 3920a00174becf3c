"""A file that is made of ranges of another one, the base, and a few new bytes.

A rope holds no byte of its base: it can be read at any place, again and again and by several threads, and a thousand
ropes of one base cost what is new in them. All sizes and offsets are bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, NamedTuple, Protocol, Self

from libironic_disk.errors import SourceFailed
from libironic_disk.units import MIB

CHUNK: Final = MIB


class Base(Protocol):
    """What ropes have ranges of: a file that doesn't change, read by any number of threads."""

    @property
    def size(self) -> int:
        """How many bytes it has."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on, fewer only at the end."""


class Range(NamedTuple):
    """Bytes of the base."""

    offset: int
    size: int


class Zeros(NamedTuple):
    """So many zero bytes, which nobody holds in memory."""

    size: int


Piece = Range | Zeros | bytes


def size_of(piece: Piece) -> int:
    """Return the bytes of one piece."""
    return len(piece) if isinstance(piece, bytes) else piece.size


@dataclass(frozen=True, slots=True)
class Rope:
    """Pieces, one behind the other. Make it by :meth:`of`, which joins what can be joined and drops what is empty.

    Attributes:
        pieces: in their order; never empty, never two of a kind that could be one.
        size: bytes altogether.
        inline_size: those of them that are new and held in memory.
    """

    pieces: tuple[Piece, ...] = ()
    size: int = field(init=False)
    inline_size: int = field(init=False)
    _ends: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ends = tuple(accumulate(size_of(piece) for piece in self.pieces))
        object.__setattr__(self, "_ends", ends)
        object.__setattr__(self, "size", ends[-1] if ends else 0)
        inline = sum(len(piece) for piece in self.pieces if isinstance(piece, bytes))
        object.__setattr__(self, "inline_size", inline)

    @classmethod
    def of(cls, *pieces: Piece | Rope) -> Self:
        """Return the rope of these pieces and ropes.

        Raises:
            ValueError: a range or a run of zeros has a negative place or size.
        """
        joined: list[Piece] = []
        waiting: list[bytes] = []
        for piece in _flat(pieces):
            if isinstance(piece, bytes):
                waiting.append(piece)
                continue
            _take(waiting, joined)
            last = joined[-1] if joined else b""
            if isinstance(piece, Zeros) and isinstance(last, Zeros):
                joined[-1] = Zeros(last.size + piece.size)
            elif isinstance(piece, Range) and isinstance(last, Range) and last.offset + last.size == piece.offset:
                joined[-1] = Range(last.offset, last.size + piece.size)
            else:
                joined.append(piece)
        _take(waiting, joined)
        return cls(tuple(joined))

    def __add__(self, other: Rope) -> Rope:
        return Rope.of(self, other)

    def slice(self, offset: int, size: int) -> Rope:
        """Return ``size`` bytes from ``offset`` on.

        Raises:
            ValueError: they aren't all there.
        """
        if offset < 0 or size < 0 or offset + size > self.size:
            raise ValueError(f"{size} bytes from {offset} on aren't in a rope of {self.size}")
        return Rope.of(*self._cut(offset, size))

    def overlaid(self, edits: Mapping[int, bytes | Rope]) -> Rope:
        """Return a rope of the same size, with other bytes from each of these offsets on.

        Raises:
            ValueError: two of the edits have a byte in common, or one reaches outside.
        """
        pieces: list[Piece | Rope] = []
        at = 0
        for offset in sorted(edits):
            edit = edits[offset]
            size = len(edit) if isinstance(edit, bytes) else edit.size
            if offset < at or offset + size > self.size:
                raise ValueError(f"an edit of {size} bytes at {offset} overlaps another, or the end at {self.size}")
            pieces += self._cut(at, offset - at)
            pieces.append(edit)
            at = offset + size
        return Rope.of(*pieces, *self._cut(at, self.size - at))

    def read_at(self, base: Base, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset`` on, fewer only at the end.

        Raises:
            SourceFailed: the base ended early.
            ValueError: ``offset`` or ``size`` is negative.
        """
        if offset < 0 or size < 0:
            raise ValueError(f"{size} bytes from {offset} on")
        parts = [_bytes_of(piece, base) for piece in self._cut(offset, max(0, min(size, self.size - offset)))]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def chunks(self, base: Base, *, size: int = CHUNK) -> Iterator[bytes]:
        """Yield all bytes in chunks of ``size``; the last one may be smaller.

        Raises:
            SourceFailed: the base ended early.
        """
        for offset in range(0, self.size, size):
            yield self.read_at(base, offset, size)

    def _cut(self, offset: int, size: int) -> Iterator[Piece]:
        end = offset + size
        at = bisect_right(self._ends, offset)
        while offset < end:
            piece = self.pieces[at]
            start = self._ends[at] - size_of(piece)
            stop = min(end, self._ends[at])
            yield _part(piece, offset - start, stop - offset)
            offset = stop
            at += 1


def _flat(pieces: tuple[Piece | Rope, ...]) -> Iterator[Piece]:
    for piece in pieces:
        if isinstance(piece, Rope):
            yield from piece.pieces
            continue
        if isinstance(piece, Range | Zeros) and (piece.size < 0 or (isinstance(piece, Range) and piece.offset < 0)):
            raise ValueError(f"{piece} is no piece of a file")
        if size_of(piece):
            yield piece


def _take(waiting: list[bytes], joined: list[Piece]) -> None:
    """Move the bytes that wait into one piece: joining them one by one would copy the first ones over and over."""
    if waiting:
        joined.append(waiting[0] if len(waiting) == 1 else b"".join(waiting))
        waiting.clear()


def _part(piece: Piece, offset: int, size: int) -> Piece:
    if isinstance(piece, bytes):
        return piece if size == len(piece) else piece[offset : offset + size]
    if isinstance(piece, Zeros):
        return Zeros(size)
    return Range(piece.offset + offset, size)


def _bytes_of(piece: Piece, base: Base) -> bytes:
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, Zeros):
        return bytes(piece.size)
    data = base.read_at(piece.offset, piece.size)
    if len(data) != piece.size:
        reason = f"it ended after {len(data)} of {piece.size} bytes"
        raise SourceFailed(source="the base of a rope", reason=reason, offset=piece.offset)
    return data
