"""Clusters of a qcow2 file that came by before the table that maps them, and the memory of what was there.

While tables are missing, a cluster that nothing known explains may be anything: it is kept, in memory as long as the
budget allows, then outside. Zeros need no keeping. A compressed cluster may end in the midst of a host cluster whose
rest an unknown table maps, so a host cluster is explained only once no byte of it that isn't zero is left over.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntFlag
from typing import Final

from libironic_disk.errors import ImageRefused
from libironic_disk.pure.images.qcow2_events import Spill
from libironic_disk.pure.images.qcow2_map import RangeSet
from libironic_disk.pure.images.qcow2_spillway import Spillway
from libironic_disk.pure.ranges import ByteRange

# What Python itself takes to keep a piece of bytes in a dictionary.
_OVERHEAD: Final = 160
# One byte each. With clusters of 64 KiB that is a file of 2 TiB.
_MOST_CLUSTERS: Final = 1 << 25
# Sixteen bytes each: 8 MiB. A cluster has one at its end, as tools write it.
_MOST_GAPS: Final = 1 << 19


class State(IntFlag):
    """What is known about a cluster that has passed; nothing means that it was all zeros, or is none of the guest's."""

    UNKNOWN = 0
    WHOLE = 1
    """A table, or data of exactly one cluster of the guest."""
    SHARED = 2
    """There are compressed clusters in it."""
    IN_MEMORY = 4
    SPILLED = 8


