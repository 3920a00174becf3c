"""Which bytes of an image are used, so that nothing is written where something else is."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from libironic_disk.pure.iso.image import IsoImage
from libironic_disk.pure.iso.volumes import SECTOR
from libironic_disk.units import align_up


class Occupied:
    """The places of all files, directories and tables of an image."""

    def __init__(self, image: IsoImage) -> None:
        spans = sorted(set(_spans(image)))
        self._starts: Final = [start for start, _ in spans]
        self._ends: Final = [end for _, end in spans]
        self._reached: Final = list(accumulate(self._ends, max))

    @property
    def end(self) -> int:
        """The first byte behind all of them."""
        return self._reached[-1] if self._reached else 0

    def has_others(self, start: int, end: int) -> bool:
        """Return whether anything else reaches into the bytes that something has which begins at ``start``."""
        at = bisect_left(self._starts, start)
        if at and self._reached[at - 1] > start:
            return True
        behind = bisect_left(self._starts, start + 1)
        return behind < len(self._starts) and self._starts[behind] < end


def _spans(image: IsoImage) -> Iterator[tuple[int, int]]:
    for tree in image.trees:
        for directory in tree.directories:
            yield _span(tree.offset_of(directory.record), directory.record.size)
        for _, entry in tree.walk():
            for record in entry.records:
                if record.size and entry.inside is None:
                    yield _span(tree.offset_of(record), record.size)
        for volume in tree.volumes:
            for sector in volume.tables:
                if sector:
                    yield _span(tree.origin + sector * SECTOR, volume.table_size)
    for each in image.descriptors:
        yield each.origin, each.end
    if image.catalog is not None:
        yield _span(image.catalog.offset, image.catalog.size)


def _span(offset: int, size: int) -> tuple[int, int]:
    return offset, offset + align_up(size, SECTOR)
