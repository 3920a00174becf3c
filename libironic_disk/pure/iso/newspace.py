"""The room that an image grows by, as it is filled."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from libironic_disk.pure.iso.volumes import SECTOR
from libironic_disk.pure.ropes import Rope, Zeros
from libironic_disk.units import align_up


class NewSpace:
    """Room without an end yet; where it begins is asked for when something new needs a place."""

    def __init__(self, find_start: Callable[[], int]) -> None:
        self._find_start = find_start
        self.size = 0
        self._contents: dict[int, Rope] = {}
        self._numbers = 0

    @cached_property
    def start(self) -> int:
        """The offset in the old image."""
        return self._find_start()

    def take(self, size: int) -> int:
        """Return where so many bytes go, in sectors of their own."""
        offset = self.start + self.size
        self.size += align_up(size, SECTOR)
        return offset

    def put(self, offset: int, content: Rope) -> None:
        """Put something where room was taken for it."""
        self._contents[offset] = content

    def number(self) -> int:
        """Return a number that nothing else in here has."""
        self._numbers += 1
        return self._numbers

    def rope(self, size: int) -> Rope:
        """Return all of it, filled up with zeros to a size."""
        pieces: list[Rope | Zeros] = []
        at = self.start
        for offset in sorted(self._contents):
            pieces.append(Zeros(offset - at))
            pieces.append(self._contents[offset])
            at = offset + self._contents[offset].size
        return Rope.of(*pieces, Zeros(self.start + size - at))