class Stash:
    """What is kept of the clusters that have passed.

    Args:
        cluster_bits: of the image.
        budget: bytes of memory for clusters, what Python needs to find them again included.
        tail: of the target, behind the guest's disk: where clusters may be kept outside of memory.
        lent: of the guest's disk, at the start of the target: where they may be kept until its own bytes come.
        image: its name in errors.
    """

    def __init__(self, cluster_bits: int, *, budget: int, tail: ByteRange, lent: ByteRange, image: str) -> None:
        self._bits = cluster_bits
        self._size = 1 << cluster_bits
        self._zeros = bytes(self._size)
        self._budget = budget
        self._image = image
        self._states = bytearray()
        self._kept: dict[int, bytes] = {}
        self._covered: dict[int, list[tuple[int, int]]] = {}
        self._gaps = RangeSet()
        self._used = 0
        self._done = 0
        self.complete = False
        """Whether all tables are known, so that nothing can be anything else any more."""
        self.spillway = Spillway(self._size, tail=tail, lent=lent, needed=self._is_awaited, budget=budget, image=image)
        """Where clusters are kept outside of memory."""

    @property
    def used(self) -> int:
        """Bytes of memory taken."""
        return self._used

    @property
    def full(self) -> bool:
        """Whether one more cluster passes the budget."""
        return self._used + self._size + _OVERHEAD > self._budget

    def state(self, cluster: int) -> State:
        """Return what is known about a cluster."""
        return State(self._states[cluster]) if cluster < len(self._states) else State.UNKNOWN

    def mark(self, first: int, count: int, state: State) -> None:
        """Remember what clusters are that pass right now.

        Raises:
            ImageRefused: the file has too many.
        """
        if first + count > _MOST_CLUSTERS:
            raise ImageRefused(image=self._image, reason=f"its tables come after more than {_MOST_CLUSTERS} clusters")
        self._states.extend(bytes(max(0, first - len(self._states))))
        self._states[first:] = bytes([state]) * count

    def is_zero(self, data: bytes) -> bool:
        """Whether a cluster, or a shorter last one, is all zeros."""
        return data == (self._zeros if len(data) == self._size else bytes(len(data)))

    def keep(self, cluster: int, data: bytes) -> None:
        """Keep a cluster in memory; :meth:`overflow` then restores the budget."""
        self._states[cluster] |= State.IN_MEMORY
        self._kept[cluster] = data
        self._used += len(data) + _OVERHEAD

    def keep_rest(self, cluster: int, data: bytes, covered: list[tuple[int, int]]) -> None:
        """Keep a cluster unless all of it outside of ``covered`` is zero; ranges are offsets in the file."""
        covered = _merged(covered)
        if self._is_explained(cluster, data, covered):
            return
        self._covered[cluster] = covered
        self._used += _OVERHEAD * len(covered)
        self.keep(cluster, data)

    def cover(self, start: int, end: int) -> None:
        """Take note that a range of the file is explained, and drop what is explained by that."""
        for cluster in range(start >> self._bits, (end - 1 >> self._bits) + 1):
            if cluster not in self._kept:
                continue
            before = self._covered.get(cluster, [])
            covered = self._covered[cluster] = _merged([*before, (start, end)])
            self._used += _OVERHEAD * (len(covered) - len(before))
            if self._is_explained(cluster, self._kept[cluster], covered):
                self.drop(cluster)

    def claim(self, cluster: int, state: State) -> None:
        """Remember what a cluster is, once a table says it that came later.

        Raises:
            ImageRefused: something else is there.
        """
        found = self.state(cluster)
        if found & State.WHOLE or (found & State.SHARED and state is State.WHOLE):
            reason = f"two of its tables or clusters are at byte {cluster << self._bits}"
            raise ImageRefused(image=self._image, reason=reason)
        if cluster < len(self._states):
            self._states[cluster] |= state

    def in_memory(self, cluster: int) -> bytes | None:
        """Return a cluster that is kept in memory."""
        return self._kept.get(cluster)

    def drop(self, cluster: int) -> None:
        """Forget a cluster's bytes, wherever they are."""
        if cluster >= len(self._states):
            return
        self._states[cluster] &= ~(State.IN_MEMORY | State.SPILLED) & 0xFF
        data = self._kept.pop(cluster, None)
        if data is not None:
            self._used -= len(data) + _OVERHEAD * (1 + len(self._covered.pop(cluster, ())))

    def drop_spilled(self, until: int) -> None:
        """Forget all clusters before this one that aren't in memory."""
        self._done = until

    def was_dropped(self, cluster: int) -> bool:
        """Whether it had compressed clusters in it that explained all of it, and its bytes are gone."""
        return self.state(cluster) & (State.SHARED | State.IN_MEMORY | State.SPILLED) == State.SHARED

    def is_gap(self, start: int, end: int) -> bool:
        """Whether this part of a dropped cluster was zero, and nothing else's."""
        return self._gaps.contains(start, end)

    def overflow(self) -> Iterator[Spill]:
        """Have clusters kept outside of memory, the oldest first, until the rest is within the budget.

        Raises:
            ImageOrderUnsupported: there is no such place for them.
        """
        while self._used > self._budget and self._kept:
            cluster, data = next(iter(self._kept.items()))
            spill = self.spillway.put(cluster, data)
            self.drop(cluster)
            self._states[cluster] |= State.SPILLED
            yield spill

    def spilled_run(self, cluster: int, most: int) -> int:
        """Return how many spilled clusters there are from this one on, up to ``most``."""
        count = 0
        while count < most and self.state(cluster + count) & State.SPILLED:
            count += 1
        return count

    def _is_awaited(self, cluster: int) -> bool:
        """Whether a cluster that is kept outside of memory may still be asked for."""
        state = self.state(cluster)
        known = state & (State.WHOLE | State.SHARED)
        return bool(state & State.SPILLED and (known or not self.complete) and cluster >= self._done)

    def _is_explained(self, cluster: int, data: bytes, covered: list[tuple[int, int]]) -> bool:
        base = position = cluster << self._bits
        gaps = []
        for start, end in [*covered, (base + len(data), base + len(data))]:
            if start > position:
                if data.count(0, position - base, start - base) != start - position:
                    return False
                gaps.append((position, start))
            position = max(position, end)
        for gap in gaps:
            self._gaps.add(*gap)
        if len(self._gaps) > _MOST_GAPS:
            reason = f"before its tables come there are more than {_MOST_GAPS} gaps between its compressed clusters"
            raise ImageRefused(image=self._image, reason=reason)
        return True


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the same in order, and as one what touches."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
