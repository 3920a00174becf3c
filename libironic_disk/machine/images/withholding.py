"""A target of which some ranges are kept in memory instead, for whoever decides whether they are ever written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from libironic_disk.machine.images.target import Writable
from libironic_disk.pure.ranges import ByteRange, merged
from libironic_disk.pure.tables.model import Extent


class Withheld:
    """A :class:`~libironic_disk.machine.images.target.Writable` around another one.

    What is written within ``ranges`` stays in memory, which is zeros at first; everything else passes through.
    """

    def __init__(self, target: Writable, ranges: Sequence[ByteRange]) -> None:
        self._target = target
        self._kept = tuple((span, bytearray(span.size)) for span in merged(ranges))

    @property
    def name(self) -> str:
        """What the target is called in errors."""
        return self._target.name

    @property
    def capacity(self) -> int:
        """Bytes from the target's start that may be written."""
        return self._target.capacity

    def write(self, offset: int, data: memoryview) -> None:
        """Keep what belongs into the withheld ranges and write the rest.

        Raises:
            DeviceFailed: the target couldn't.
        """
        for span, memory in self._parts(offset, len(data)):
            with data[span.start - offset : span.end - offset] as part:
                if memory is None:
                    self._target.write(span.start, part)
                else:
                    memory[:] = part

    def zero(self, offset: int, length: int) -> None:
        """Make a range zeros, on the target or in memory.

        Raises:
            DeviceFailed: the target couldn't.
        """
        for span, memory in self._parts(offset, length):
            if memory is None:
                self._target.zero(span.start, span.size)
            else:
                memory[:] = bytes(span.size)

    def flush(self) -> None:
        """Wait until the device has everything that isn't withheld.

        Raises:
            DeviceFailed: a write that had seemed to succeed was lost.
        """
        self._target.flush()

    def scratch(self, offset: int, data: memoryview) -> None:
        """Write what will be overwritten; it may not touch the withheld ranges.

        Raises:
            ValueError: it would.
            DeviceFailed: the target couldn't.
        """
        self._check_beside(offset, len(data))
        self._target.scratch(offset, data)

    def recall(self, offset: int, length: int) -> bytes:
        """Return bytes that were kept by :meth:`scratch`.

        Raises:
            ValueError: they would be in a withheld range.
            DeviceFailed: the target couldn't be read.
        """
        self._check_beside(offset, length)
        return self._target.recall(offset, length)

    def extents(self) -> tuple[Extent, ...]:
        """Return what was withheld, in the order of the disk, for whoever writes it."""
        return tuple(Extent(span.start, bytes(memory)) for span, memory in self._kept)

    def _parts(self, offset: int, length: int) -> Iterator[tuple[ByteRange, memoryview | None]]:
        """Cut a range where a withheld one begins or ends; its memory comes with each withheld part."""
        at, end = offset, offset + length
        for span, memory in self._kept:
            inside = ByteRange(max(span.start, at), min(span.end, end))
            if inside.size <= 0:
                continue
            if at < inside.start:
                yield ByteRange(at, inside.start), None
            yield inside, memoryview(memory)[inside.start - span.start : inside.end - span.start]
            at = inside.end
        if at < end:
            yield ByteRange(at, end), None

    def _check_beside(self, offset: int, length: int) -> None:
        if any(memory is not None for _, memory in self._parts(offset, length)):
            raise ValueError(f"the bytes from {offset} to {offset + length} are withheld in part")
