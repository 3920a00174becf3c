"""A disk as it will be: what is on it, and over that what is withheld in memory until the commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from libironic_disk.machine.disks import disk_io
from libironic_disk.pure.disks.losses import EDGE
from libironic_disk.pure.ranges import ByteRange, edges, merged
from libironic_disk.pure.tables.model import Extent


class Overlay:
    """An open disk with parts that are not on it yet.

    Who reads it sees both; what is written goes to where the byte belongs.

    Args:
        fd: the disk, open for reading and writing.
        device: its name in errors.
        withheld: the parts, in the order of the disk.
    """

    def __init__(self, fd: int, device: str, withheld: Sequence[Extent]) -> None:
        self._fd = fd
        self._device = device
        self._on_disk = disk_io.reader(fd, device)
        self._kept = {extent.offset: bytearray(extent.data) for extent in withheld}
        disk_io.forget(fd)

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes as they will be, fewer only at the end of the disk.

        Raises:
            DeviceFailed: the kernel couldn't read.
        """
        data = bytearray(self._on_disk(offset, length))
        for part, kept in self._withheld(ByteRange(offset, offset + len(data))):
            data[part.start - offset : part.end - offset] = kept
        return bytes(data)

    @contextmanager
    def opened(self, span: ByteRange) -> Iterator[tuple[int, ByteRange]]:
        """Give an open file in which a range, or the ends of it, are as they will be, and where in that file it is.

        It is the disk itself where nothing of the range is withheld, else a copy.

        Raises:
            DeviceFailed: the kernel couldn't read, or has no room for the copy.
        """
        if not any(self._withheld(span)):
            yield self._fd, span
            return
        with disk_io.in_memory(span.size, instead_of=self._device) as copy:
            for edge in merged(edges(span, EDGE)):
                data = self.read(edge.start, edge.size)
                disk_io.write(copy, self._device, [Extent(edge.start - span.start, data)])
            yield copy, ByteRange(0, span.size)

    def write(self, extents: Iterable[Extent]) -> None:
        """Write onto the disk, or into memory what is withheld; :meth:`flush` proves the former.

        Raises:
            DeviceFailed: the kernel couldn't write.
        """
        for offset, data in extents:
            at = offset
            for part, kept in self._withheld(ByteRange(offset, offset + len(data))):
                disk_io.write(self._fd, self._device, [Extent(at, data[at - offset : part.start - offset])])
                kept[:] = data[part.start - offset : part.end - offset]
                at = part.end
            disk_io.write(self._fd, self._device, [Extent(at, data[at - offset :])])

    def put(self, extents: Sequence[Extent]) -> None:
        """Write as :meth:`write` does, wait until the disk has it, and read it back from there.

        Raises:
            DeviceFailed: the kernel couldn't, or the disk gives other bytes back.
        """
        self.write(extents)
        self.flush()
        disk_io.check_reads(self.read, self._device, extents)

    def release(self, span: ByteRange) -> None:
        """Put on the disk what is withheld in a range, and withhold it no more; the first sector can't be released.

        Raises:
            DeviceFailed: the kernel couldn't write.
        """
        for start, kept in sorted(self._kept.items()):
            first, end = max(start, span.start), min(start + len(kept), span.end)
            if first == 0 or first >= end:
                continue
            disk_io.write(self._fd, self._device, [Extent(first, bytes(kept[first - start : end - start]))])
            del self._kept[start]
            if start < first:
                self._kept[start] = kept[: first - start]
            if end < start + len(kept):
                self._kept[end] = kept[end - start :]

    def flush(self) -> None:
        """Wait until the disk has what was written, and forget what was read.

        Raises:
            DeviceFailed: a write was lost.
        """
        disk_io.flush(self._fd, self._device)

    def withheld(self) -> tuple[Extent, ...]:
        """Return what is still missing on the disk, in its order."""
        return tuple(Extent(start, bytes(kept)) for start, kept in sorted(self._kept.items()))

    def _withheld(self, span: ByteRange) -> Iterator[tuple[ByteRange, memoryview]]:
        for start, kept in sorted(self._kept.items()):
            first, end = max(start, span.start), min(start + len(kept), span.end)
            if first < end:
                yield ByteRange(first, end), memoryview(kept)[first - start : end - start]
