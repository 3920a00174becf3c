"""Where clusters wait on the target that came before their table and have no room in memory.

Behind the guest's disk, as long as there is room, each at the place that it has in the file. What has none there waits
on the guest's disk itself, in clusters lent to it from the top until their own bytes come; what waits there then moves.
As long as tables are missing, a cluster of no use takes as much room as one that is asked for later, so this may not
suffice.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterator
from typing import Final

from libironic_disk.errors import ImageOrderUnsupported
from libironic_disk.pure.images.qcow2_events import Compressed, Raw, Recall, Spill, Zeros
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.units import MIB, align_up

_WORD: Final = array("I").itemsize
# A word each: 4 MiB, and with clusters of 64 KiB they lend 64 GiB. Of what may be lent, the top: that is seldom written
# first.
_MOST_LENT: Final = 1 << 20
# A word for each cluster of the file, up to the last one that borrows: 16 MiB.
_MOST_PLACES: Final = 1 << 22
# When all tables are known, what waits fits into what its own bytes haven't come for, but for the parts of the guest's
# disk that are never lent. So much of it waits in memory then.
_MOST_HELD: Final = 4 * MIB
# Each pass looks at all that may be lent. An image made to need more of them is refused, rather than served for days.
_MOST_PASSES: Final = 64

# What a cluster that may be lent is: free, its own, or by this much more the cluster of the file that waits there.
_FREE: Final = 0
_SETTLED: Final = 1
_OWNED: Final = 2


class Spillway:
    """What waits outside of memory.

    Args:
        cluster_size: of the image.
        tail: of the target, behind the guest's disk.
        lent: of the guest's disk, which is where the target begins.
        needed: whether a cluster that waits may still be asked for.
        budget: bytes of memory that weren't enough, for errors.
        image: its name in errors.
    """

    def __init__(
        self,
        cluster_size: int,
        *,
        tail: ByteRange,
        lent: ByteRange,
        needed: Callable[[int], bool],
        budget: int,
        image: str,
    ) -> None:
        self._size = cluster_size
        self._tail_start = tail.start
        self._tail_count = max(0, tail.size) // cluster_size
        self._needed = needed
        self._budget = budget
        self._image = image
        start = align_up(lent.start, cluster_size)
        count = max(0, lent.end - start) // cluster_size
        self._owners = array("I", bytes(_WORD * min(count, _MOST_LENT)))
        self._start = start + (count - len(self._owners)) * cluster_size
        self._places = array("I")
        self._next = len(self._owners) - 1
        self._passes = 0
        self._held: dict[int, bytes] = {}
        self._answer: bytes | None = None

    @property
    def lends(self) -> bool:
        """Whether anything may wait where the guest's own bytes are written."""
        return len(self._owners) > 0

    def answer(self, data: bytes) -> None:
        """Take what the last :class:`Recall` asked for."""
        self._answer = data

    def put(self, cluster: int, data: bytes) -> Spill:
        """Let a cluster of the file wait.

        Raises:
            ImageOrderUnsupported: there is no room for it.
        """
        if cluster < self._tail_count:
            return Spill(place=self._tail_start + cluster * self._size, data=data)
        slot = self._borrowed(cluster)
        if slot is None:
            raise self._no_room(cluster)
        return Spill(place=self._start + slot * self._size, data=data)

    def fetch(self, cluster: int, *, waiting: int, most: int) -> Generator[Recall, None, bytes]:
        """Return a cluster that waits, perhaps with some that follow it.

        Args:
            cluster: the first one.
            waiting: how many of those that wait from there on may be read at once.
            most: bytes that the file has from there on.

        Raises:
            ValueError: the driver didn't hand it in.
        """
        if cluster in self._held:
            return self._held[cluster][:most]
        if cluster >= self._tail_count:
            place, count = self._start + self._places[cluster] * self._size, 1
        else:
            place = self._tail_start + cluster * self._size
            count = min(waiting, self._tail_count - cluster)
        return (yield from self._recall(place, min(most, count * self._size)))

    def making_way(self, event: Raw | Compressed | Zeros) -> Iterator[Recall | Spill]:
        """Move what waits where the guest's own bytes are about to be written.

        Raises:
            ImageOrderUnsupported: there is no other place for it.
            ValueError: the driver didn't hand it in.
        """
        length = len(event.data) if isinstance(event, Raw) else event.length
        first = max(0, (event.guest_offset - self._start) // self._size)
        end = min(len(self._owners), -(-(event.guest_offset + length - self._start) // self._size))
        if first >= end:
            return
        owners = [owner - _OWNED for owner in self._owners[first:end] if owner >= _OWNED]
        self._owners[first:end] = array("I", [_SETTLED]) * (end - first)
        for cluster in filter(self._needed, owners):
            yield from self._move(cluster)

    def _move(self, cluster: int) -> Iterator[Recall | Spill]:
        data = yield from self._recall(self._start + self._places[cluster] * self._size, self._size)
        slot = self._borrowed(cluster)
        if slot is not None:
            yield Spill(place=self._start + slot * self._size, data=data)
            return
        self._held = {each: kept for each, kept in self._held.items() if self._needed(each)}
        self._held[cluster] = data
        if len(self._held) * self._size > _MOST_HELD:
            raise self._no_room(cluster)

    def _borrowed(self, cluster: int) -> int | None:
        """Lend a cluster of the guest's disk; None if none is left."""
        slot = self._free_slot() if cluster < _MOST_PLACES else None
        if slot is not None:
            self._owners[slot] = cluster + _OWNED
            self._places.frombytes(bytes(_WORD * max(0, cluster + 1 - len(self._places))))
            self._places[cluster] = slot
        return slot

    def _free_slot(self) -> int | None:
        slot = self._further_down()
        if slot is None and self._passes < _MOST_PASSES:
            self._passes += 1
            self._next = len(self._owners) - 1
            slot = self._further_down()
        return slot

    def _further_down(self) -> int | None:
        while self._next >= 0:
            slot, self._next = self._next, self._next - 1
            owner = self._owners[slot]
            if owner == _FREE or (owner >= _OWNED and not self._needed(owner - _OWNED)):
                return slot
        return None

    def _recall(self, place: int, length: int) -> Generator[Recall, None, bytes]:
        self._answer = None
        yield Recall(place=place, length=length)
        answer, self._answer = self._answer, None
        if answer is None or len(answer) != length:
            raise ValueError(f"{length} bytes recalled from {place} were not given")
        return answer

    def _no_room(self, cluster: int) -> ImageOrderUnsupported:
        return ImageOrderUnsupported(image=self._image, budget=self._budget, offset=cluster * self._size)
