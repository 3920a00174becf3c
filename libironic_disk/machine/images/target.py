"""Writing an image to a block device, up to the point where the kernel has confirmed every byte.

The device is opened before the first write and stays open until the last flush: an error that the kernel meets while it
writes back is reported once to every descriptor that was open at that time, and to nobody who opens later.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Final, Protocol

from libironic_disk.errors import DeviceFailed, DeviceReadOnly, NotABlockDevice
from libironic_disk.events import Cancellation
from libironic_disk.machine.disks import disk_io, sysfs
from libironic_disk.machine.images import direct
from libironic_disk.machine.images.direct import DirectWriter
from libironic_disk.machine.images.page_cache import CachedWriter
from libironic_disk.machine.images.readback import Reader, Record
from libironic_disk.machine.images.zeroing import Zeroer
from libironic_disk.units import KIB, align_down, align_up

# Where the copy through the page cache costs more than waiting for the disk once per write. Measured on loop devices
# over tmpfs and ext4, one thread and four: direct writes of up to 16 KiB reach about half the speed of cached ones,
# those of 64 KiB draw level, and from 256 KiB on they are 1.2 to 3 times as fast and take a fifth of the processor time
# or less. Those in between aren't worth what they may cost on a disk without a write cache: a turn for each.
_DIRECT_FROM: Final = 256 * KIB


class Writable(Protocol):
    """What an image is written to. Several threads may write at once, to ranges that don't overlap."""

    @property
    def name(self) -> str:
        """What it is called in errors."""

    @property
    def capacity(self) -> int:
        """Bytes from its start that may be written."""

    def write(self, offset: int, data: memoryview) -> None:
        """Write bytes; the memory may be used again afterwards.

        Raises:
            DeviceFailed: the kernel couldn't, or they reach out of the target.
        """

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros. It can't be cancelled: a long one is better given in parts.

        Raises:
            DeviceFailed: the kernel couldn't, or the range reaches out of the target.
        """

    def flush(self) -> None:
        """Wait until the device has everything; only then is the image written.

        Raises:
            DeviceFailed: a write that had seemed to succeed was lost.
        """

    def scratch(self, offset: int, data: memoryview) -> None:
        """Write bytes that are only to be recalled, and overwritten afterwards.

        Raises:
            DeviceFailed: the kernel couldn't, or they reach out of the target.
        """

    def recall(self, offset: int, length: int) -> bytes:
        """Return bytes that were written so.

        Raises:
            DeviceFailed: the kernel couldn't read them, or they reach out of the target.
        """


@contextmanager
def open_target(path: str, *, capacity: int, regular_file: bool = False, recording: bool = False) -> Iterator[Target]:
    """Open the node that an image is written to; it must exist, and nothing is ever created or truncated.

    Args:
        path: a block device.
        capacity: bytes from its start that may be written.
        regular_file: the path is a plain file instead.
        recording: remember what is written, for :meth:`Target.verify`; no byte may then be written twice.

    Raises:
        NotABlockDevice: it is something else.
        DeviceReadOnly: the kernel refuses writes to it.
        DeviceFailed: it can't be opened or flushed, or is smaller than ``capacity``.
    """
    with ExitStack() as releases:
        descriptor = _open(path, regular_file)
        releases.callback(os.close, descriptor)
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if size < capacity:
            reason = f"it has {size} bytes, {capacity} were planned"
            raise DeviceFailed(device=path, action="opening", reason=reason)
        if not regular_file:
            # What somebody else lost here is no error of ours; whoever has it open still hears of it.
            disk_io.check_flushes(descriptor, path)
        uncached = direct.reopened(descriptor)
        if uncached is not None:
            releases.callback(os.close, uncached)
        yield releases.enter_context(closing(Target(descriptor, uncached, path, capacity, recording=recording)))


def _open(path: str, regular_file: bool) -> int:
    # Looked at first: opening alone may block or have effects, and a read-only disk lets itself be opened for writing.
    if not regular_file and sysfs.is_read_only(sysfs.block_node(sysfs.block_device_number(path))):
        raise DeviceReadOnly(device=path)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise DeviceFailed(device=path, action="opening", reason=error.strerror or str(error)) from error
    wanted = stat.S_ISREG if regular_file else stat.S_ISBLK
    if not wanted(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotABlockDevice(device=path, found="is no plain file" if regular_file else "was replaced just now")
    return descriptor


class Target:
    """An open target, a :class:`Writable`. Nothing outside the first ``capacity`` bytes is touched.

    Whole pages of the disk go past the page cache, in which they would only be copied once more. The ends of a write
    that are parts of pages go through it, and so does what is too small. No page goes both ways at once: the cache
    would read a page, have a part of it changed and write all of it back, over what had reached the disk meanwhile.
    """

    def __init__(
        self, descriptor: int, uncached: int | None, name: str, capacity: int, *, recording: bool = False
    ) -> None:
        self.descriptor = descriptor
        self.name = name
        self.capacity = capacity
        self._uncached = uncached
        self._grain = max(mmap.PAGESIZE, sysfs.sector_size(descriptor))
        self._cached = CachedWriter(descriptor)
        self._direct = None if uncached is None else DirectWriter(uncached, self._grain)
        self._zeroer = Zeroer(descriptor, self._grain, self._put)
        self._record = Record() if recording else None

    def close(self) -> None:
        """Release its memory; the descriptors stay open."""
        self._zeroer.close()
        if self._direct is not None:
            self._direct.close()

    def write(self, offset: int, data: memoryview) -> None:
        """Write bytes.

        Raises:
            DeviceFailed: the kernel couldn't, or they reach out of the target.
        """
        self.scratch(offset, data)
        if self._record is not None:
            self._record.wrote(offset, data)

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros.

        Raises:
            DeviceFailed: the kernel couldn't, or the range reaches out of the target.
        """
        self._check("zeroing", offset, length)
        try:
            self._zeroer.zero(offset, offset + length)
        except OSError as error:
            raise self._failed("zeroing", offset, error) from error
        if self._record is not None:
            self._record.zeroed(offset, length)

    def flush(self) -> None:
        """Wait until the device has everything; only then is the image written.

        Raises:
            DeviceFailed: a write that had seemed to succeed was lost.
        """
        try:
            os.fdatasync(self.descriptor)
        except OSError as error:
            raise self._failed("flushing", None, error) from error

    def scratch(self, offset: int, data: memoryview) -> None:
        """Write bytes that will be overwritten and are only to be recalled before: they aren't recorded.

        Raises:
            DeviceFailed: the kernel couldn't, or they reach out of the target.
        """
        self._check("writing", offset, len(data))
        try:
            self._put(offset, data)
        except OSError as error:
            raise self._failed("writing", offset, error) from error

    def recall(self, offset: int, length: int) -> bytes:
        """Return bytes that are on the target.

        Raises:
            DeviceFailed: the kernel couldn't read them, or they reach out of the target.
        """
        self._check("reading", offset, length)
        found = bytearray(length)
        try:
            with memoryview(found) as room:
                if self._read(self.descriptor, offset, room) < length:
                    raise OSError(errno.EIO, "the disk became shorter")
            os.posix_fadvise(self.descriptor, offset, length, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            raise self._failed("reading", offset, error) from error
        return bytes(found)

    def verify(self, *, cancel: Cancellation | None, moved: Callable[[int], None]) -> None:
        """Flush, then read everything that was recorded back from the disk itself and compare it.

        Args:
            cancel: asked between steps of a few MiB at most.
            moved: told how many bytes were verified so far.

        Raises:
            DeviceFailed: the disk gives back something else, or nothing.
            Cancelled: the caller wished so.
            ValueError: nothing was recorded.
        """
        if self._record is None:
            raise ValueError("a target that is to be verified must be opened with recording=True")
        self.flush()
        done = 0

        def step(count: int) -> None:
            nonlocal done
            if cancel is not None:
                cancel.check("verifying")
            done += count
            moved(done)

        with closing(Reader(self._read_back, self._grain)) as reader:
            for run in self._record.runs():
                try:
                    different = reader.mismatch(run, step)
                except OSError as error:
                    raise self._failed("reading back from", run[0].offset, error) from error
                if different is not None:
                    reason = "these are not the bytes that were written"
                    raise DeviceFailed(device=self.name, action="reading back from", reason=reason, offset=different)

    def _put(self, offset: int, data: memoryview) -> None:
        start = align_up(offset, self._grain) - offset
        stop = align_down(offset + len(data), self._grain) - offset
        if self._direct is None or stop - start < _DIRECT_FROM:
            self._cached.write(offset, data)
            return
        with data[:start] as head, data[start:stop] as pages:
            self._cached.write(offset, head)
            done = start + self._direct.write(offset + start, pages)
        with data[done:] as rest:
            self._cached.write(offset + done, rest)

    def _read_back(self, offset: int, room: memoryview) -> int:
        try:
            if self._uncached is not None:
                return self._read(self._uncached, offset, room)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        # Everything was flushed: the kernel drops its copy, and has to ask the disk.
        os.posix_fadvise(self.descriptor, offset, len(room), os.POSIX_FADV_DONTNEED)
        return self._read(self.descriptor, offset, room)

    def _read(self, descriptor: int, offset: int, room: memoryview) -> int:
        done = 0
        while done < len(room):
            with room[done:] as left:
                count = os.preadv(descriptor, [left], offset + done)
            if not count:
                break
            done += count
        return done

    def _check(self, action: str, offset: int, length: int) -> None:
        if offset < 0 or offset + length > self.capacity:
            reason = f"only {self.capacity} bytes may be written"
            raise DeviceFailed(device=self.name, action=action, reason=reason, offset=offset)

    def _failed(self, action: str, offset: int | None, error: OSError) -> DeviceFailed:
        reason = disk_io.reason(self.descriptor, error)
        return DeviceFailed(device=self.name, action=action, reason=reason, offset=offset)
