"""Writing an image to a block device, up to the point where the kernel has confirmed every byte.

The device is opened before the first write and stays open until the last flush: an error that the kernel meets while it
writes back is reported once to every descriptor that was open at that time, and to nobody who opens later.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from libironic_disk.errors import DeviceFailed, DeviceReadOnly, NotABlockDevice
from libironic_disk.machine.disks import sysfs
from libironic_disk.machine.images import file_ranges
from libironic_disk.machine.images.file_ranges import SYNC_WAIT_AFTER, SYNC_WAIT_BEFORE, SYNC_WRITE
from libironic_disk.machine.images.sources import Data, Piece
from libironic_disk.machine.images.zeroing import Zeroer
from libironic_disk.units import MIB

# As much may be dirty while the next as much is being collected. A ramdisk has no memory for gigabytes of dirty pages,
# and a last flush of them could be neither watched nor cancelled.
_WINDOW: Final = 32 * MIB


@contextmanager
def open_target(path: str, *, capacity: int, regular_file: bool = False) -> Iterator[TargetWriter]:
    """Open the node that an image is written to; it must exist, and nothing is ever created or truncated.

    Args:
        path: a block device.
        capacity: bytes from its start that may be written.
        regular_file: the path is a plain file instead.

    Raises:
        NotABlockDevice: it is something else.
        DeviceReadOnly: the kernel refuses writes to it.
        DeviceFailed: it can't be opened, or is smaller than ``capacity``.
    """
    descriptor = _open(path, regular_file)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if size < capacity:
            reason = f"it has {size} bytes, {capacity} were planned"
            raise DeviceFailed(device=path, action="opening", reason=reason)
        yield TargetWriter(descriptor, path, capacity)
    finally:
        os.close(descriptor)


def _open(path: str, regular_file: bool) -> int:
    # Looked at first: opening alone may block or have effects, and a read-only disk lets itself be opened for writing.
    if not regular_file and sysfs.is_read_only(sysfs.block_node(sysfs.block_device_number(path))):
        raise DeviceReadOnly(device=path)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        raise DeviceFailed(device=path, action="opening", reason=error.strerror or str(error)) from error
    wanted = stat.S_ISREG if regular_file else stat.S_ISBLK
    if not wanted(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotABlockDevice(device=path, found="is no plain file" if regular_file else "was replaced just now")
    return descriptor


class TargetWriter:
    """An open target. Pieces may come in any order; nothing outside the first ``capacity`` bytes is touched."""

    def __init__(self, descriptor: int, name: str, capacity: int) -> None:
        self.descriptor = descriptor
        self.name = name
        self.capacity = capacity
        self._zeroer = Zeroer(descriptor, sysfs.sector_size(descriptor))
        self._collected: range | None = None
        self._on_its_way: range | None = None

    def put(self, piece: Piece) -> None:
        """Write a piece, its zeros included: the target may hold old data where the image has nothing.

        Raises:
            DeviceFailed: the kernel couldn't, or the piece reaches out of the target.
        """
        if piece.offset < 0 or piece.end > self.capacity:
            raise self._failed("writing", piece.offset, f"only {self.capacity} bytes may be written")
        try:
            if isinstance(piece, Data):
                self._write(piece)
            else:
                self._zeroer.zero(piece.offset, piece.end)
        except OSError as error:
            action = "writing" if isinstance(piece, Data) else "zeroing"
            raise self._failed(action, piece.offset, error.strerror) from error

    def flush(self) -> None:
        """Wait until the device has everything; only then is the image written.

        Raises:
            DeviceFailed: a write that had seemed to succeed was lost.
        """
        try:
            os.fdatasync(self.descriptor)
        except OSError as error:
            raise self._failed("flushing", None, error.strerror) from error

    def _write(self, piece: Data) -> None:
        offset, left = piece.offset, piece.data
        while left:
            count = os.pwrite(self.descriptor, left, offset)
            left = left[count:]
            offset += count
        collected = self._collected or range(piece.offset, piece.end)
        self._collected = range(min(collected.start, piece.offset), max(collected.stop, piece.end))
        if len(self._collected) >= _WINDOW:
            self._write_back()

    def _write_back(self) -> None:
        """Start to write what was collected, and wait for what was started before."""
        if self._collected is not None:
            self._synchronise(self._collected, SYNC_WRITE)
        if self._on_its_way is not None:
            self._synchronise(self._on_its_way, SYNC_WAIT_BEFORE | SYNC_WRITE | SYNC_WAIT_AFTER)
            window = self._on_its_way
            os.posix_fadvise(self.descriptor, window.start, len(window), os.POSIX_FADV_DONTNEED)
        self._on_its_way, self._collected = self._collected, None

    def _synchronise(self, window: range, flags: int) -> None:
        file_ranges.synchronise(self.descriptor, flags, window.start, len(window))

    def _failed(self, action: str, offset: int | None, reason: str | None) -> DeviceFailed:
        return DeviceFailed(device=self.name, action=action, reason=reason or "no reason given", offset=offset)
