"""Making a range of a disk read as zeros, without sending the zeros where the disk can do it by itself.

Source: fallocate(2) and the kernel's block/fops.c. On a block device FALLOC_FL_PUNCH_HOLE either zeroes by an offloaded
command that guarantees zeros or fails; FALLOC_FL_ZERO_RANGE may have the kernel write them. A discard guarantees
nothing.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from libironic_disk.machine.images import file_ranges
from libironic_disk.machine.images.file_ranges import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE
from libironic_disk.units import MIB, align_down, align_up

_ZEROS: Final = bytes(MIB)


class Zeroer:
    """Zeroes ranges of one open disk; a way that the disk refuses once isn't tried again.

    Args:
        descriptor: open for writing.
        grain: the logical sector size, which offloaded ranges must be multiples of.
    """

    def __init__(self, descriptor: int, grain: int) -> None:
        self._descriptor = descriptor
        self._grain = grain
        self._modes = [PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE | KEEP_SIZE]

    def zero(self, start: int, end: int) -> None:
        """Make the bytes from ``start`` to ``end`` read as zeros.

        Raises:
            OSError: the disk failed.
        """
        inner_start, inner_end = align_up(start, self._grain), align_down(end, self._grain)
        if inner_start >= inner_end:
            self._write(start, end)
            return
        self._write(start, inner_start)
        if not self._offload(inner_start, inner_end - inner_start):
            self._write(inner_start, inner_end)
        self._write(inner_end, end)

    def _offload(self, start: int, length: int) -> bool:
        while self._modes:
            try:
                file_ranges.allocate(self._descriptor, self._modes[0], start, length)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV):
                    raise
                self._modes.pop(0)
            else:
                return True
        return False

    def _write(self, start: int, end: int) -> None:
        while start < end:
            start += os.pwrite(self._descriptor, _ZEROS[: end - start], start)
