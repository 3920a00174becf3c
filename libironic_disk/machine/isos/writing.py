"""A file that is made of ranges of others and some new bytes, written out: as a whole, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from libironic_disk.errors import NotEnoughRoom, PathFailed, SourceChanged
from libironic_disk.events import Cancellation, EventSink, ignore
from libironic_disk.machine.images.file_ranges import SYNC_WRITE, synchronise
from libironic_disk.machine.images.metering import Meter
from libironic_disk.machine.isos.opening import OpenFile, Part
from libironic_disk.machine.paths import HERE
from libironic_disk.machine.replacing import replacing, require_plain
from libironic_disk.pure.ropes import Rope, Zeros
from libironic_disk.units import MIB

_AT_ONCE: Final = 32 * MIB
_BUFFER: Final = MIB
# The file systems can't do it, are different ones, or the kernel is old: bytes then pass through us. So they do after
# an EIO, by which nobody could tell which of the two files it was.
_NO_COPY: Final = frozenset(
    (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.EIO)
)


class Parted(Protocol):
    """Where the ranges of a rope are."""

    def part(self, offset: int, size: int) -> Sequence[Part]:
        """Return in which open file a run of bytes is, piece by piece."""


def write(
    rope: Rope,
    base: Parted,
    destination: Path,
    *,
    sink: EventSink = ignore,
    cancel: Cancellation | None = None,
) -> None:
    """Write a rope into a file that has its name only when it is complete and on the disk.

    The kernel copies the ranges, by reference where the file system can do that. Holes of the base are holes again.

    Raises:
        NotEnoughRoom: the file system has too little; nothing was written.
        PathFailed: the file can't be made or written.
        SourceFailed, SourceChanged: the base can't be read, or was written to.
        Cancelled: the caller wished so.
    """
    pieces = list(_data(rope, base))
    check_room(destination.parent, sum(length for _, _, length in pieces))
    meter = Meter(sink, rope.size, cancel)
    require_plain(destination)
    with replacing(destination) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for at, source, length in pieces:
                _put(descriptor, at, source, length, meter)
            os.ftruncate(descriptor, rope.size)
            meter.read_until(rope.size)
            meter.tick()
            os.fsync(descriptor)
            _check_unchanged(pieces)
        finally:
            os.close(descriptor)
    meter.ended()


def check_room(directory: Path, wanted: int) -> None:
    """Check that a directory's file system has as many free bytes.

    Raises:
        NotEnoughRoom: it has fewer.
        PathFailed: it isn't there.
    """
    try:
        status = os.statvfs(directory)
    except (OSError, ValueError) as error:
        raise PathFailed.of(HERE, str(directory), error) from error
    available = status.f_bavail * status.f_frsize
    if wanted > available:
        raise NotEnoughRoom(directory=str(directory), wanted=wanted, available=available)


def _data(rope: Rope, base: Parted) -> Iterator[tuple[int, bytes | Part, int]]:
    """Yield what has to be written: where, what, and how many bytes; holes and zeros are left out."""
    at = 0
    for piece in rope.pieces:
        if isinstance(piece, bytes):
            yield at, piece, len(piece)
            at += len(piece)
            continue
        if isinstance(piece, Zeros):
            at += piece.size
            continue
        for part in base.part(piece.offset, piece.size):
            for start, length in _filled(part):
                yield at + start - part.offset, Part(part.file, start, length), length
            at += part.size


def _filled(part: Part) -> Iterator[tuple[int, int]]:
    """Yield the runs of a part that aren't holes: start in its file, and length."""
    part.file.check_unchanged()
    descriptor, start, end = part.file.fileno(), part.offset, part.offset + part.size
    while start < end:
        try:
            start = max(start, os.lseek(descriptor, start, os.SEEK_DATA))
            hole = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                return
            hole = end  # a device, or a file system that doesn't tell
        if start < end:
            yield start, min(hole, end) - start
        start = hole


def _put(descriptor: int, at: int, source: bytes | Part, length: int, meter: Meter) -> None:
    done = 0
    copied: _Copy = _by_kernel
    while done < length:
        meter.read_until(at + done)
        meter.tick()
        if isinstance(source, bytes):
            count = os.pwrite(descriptor, memoryview(source)[done:], at + done)
        else:
            wanted = min(length - done, _AT_ONCE)
            try:
                count = copied(source.file, source.offset + done, descriptor, at + done, wanted)
            except OSError as error:
                if copied is _by_hand or error.errno not in _NO_COPY:
                    raise
                copied = _by_hand
                continue
            if not count:
                raise SourceChanged(source=source.file.name, reason="it became shorter", offset=source.offset + done)
        # The disk begins now: else all of its work would be left to fsync.
        with suppress(OSError):
            synchronise(descriptor, SYNC_WRITE, at + done, count)
        meter.moved(written=count)
        done += count


_Copy = Callable[[OpenFile, int, int, int, int], int]


def _by_kernel(source: OpenFile, start: int, target: int, at: int, length: int) -> int:
    return os.copy_file_range(source.fileno(), target, length, offset_src=start, offset_dst=at)


def _by_hand(source: OpenFile, start: int, target: int, at: int, length: int) -> int:
    return os.pwrite(target, source.read_at(start, min(length, _BUFFER)), at)


def _check_unchanged(pieces: Sequence[tuple[int, bytes | Part, int]]) -> None:
    for file in {source.file for _, source, _ in pieces if isinstance(source, Part)}:
        file.check_unchanged()
