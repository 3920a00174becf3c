"""Which guest cluster a place in a qcow2 file belongs to: the image's tables turned around, in file order.

An image's tables say where the guest's clusters are. Whoever reads the file from front to end asks the opposite. What
a forward reader has passed is forgotten at once, so that the map holds what is still to come.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from enum import IntEnum
from typing import Final, NamedTuple

from libironic_disk.errors import ImageRefused
from libironic_disk.units import align_up

_SECTOR: Final = 512
_DETAIL_BITS: Final = 32
# 24 bytes each, 48 MiB together, and as much again while rows are merged. These are fragments, not clusters, and only
# those still to come: a file of 128 GiB has so many if no two of its clusters of 64 KiB follow each other and all of
# its tables come first.
_MOST_EXTENTS: Final = 1 << 21


class Kind(IntEnum):
    """What is at a place in the file, and what ``Extent.detail`` means there."""

    DATA = 0
    """Clusters that follow each other in the file and in the guest; their number."""
    PARTIAL = 1
    """A cluster of which some subclusters are data; a bitmap of these."""
    COMPRESSED = 2
    """A compressed cluster; its length, up to the end of a sector."""
    RESERVED = 3
    """Clusters that nobody reads: the file's own bookkeeping, or such as read as zeros; their number."""
    L1_TABLE = 4
    """The L1 table; how many clusters it takes."""
    L2_TABLE = 5
    """An L2 table, ``Extent.guest`` the first byte that it maps."""


class Extent(NamedTuple):
    """What begins at byte ``start`` of the file, and at byte ``guest`` of the disk if it has a place there."""

    start: int
    guest: int
    kind: Kind
    detail: int

    def end(self, cluster_size: int) -> int:
        """Return the first byte behind it; behind the file, perhaps, for a compressed cluster in the last sector."""
        if self.kind is Kind.COMPRESSED:
            return self.start + self.detail
        if self.kind in (Kind.PARTIAL, Kind.L2_TABLE):
            return self.start + cluster_size
        return self.start + self.detail * cluster_size


def compressed_length(offset: int, sectors: int) -> int:
    """Return how long a compressed cluster at ``offset`` is that goes on for ``sectors`` behind its first one."""
    return align_up(offset + 1, _SECTOR) + sectors * _SECTOR - offset


_KINDS: Final = tuple(Kind)


class ExtentMap:
    """Extents, given back in the order of the file.

    They are kept in few sorted arrays of different lengths, which are merged when a new one is as long as the shortest.
    """

    def __init__(self, image: str) -> None:
        self._image = image
        self._rows: list[_Row] = []
        self._new = _Row()
        self._first: Extent | None = None
        self._first_row: _Row | None = None
        self._room = _MOST_EXTENTS

    def __len__(self) -> int:
        return sum(len(row) for row in self._rows) + len(self._new)

    def add(self, extent: Extent) -> None:
        """Put an extent in.

        Raises:
            ImageRefused: there are more than memory is reserved for.
        """
        self._new.append(extent)
        self._first_row = None
        if len(self._new) >= self._room:
            reason = f"its tables map more than {_MOST_EXTENTS} fragments that are still to come"
            raise ImageRefused(image=self._image, reason=reason)

    @property
    def is_roomy(self) -> bool:
        """Whether there is room for many more."""
        return 8 * len(self) < _MOST_EXTENTS

    @property
    def is_crowded(self) -> bool:
        """Whether no more should be put in than must be."""
        return 2 * len(self) >= _MOST_EXTENTS

    def first(self) -> Extent | None:
        """Return the extent that starts first; None if there is none."""
        if self._first_row is None:
            self._take_in()
            self._first_row = min((row for row in self._rows if len(row)), key=_Row.start, default=None)
            self._first = self._first_row.first() if self._first_row else None
        return self._first

    def pop(self) -> Extent:
        """Take that extent out."""
        extent = self.first()
        if extent is None or self._first_row is None:
            raise IndexError("the map is empty")
        self._first_row.drop_first()
        # With one row, as is usual, the next extent is at hand.
        if len(self._rows) == 1 and len(self._first_row):
            self._first = self._first_row.first()
        else:
            self._first_row = None
        return extent

    def shorten(self, clusters: int, cluster_size: int) -> None:
        """Take the first clusters of the first extent out, which is a row of them, and more than these."""
        extent = self.first()
        if extent is None or self._first_row is None:
            raise IndexError("the map is empty")
        length = clusters * cluster_size
        rest = Extent(extent.start + length, extent.guest + length, extent.kind, extent.detail - clusters)
        # Its place in the order stays: nothing else may start within it.
        self._first_row.replace_first(rest)
        self._first = rest

    def places(self, kind: Kind) -> tuple[array[int], array[int]]:
        """Return where extents of one kind start in the file, in its order, and where each is in the guest."""
        self._take_in()
        self._first_row = None
        while len(self._rows) > 1:
            last = self._rows.pop()
            self._rows[-1] = self._rows[-1].merged(last)
        return self._rows[0].places(kind) if self._rows else (array("Q"), array("Q"))

    def _take_in(self) -> None:
        self._rows = [row for row in self._rows if len(row)]
        if len(self._new):
            self._rows.append(self._new.in_order())
            self._new = _Row()
            self._room = _MOST_EXTENTS - len(self)
        while len(self._rows) > 1 and 2 * len(self._rows[-1]) > len(self._rows[-2]):
            last = self._rows.pop()
            self._rows[-1] = self._rows[-1].merged(last)


