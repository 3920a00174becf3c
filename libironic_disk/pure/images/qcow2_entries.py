"""The entries of L1 and L2 tables: what each maps, and what makes an image one that isn't read.

Source: QEMU, docs/interop/qcow2.rst, sections "Cluster mapping" and "Extended L2 Entries".
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Generator, Iterator
from typing import Final, NamedTuple

from libironic_disk.errors import ImageRefused
from libironic_disk.pure.images.qcow2 import Header
from libironic_disk.pure.images.qcow2_map import Extent, Kind, compressed_length

SUBCLUSTERS: Final = 32
"""How many parts a cluster has whose L2 entry is an extended one."""

_OFFSET: Final = 0x00FF_FFFF_FFFF_FE00
_COPIED: Final = 1 << 63
_COMPRESSED: Final = 1 << 62
_ZERO: Final = 1
_RESERVED: Final = 0x3F00_0000_0000_01FE
_ALL: Final = (1 << SUBCLUSTERS) - 1


class Hole(NamedTuple):
    """A range of the guest's disk that nothing is stored for: it reads as zeros."""

    guest: int
    length: int


def bit_runs(bitmap: int) -> Iterator[tuple[int, int]]:
    """Give each run of set bits: its lowest bit and how many they are."""
    start = 0
    while bitmap:
        gap = (bitmap & -bitmap).bit_length() - 1
        start, bitmap = start + gap, bitmap >> gap
        length = (~bitmap & bitmap + 1).bit_length() - 1
        yield start, length
        start, bitmap = start + length, bitmap >> length


class TableReader:
    """Reads tables of the image that ``header`` is of; ``image`` names it in errors."""

    def __init__(self, header: Header, *, image: str) -> None:
        self._header = header
        self._image = image
        self._l2_reserved = _RESERVED | (header.version == 2 or header.extended_l2)

    def l1(self, table: bytes | memoryview, guest: int) -> Iterator[Extent | Hole]:
        """Read a part of the L1 table, in the guest's order.

        Args:
            table: whole entries.
            guest: what the first of them maps.

        Raises:
            ImageRefused: an entry is impossible.
        """
        covers, end = self._header.l2_covers, self._header.virtual_size
        hole = guest
        for entry in _words(table):
            if entry & ~(_OFFSET | _COPIED):
                raise self._refused(f"reserved bits are set in its L1 entry {entry:#018x}")
            offset = entry & _OFFSET
            if offset:
                self._check_aligned("an L2 table", offset)
                if hole < guest:
                    yield Hole(hole, guest - hole)
                hole = guest + covers
                yield Extent(offset, guest, Kind.L2_TABLE, 1)
            guest += covers
        if hole < min(guest, end):
            yield Hole(hole, min(guest, end) - hole)

    def l2(self, table: bytes | memoryview, guest: int) -> Iterator[Extent | Hole]:
        """Read an L2 table, in the guest's order; the part of it that maps bytes behind the disk's end is passed over.

        Args:
            table: one cluster.
            guest: what its first entry maps.

        Raises:
            ImageRefused: an entry is impossible.
        """
        end = min(guest + self._header.l2_covers, self._header.virtual_size)
        hole = guest
        for extent in self._joined(self._entries(_words(table), guest, end)):
            if hole < extent.guest and extent.kind is not Kind.RESERVED:
                yield Hole(hole, extent.guest - hole)
            if extent.kind is Kind.PARTIAL:
                hole = yield from self._within(extent, end)
            elif extent.kind is not Kind.RESERVED:
                hole = extent.guest + self._header.cluster_size * (extent.detail if extent.kind is Kind.DATA else 1)
            yield extent
        if hole < end:
            yield Hole(hole, end - hole)

    def _entries(self, words: array[int], guest: int, end: int) -> Iterator[Extent]:
        cluster = self._header.cluster_size
        count = -(-(end - guest) // cluster)
        if self._header.extended_l2:
            for at in range(0, 2 * count, 2):
                if words[at] or words[at + 1]:
                    yield from self._entry(words[at], words[at + 1], guest + at // 2 * cluster)
            return
        for index, word in enumerate(words[:count]):
            if word:
                yield from self._entry(word, _ALL, guest + index * cluster)

    def _entry(self, word: int, bitmap: int, guest: int) -> Iterator[Extent]:
        if word & _COMPRESSED:
            yield self._compressed(word, guest)
            return
        if word & self._l2_reserved:
            raise self._refused(f"reserved bits are set in its L2 entry {word:#018x}")
        offset = word & _OFFSET
        allocated = bitmap & _ALL
        if self._header.extended_l2:
            if allocated & bitmap >> SUBCLUSTERS:
                raise self._refused(f"subclusters are both allocated and zero in its L2 bitmap {bitmap:#018x}")
            if allocated and not offset:
                raise self._refused(f"subclusters without a place in its L2 bitmap {bitmap:#018x}")
        if not offset:
            return
        self._check_aligned("a data cluster", offset)
        if word & _ZERO or not allocated:
            yield Extent(offset, guest, Kind.RESERVED, 1)
        elif allocated == _ALL:
            yield Extent(offset, guest, Kind.DATA, 1)
        else:
            yield Extent(offset, guest, Kind.PARTIAL, allocated)

    def _compressed(self, word: int, guest: int) -> Extent:
        sectors_at = 62 - (self._header.cluster_bits - 8)
        offset = word & (1 << sectors_at) - 1
        sectors = (word & _COMPRESSED - 1) >> sectors_at
        return Extent(offset, guest, Kind.COMPRESSED, compressed_length(offset, sectors))

    def _joined(self, extents: Iterator[Extent]) -> Iterator[Extent]:
        """Join clusters that follow each other on both sides."""
        cluster = self._header.cluster_size
        last: Extent | None = None
        for extent in extents:
            if last is None:
                last = extent
                continue
            length = last.detail * cluster
            if (
                extent.kind is last.kind
                and extent.kind in (Kind.DATA, Kind.RESERVED)
                and extent.start == last.start + length
                and extent.guest == last.guest + length
            ):
                last = last._replace(detail=last.detail + 1)
            else:
                yield last
                last = extent
        if last is not None:
            yield last

    def _within(self, extent: Extent, end: int) -> Generator[Hole, None, int]:
        """Give the holes of a cluster that has data in some subclusters; return where the last of these ends."""
        subcluster = self._header.cluster_size // SUBCLUSTERS
        hole = extent.guest
        for first, count in bit_runs(extent.detail):
            start = min(extent.guest + first * subcluster, end)
            if hole < start:
                yield Hole(hole, start - hole)
            hole = extent.guest + (first + count) * subcluster
        return hole

    def _check_aligned(self, what: str, offset: int) -> None:
        if offset & (self._header.cluster_size - 1):
            raise self._refused(f"{what} is at byte {offset}, not at the start of a cluster")

    def _refused(self, reason: str) -> ImageRefused:
        return ImageRefused(image=self._image, reason=reason)


def _words(table: bytes | memoryview) -> array[int]:
    words = array("Q", bytes(table))
    if sys.byteorder == "little":
        words.byteswap()
    return words
