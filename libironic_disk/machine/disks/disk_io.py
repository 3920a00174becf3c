"""Reading and writing whole ranges of an open disk, with errors that say where."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from libironic_disk.errors import DeviceFailed
from libironic_disk.events import Cancellation
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.tables.model import Extent, Reader
from libironic_disk.units import MIB

_ZEROS: Final = bytes(MIB)
_GONE: Final = "the disk isn't there any more"


@contextmanager
def opened(node: str, mode: int) -> Iterator[int]:
    """Open a device or a file.

    Raises:
        DeviceFailed: it can't be opened.
    """
    try:
        fd = os.open(node, mode | os.O_CLOEXEC)
    except OSError as error:
        raise DeviceFailed(device=node, action="opening", reason=error.strerror or str(error)) from error
    try:
        yield fd
    finally:
        os.close(fd)


def reader(fd: int, device: str) -> Reader:
    """Return a function that reads from an open disk, as the table codecs want it.

    It raises :class:`~libironic_disk.errors.DeviceFailed` where the kernel can't read, or the disk has gone.
    """

    def read(offset: int, length: int) -> bytes:
        pieces = []
        while length > 0:
            try:
                piece = os.pread(fd, length, offset)
            except OSError as error:
                raise _failed(fd, device, "reading", offset, error) from error
            if not piece:
                if is_gone(fd):
                    raise DeviceFailed(device=device, action="reading", reason=_GONE, offset=offset)
                break
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return b"".join(pieces)

    return read


def write(fd: int, device: str, extents: Iterable[Extent]) -> None:
    """Write every extent whole, in the given order.

    Raises:
        DeviceFailed: the kernel couldn't.
    """
    for extent in extents:
        left = memoryview(extent.data)
        offset = extent.offset
        while left:
            try:
                count = os.pwrite(fd, left, offset)
            except OSError as error:
                raise _failed(fd, device, "writing", offset, error) from error
            left = left[count:]
            offset += count


def check_reads(read: Reader, device: str, extents: Iterable[Extent]) -> None:
    """Prove that a disk gives back what was written; the pages that were written through have to be forgotten by now.

    Raises:
        DeviceFailed: it couldn't be read, or reads otherwise.
    """
    for offset, data in extents:
        if read(offset, len(data)) != data:
            reason = "other bytes than were written"
            raise DeviceFailed(device=device, action="reading back from", reason=reason, offset=offset)


def write_and_check(fd: int, device: str, extents: Sequence[Extent]) -> None:
    """Write every extent, wait until the disk has them, and prove that it gives them back.

    Raises:
        DeviceFailed: the kernel couldn't write or read, or something else is there.
    """
    write(fd, device, extents)
    flush(fd, device)
    check_reads(reader(fd, device), device, extents)


def zero(fd: int, device: str, spans: Iterable[ByteRange], cancel: Cancellation | None = None) -> int:
    """Write zeros over every range and return how many bytes that were.

    They are really written: a discard promises nothing about what is read afterwards.

    Raises:
        DeviceFailed: the kernel couldn't write.
        Cancelled: the caller wished so, between two pieces of 1 MiB.
    """
    total = 0
    for span in spans:
        for offset in range(span.start, span.end, len(_ZEROS)):
            if cancel is not None:
                cancel.check("wiping")
            count = min(len(_ZEROS), span.end - offset)
            write(fd, device, [Extent(offset, _ZEROS[:count])])
            total += count
    return total


@contextmanager
def in_memory(size: int, *, instead_of: str) -> Iterator[int]:
    """Give a file of zeros of which only what is written takes memory, for what isn't to be written to a disk.

    Raises:
        DeviceFailed: the kernel gives none; names the disk.
    """
    try:
        fd = os.memfd_create("libironic_disk")
    except OSError as error:
        raise _no_copy(instead_of, error) from error
    try:
        try:
            os.ftruncate(fd, size)
        except OSError as error:
            raise _no_copy(instead_of, error) from error
        yield fd
    finally:
        os.close(fd)


def _no_copy(device: str, error: OSError) -> DeviceFailed:
    reason = error.strerror or str(error)
    return DeviceFailed(device=device, action="making a copy in memory of", reason=reason)


def blank(fd: int, device: str, spans: Iterable[ByteRange]) -> None:
    """Write zeros over every range, wait until the disk has them, and prove that it gives them back.

    A disk may lose a write and say nothing.

    Raises:
        DeviceFailed: the kernel couldn't write or read, or something else is there.
    """
    spans = tuple(spans)
    zero(fd, device, spans)
    flush(fd, device)
    check_reads(reader(fd, device), device, (Extent(span.start, bytes(span.size)) for span in spans))


def flush(fd: int, device: str) -> None:
    """Wait until the disk has what was written through ``fd``, then forget the pages.

    A partition's node has a page cache of its own: what the whole disk's cache still held would be stale as soon as
    somebody writes through the partition.

    Raises:
        DeviceFailed: a write that had seemed to succeed was lost.
    """
    try:
        os.fdatasync(fd)
        forget(fd)
    except OSError as error:
        raise _failed(fd, device, "flushing", None, error) from error


def check_flushes(fd: int, device: str) -> None:
    """Prove that a disk that nothing was written to through ``fd`` can be flushed.

    The first flush may bring the error of a write that somebody else lost, when the disk wasn't well yet: the kernel
    tells whoever opens it next. The second one speaks of the disk.

    Raises:
        DeviceFailed: it can't.
    """
    with suppress(OSError):
        os.fdatasync(fd)
    flush(fd, device)


def is_write_protected(error: OSError) -> bool:
    """Whether a refused opening for writing is the disk's own; EACCES also stands for a missing permission."""
    return error.errno == errno.EROFS or (error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() == 0)


def forget(fd: int) -> None:
    """Drop the clean pages that were read through ``fd``, so that the next read comes from the disk."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def is_gone(fd: int) -> bool:
    """Whether an open disk was taken out: to whoever still has it open, Linux makes it one without a byte."""
    return stat.S_ISBLK(os.fstat(fd).st_mode) and os.lseek(fd, 0, os.SEEK_END) == 0


def reason(fd: int, error: OSError) -> str:
    """Return why the kernel refused; of a disk that was taken out it says that no space is left."""
    return _GONE if is_gone(fd) else error.strerror or str(error)


def _failed(fd: int, device: str, action: str, offset: int | None, error: OSError) -> DeviceFailed:
    return DeviceFailed(device=device, action=action, reason=reason(fd, error), offset=offset)
