"""Ranges of bytes on a disk, and what is left of some when others must stay untouched."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class ByteRange(NamedTuple):
    """From ``start`` up to, not including, ``end``."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self.end - self.start


def edges(span: ByteRange, depth: int) -> tuple[ByteRange, ByteRange]:
    """Return the first and the last ``depth`` bytes of a range, where superblocks live."""
    return (
        ByteRange(span.start, min(span.start + depth, span.end)),
        ByteRange(max(span.end - depth, span.start), span.end),
    )


def merged(ranges: Iterable[ByteRange]) -> tuple[ByteRange, ...]:
    """Return the same bytes in ascending ranges that neither overlap nor touch."""
    result: list[ByteRange] = []
    for span in sorted(span for span in ranges if span.size > 0):
        if result and span.start <= result[-1].end:
            result[-1] = ByteRange(result[-1].start, max(result[-1].end, span.end))
        else:
            result.append(span)
    return tuple(result)


def without(ranges: Iterable[ByteRange], untouched: Iterable[ByteRange]) -> tuple[ByteRange, ...]:
    """Return what is left of ``ranges`` when no byte of ``untouched`` may be in them."""
    left = merged(ranges)
    for hole in merged(untouched):
        cut: list[ByteRange] = []
        for span in left:
            cut.append(ByteRange(span.start, min(span.end, hole.start)))
            cut.append(ByteRange(max(span.start, hole.end), span.end))
        left = merged(cut)
    return left
