"""Remembering what was written to a disk, and comparing it with what the disk gives back."""

from __future__ import annotations

import errno
import mmap
import threading
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from libironic_disk.units import MIB, align_down, align_up

_STEP: Final = 4 * MIB
_ZEROS: Final = 1 << 32
# Threads write almost in order: sorting so many at a time makes runs of them, and the memory for it is bounded.
_SORTED_TOGETHER: Final = 4096


class Written(NamedTuple):
    """A range of the disk, and the CRC-32 of its bytes or, above all CRCs, that they are zeros."""

    offset: int
    length: int
    check: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.length


class Record:
    """What was written: 24 bytes of memory for each range. Any thread may add to it; no byte is written twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offsets = array("Q")
        self._lengths = array("Q")
        self._checks = array("Q")
        self._last_zeros: int | None = None

    def wrote(self, offset: int, data: memoryview) -> None:
        """Remember bytes."""
        self._add(offset, len(data), zlib.crc32(data))

    def zeroed(self, offset: int, length: int) -> None:
        """Remember zeros; a range behind the last one only makes that longer."""
        with self._lock:
            last = self._last_zeros
            if last is not None and self._offsets[last] + self._lengths[last] == offset:
                self._lengths[last] += length
                return
        self._add(offset, length, _ZEROS)

    def runs(self) -> Iterator[Sequence[Written]]:
        """Return it all, ranges that adjoin together, roughly in the order of the disk."""
        ranges = map(Written, self._offsets, self._lengths, self._checks)
        while part := sorted(islice(ranges, _SORTED_TOGETHER)):
            run: list[Written] = []
            for each in part:
                if run and run[-1].end != each.offset:
                    yield run
                    run = []
                run.append(each)
            yield run

    def _add(self, offset: int, length: int, check: int) -> None:
        if not length:
            return
        with self._lock:
            if check == _ZEROS:
                self._last_zeros = len(self._offsets)
            self._offsets.append(offset)
            self._lengths.append(length)
            self._checks.append(check)


class Reader:
    """Reads a run in large steps, whatever its ranges are."""

    def __init__(self, read: Callable[[int, memoryview], int], grain: int) -> None:
        """Take a function that fills memory from a place on the disk, as far as that goes, and returns the bytes.

        It is called with multiples of ``grain`` only.
        """
        self._read = read
        self._grain = grain
        self._pages = mmap.mmap(-1, _STEP)
        self._have = range(0)

    def close(self) -> None:
        """Release its memory."""
        self._pages.close()

    def mismatch(self, run: Sequence[Written], moved: Callable[[int], None]) -> int | None:
        """Return where the disk differs from a run: the byte among zeros, else the start of what was written at once.

        Args:
            run: ranges that adjoin, in order.
            moved: is called with the bytes of each step; what it raises ends the comparison.

        Raises:
            OSError: the disk couldn't be read.
        """
        for each in run:
            at, crc = each.offset, 0
            while at < each.end:
                with self._piece(at, each.end, run[-1].end) as piece:
                    if each.check == _ZEROS:
                        found = bytes(piece)
                        if found != bytes(len(found)):
                            return at + len(found) - len(found.lstrip(b"\0"))
                    else:
                        crc = zlib.crc32(piece, crc)
                    at += len(piece)
                    moved(len(piece))
            if each.check not in (crc, _ZEROS):
                return each.offset
        return None

    def _piece(self, start: int, end: int, run_end: int) -> memoryview:
        if start not in self._have:
            first = align_down(start, self._grain)
            self._have = range(first, min(first + _STEP, run_end))
            with memoryview(self._pages)[: align_up(len(self._have), self._grain)] as room:
                if self._read(first, room) < len(self._have):
                    raise OSError(errno.EIO, "the disk became shorter")
        stop = min(end, self._have.stop)
        return memoryview(self._pages)[start - self._have.start : stop - self._have.start]
