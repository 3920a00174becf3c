"""Memory that bytes flow through: a fixed number of buffers, each given out again once nobody refers to it.

A buffer is filled by one thread, cut into pieces by a second and written by others. Whoever passes a part of it on
holds it first; the last to release it gives it back. So the memory of a whole write is known before it begins.
"""

from __future__ import annotations

import mmap
import queue
import threading
from contextlib import suppress
from typing import Final

from libironic_disk.units import MIB

BUFFER_SIZE: Final = 2 * MIB
"""As large as the largest cluster of qcow2, and small enough for several to stay in a processor's cache."""


class Buffer:
    """A piece of memory that begins at a page, as O_DIRECT wants it; held once when it is taken."""

    __slots__ = ("_holders", "_lock", "_pool", "view")

    def __init__(self, pool: BufferPool, size: int) -> None:
        self.view = memoryview(mmap.mmap(-1, size))
        self._pool = pool
        self._lock = threading.Lock()
        self._holders = 0

    def hold(self) -> None:
        """Keep it from being given out again until one more :meth:`release`."""
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        """Give it back, unless somebody else holds it too."""
        with self._lock:
            self._holders -= 1
            if self._holders:
                return
        self._pool.give_back(self)


class BufferPool:
    """A fixed number of buffers; the memory of one is taken when it is used for the first time.

    Args:
        count: how many.
        size: bytes of each.
    """

    def __init__(self, count: int, size: int = BUFFER_SIZE) -> None:
        self._free: queue.SimpleQueue[Buffer | None] = queue.SimpleQueue()
        self._closed = False
        for _ in range(count):
            self._free.put(Buffer(self, size))

    def take(self) -> Buffer | None:
        """Wait for a buffer and hold it; None once the pool was closed."""
        buffer = self._free.get()
        if buffer is None:
            self._free.put(None)
            return None
        buffer.hold()
        return buffer

    def give_back(self, buffer: Buffer) -> None:
        """Take a buffer that nobody holds any more."""
        if not self._closed:
            self._free.put(buffer)

    def close(self) -> None:
        """Forget all buffers: whoever waits for one, now or later, gets None, and their memory ends with their use."""
        self._closed = True
        with suppress(queue.Empty):
            while True:
                self._free.get_nowait()
        self._free.put(None)
