"""Tables of a qcow2 image that are read before they come by, and the proof that they were the same then."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from typing import Final

from libironic_disk.pure.images.qcow2_data import truncated
from libironic_disk.pure.images.qcow2_events import Event, MetadataAccess, WantMetadata
from libironic_disk.units import MIB

_AT_ONCE: Final = 4 * MIB
# Each is a request to a server. To keep the clusters that wait, and read them again later, is faster then.
_MOST_REQUESTS: Final = 2000


class Proof:
    """Whether bytes that were read ahead, in the order of the file, are the ones that come by."""

    def __init__(self) -> None:
        self._ahead = hashlib.blake2b()
        self._passing = hashlib.blake2b()

    def read_ahead(self, data: bytes) -> None:
        """Take what was read ahead."""
        self._ahead.update(data)

    def passes(self, data: memoryview) -> None:
        """Take what comes by."""
        self._passing.update(data)

    @property
    def holds(self) -> bool:
        """Whether both are the same so far."""
        return self._ahead.digest() == self._passing.digest()


class ReadAhead:
    """What is asked of a source that can be read in another order than its own."""

    def __init__(self, access: MetadataAccess) -> None:
        self._eager = access is MetadataAccess.EAGER
        self._given: list[tuple[int, bytes]] = []
        self.possible = access is not MetadataAccess.NEVER
        """Whether there may be tables to read ahead."""
        self.l1 = Proof()
        self.l2 = Proof()

    @property
    def eager(self) -> bool:
        """Whether the tables should be read right now."""
        return self._eager and self.possible

    @property
    def came_by_alike(self) -> bool:
        """Whether all tables that were read ahead came by later, as they were."""
        return self.l1.holds and self.l2.holds

    def give(self, offset: int, data: bytes) -> None:
        """Take an answer."""
        self._given.append((offset, data))

    def is_worth_it(self, starts: Sequence[int]) -> bool:
        """Whether tables at these places are near enough to each other."""
        return self._eager or len(starts) <= _MOST_REQUESTS

    def requests(self, starts: Sequence[int], length: int) -> Iterator[tuple[tuple[int, int], ...]]:
        """Give ranges for pieces of one length, joined where they follow each other, few megabytes at a time."""
        ranges: list[tuple[int, int]] = []
        total = 0
        for start in starts:
            for at in range(0, length, _AT_ONCE):
                piece = min(_AT_ONCE, length - at)
                if total + piece > _AT_ONCE:
                    yield tuple(ranges)
                    ranges, total = [], 0
                total += piece
                if ranges and sum(ranges[-1]) == start + at:
                    ranges[-1] = (ranges[-1][0], ranges[-1][1] + piece)
                else:
                    ranges.append((start + at, piece))
        if ranges:
            yield tuple(ranges)

    def ask(self, ranges: tuple[tuple[int, int], ...], image: str) -> Generator[Event, None, list[bytes]]:
        """Ask for ranges and return their bytes.

        Raises:
            ImageDamaged: the source has less than that.
        """
        self._given = []
        yield WantMetadata(ranges=ranges)
        given, self._given = self._given, []
        if [offset for offset, _ in given] != [offset for offset, _ in ranges]:
            raise ValueError("metadata was asked for and not given")
        for (offset, length), (_, data) in zip(ranges, given, strict=True):
            if len(data) != length:
                raise truncated(image, "a table", offset + length, offset + len(data))
        return [data for _, data in given]
