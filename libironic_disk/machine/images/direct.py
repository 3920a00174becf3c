"""Writing past the page cache: open(2) with O_DIRECT."""

from __future__ import annotations

import errno
import mmap
import os
from collections import deque
from typing import Final

from libironic_disk.machine.images import file_ranges
from libironic_disk.units import MIB

_BOUNCE: Final = MIB


def reopened(descriptor: int) -> int | None:
    """Open the file behind a descriptor for reading and writing past the page cache; None where that isn't possible."""
    try:
        # By way of /proc: the path may lead to something else by now.
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC | os.O_DIRECT)
    except OSError:
        return None


class DirectWriter:
    """Writes whole pages. Any thread may call it.

    Args:
        descriptor: opened with O_DIRECT.
        grain: what places on the disk, lengths and addresses in memory must be multiples of.
    """

    def __init__(self, descriptor: int, grain: int) -> None:
        self._descriptor = descriptor
        self._grain = grain
        self._refused = False
        self._pages: deque[mmap.mmap] = deque()

    def close(self) -> None:
        """Release the memory that bytes were copied to; the descriptor stays open."""
        while self._pages:
            self._pages.pop().close()

    def write(self, offset: int, data: memoryview) -> int:
        """Write whole pages and return how many bytes of them: fewer than all where the kernel doesn't take them so.

        Raises:
            OSError: the kernel couldn't write them.
        """
        if self._refused:
            return 0
        if not data.readonly and file_ranges.address(data) % self._grain == 0:
            return self._write(offset, data)
        return self._copied(offset, data)

    def _copied(self, offset: int, data: memoryview) -> int:
        try:
            pages = self._pages.pop()
        except IndexError:
            pages = mmap.mmap(-1, _BOUNCE)
        try:
            with memoryview(pages) as bounce:
                done = 0
                while done < len(data):
                    count = min(len(data) - done, _BOUNCE)
                    bounce[:count] = data[done : done + count]
                    with bounce[:count] as part:
                        written = self._write(offset + done, part)
                    done += written
                    if written < count:
                        break
            return done
        finally:
            self._pages.append(pages)

    def _write(self, offset: int, data: memoryview) -> int:
        done = 0
        # After an odd count the rest of the memory isn't aligned any more.
        while done < len(data) and done % self._grain == 0:
            try:
                with data[done:] as left:
                    done += os.pwrite(self._descriptor, left, offset + done)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._refused = True
                break
        return done
