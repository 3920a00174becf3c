"""Writing through the page cache, of which only a bounded part is ever dirty."""

from __future__ import annotations

import os
import threading
from typing import Final

from libironic_disk.machine.images import file_ranges
from libironic_disk.machine.images.file_ranges import SYNC_WAIT_AFTER, SYNC_WAIT_BEFORE, SYNC_WRITE
from libironic_disk.units import MIB

# As much may be dirty while the next as much is being collected. A ramdisk has no memory for gigabytes of dirty pages,
# and a last flush of them could be neither watched nor cancelled.
_WINDOW: Final = 32 * MIB


class CachedWriter:
    """Writes to an open file. Any thread may call it; all of them wait while what was collected is written back."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._dirty = 0
        self._collected: range | None = None
        self._on_its_way: range | None = None

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of ``data``.

        Raises:
            OSError: the kernel couldn't, this or something before.
        """
        at, left = offset, data
        while left:
            count = os.pwrite(self._descriptor, left, at)
            left = left[count:]
            at += count
        if at > offset:
            self._collect(offset, at)

    def _collect(self, start: int, end: int) -> None:
        with self._lock:
            collected = self._collected or range(start, end)
            self._collected = range(min(collected.start, start), max(collected.stop, end))
            # Counted, as writes that are far from each other span much and leave little behind.
            self._dirty += end - start
            if self._dirty >= _WINDOW:
                self._write_back()

    def _write_back(self) -> None:
        """Start to write what was collected, and wait for what was started before."""
        if self._collected is not None:
            self._synchronise(self._collected, SYNC_WRITE)
        if self._on_its_way is not None:
            window = self._on_its_way
            self._synchronise(window, SYNC_WAIT_BEFORE | SYNC_WRITE | SYNC_WAIT_AFTER)
            os.posix_fadvise(self._descriptor, window.start, len(window), os.POSIX_FADV_DONTNEED)
        self._on_its_way, self._collected, self._dirty = self._collected, None, 0

    def _synchronise(self, window: range, flags: int) -> None:
        file_ranges.synchronise(self._descriptor, flags, window.start, len(window))
