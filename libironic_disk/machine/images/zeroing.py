"""Making a range of a disk read as zeros, without sending the zeros where the disk can do it by itself.

Source: fallocate(2) and the kernel's block/fops.c and block/blk-lib.c. On a block device FALLOC_FL_PUNCH_HOLE either
zeroes by an offloaded command that guarantees zeros or fails; FALLOC_FL_ZERO_RANGE and BLKZEROOUT may have the kernel
write them. A discard guarantees nothing.
"""

from __future__ import annotations

import errno
import mmap
from collections.abc import Callable
from typing import Final

from libironic_disk.machine.images import file_ranges
from libironic_disk.machine.images.file_ranges import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE
from libironic_disk.units import MIB, align_down, align_up

# EREMOTEIO is how a SCSI disk that had promised the command turns it down. If it was the disk that failed, writing will
# tell.
_REFUSALS: Final = frozenset(
    {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.ENOTTY, errno.EREMOTEIO}
)

_Way = Callable[[int, int, int], None]


def _punch_hole(descriptor: int, start: int, length: int) -> None:
    file_ranges.allocate(descriptor, PUNCH_HOLE | KEEP_SIZE, start, length)


def _zero_range(descriptor: int, start: int, length: int) -> None:
    file_ranges.allocate(descriptor, ZERO_RANGE | KEEP_SIZE, start, length)


def _zero_out(descriptor: int, start: int, length: int) -> None:
    file_ranges.zero_out(descriptor, start, length)


_LADDER: Final[tuple[_Way, ...]] = (_punch_hole, _zero_range, _zero_out)


class Zeroer:
    """Zeroes ranges of one open disk; a way that the disk refuses once isn't tried again. Any thread may call it.

    Args:
        descriptor: open for writing.
        grain: offloaded ranges are multiples of it: of the logical sectors, and of the pages that other threads write.
        write: writes bytes that no offloading reaches.
    """

    def __init__(self, descriptor: int, grain: int, write: Callable[[int, memoryview], None]) -> None:
        self._descriptor = descriptor
        self._grain = grain
        self._write_bytes = write
        self._refused: set[_Way] = set()
        # Mapped, so that it begins with a page, and never touched, so that all of it is the kernel's one page of zeros.
        self._zeros = mmap.mmap(-1, MIB)

    def close(self) -> None:
        """Release its memory."""
        self._zeros.close()

    def zero(self, start: int, end: int) -> None:
        """Make the bytes from ``start`` to ``end`` read as zeros.

        Raises:
            OSError: the disk failed.
        """
        inner_start, inner_end = align_up(start, self._grain), align_down(end, self._grain)
        if inner_start >= inner_end or not self._offload(inner_start, inner_end - inner_start):
            self._write(start, end)
            return
        self._write(start, inner_start)
        self._write(inner_end, end)

    def _offload(self, start: int, length: int) -> bool:
        for way in _LADDER:
            if way in self._refused:
                continue
            try:
                way(self._descriptor, start, length)
            except OSError as error:
                # While somebody holds the disk exclusively, the kernel won't drop pages of the range that are dirty.
                if error.errno == errno.EBUSY:
                    return False
                if error.errno not in _REFUSALS:
                    raise
                self._refused.add(way)
            else:
                return True
        return False

    def _write(self, start: int, end: int) -> None:
        with memoryview(self._zeros) as zeros:
            while start < end:
                # As far into a page in memory as on the disk: what is aligned there is aligned here.
                skew = start % self._grain
                with zeros[skew : skew + end - start] as piece:
                    self._write_bytes(start, piece)
                    start += len(piece)