class _Row:
    __slots__ = ("_at", "_details", "_guests", "_starts")

    def __init__(self) -> None:
        self._starts = array("Q")
        self._guests = array("Q")
        self._details = array("Q")
        self._at = 0

    def __len__(self) -> int:
        return len(self._starts) - self._at

    def append(self, extent: Extent) -> None:
        self._starts.append(extent.start)
        self._guests.append(extent.guest)
        self._details.append(extent.kind << _DETAIL_BITS | extent.detail)

    def start(self) -> int:
        return self._starts[self._at]

    def first(self) -> Extent:
        detail = self._details[self._at]
        kind = _KINDS[detail >> _DETAIL_BITS]
        return Extent(self._starts[self._at], self._guests[self._at], kind, detail & (1 << _DETAIL_BITS) - 1)

    def drop_first(self) -> None:
        self._at += 1
        if self._at >= 4096 and 2 * self._at > len(self._starts):
            for words in (self._starts, self._guests, self._details):
                del words[: self._at]
            self._at = 0

    def replace_first(self, extent: Extent) -> None:
        self._starts[self._at] = extent.start
        self._guests[self._at] = extent.guest
        self._details[self._at] = extent.kind << _DETAIL_BITS | extent.detail

    def places(self, kind: Kind) -> tuple[array[int], array[int]]:
        chosen = [at for at in range(self._at, len(self._starts)) if self._details[at] >> _DETAIL_BITS == kind]
        return (
            array("Q", map(self._starts.__getitem__, chosen)),
            array("Q", map(self._guests.__getitem__, chosen)),
        )

    def in_order(self) -> _Row:
        starts = self._starts
        if all(starts[place - 1] <= starts[place] for place in range(1, len(starts))):
            return self
        order = sorted(range(len(starts)), key=starts.__getitem__)
        row = _Row()
        row._starts.extend(map(starts.__getitem__, order))
        row._guests.extend(map(self._guests.__getitem__, order))
        row._details.extend(map(self._details.__getitem__, order))
        return row

    def merged(self, other: _Row) -> _Row:
        """Return the union. Tables lie in the file in long stretches, so whole stretches are copied."""
        row, here, there = _Row(), self, other
        while len(here) and len(there):
            if there.start() < here.start():
                here, there = there, here
            row._move(here, bisect_right(here._starts, there.start(), here._at))
        row._move(here, len(here._starts))
        row._move(there, len(there._starts))
        return row

    def _move(self, other: _Row, until: int) -> None:
        self._starts.extend(other._starts[other._at : until])
        self._guests.extend(other._guests[other._at : until])
        self._details.extend(other._details[other._at : until])
        other._at = until


class RangeSet:
    """Ranges of the file that don't overlap: added nearly in order, looked up seldom."""

    def __init__(self) -> None:
        self._starts = array("Q")
        self._ends = array("Q")

    def add(self, start: int, end: int) -> None:
        """Put a range in that none in there overlaps."""
        place = bisect_left(self._starts, start)
        self._starts.insert(place, start)
        self._ends.insert(place, end)

    def __len__(self) -> int:
        return len(self._starts)

    def contains(self, start: int, end: int) -> bool:
        """Whether one of the ranges has all of this one in it; an empty one is in all sets."""
        place = bisect_right(self._starts, start) - 1
        return start >= end or (place >= 0 and self._ends[place] >= end)
