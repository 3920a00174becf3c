"""What a qcow2 table maps that came by before the table did."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import groupby
from typing import Final

from libironic_disk.errors import ImageRefused
from libironic_disk.pure.images.qcow2 import Header
from libironic_disk.pure.images.qcow2_data import compressed_of, data_of, truncated, zeros_of
from libironic_disk.pure.images.qcow2_events import Event, Raw
from libironic_disk.pure.images.qcow2_inflate import measure
from libironic_disk.pure.images.qcow2_map import Extent, ExtentMap, Kind
from libironic_disk.pure.images.qcow2_stash import Stash, State
from libironic_disk.units import MIB

_RECALLED_AT_ONCE: Final = MIB


class Late:
    """Finds what has passed again: in memory, outside of it, or known to be zeros.

    What isn't in memory is put off until :meth:`finish`, when it is read in the order in which it was written.
    """

    def __init__(self, header: Header, stash: Stash, *, image: str) -> None:
        self._header = header
        self._stash = stash
        self._image = image
        self._bits = header.cluster_bits
        self._straddling = ExtentMap(image)
        self._put_off = ExtentMap(image)
        self._recalled: tuple[int, bytes] = (0, b"")
        self._file_size: int | None = None
        self.needed_until = 0
        """Up to which byte the file must be kept, as compressed clusters end there that began before their table."""

    def table(self, extent: Extent) -> Generator[Event, None, bytes]:
        """Return a table."""
        cluster = extent.start >> self._bits
        self._stash.claim(cluster, State.WHOLE)
        data = yield from self._cluster(cluster)
        self._stash.drop(cluster)
        return data

    def resolve(self, extent: Extent, position: int) -> Iterator[Event]:
        """Give what a table maps before ``position``, where the reader is; of a compressed cluster, the start.

        Raises:
            ImageRefused: something else is there.
            ImageDamaged: the file has less than that, or it can't be unpacked.
            ImageOrderUnsupported: what has to be kept has no room.
        """
        if extent.kind is not Kind.COMPRESSED:
            first = extent.start >> self._bits
            for cluster in range(first, extent.end(self._header.cluster_size) >> self._bits):
                self._stash.claim(cluster, State.WHOLE)
                if extent.kind is Kind.RESERVED:
                    self._stash.drop(cluster)
            if extent.kind is not Kind.RESERVED:
                yield from self._data(extent)
            return
        end = extent.start + extent.detail
        for cluster in range(extent.start >> self._bits, (min(end, position) - 1 >> self._bits) + 1):
            self._stash.claim(cluster, State.SHARED)
        if end > position:
            self._straddling.add(extent)
            self.needed_until = max(self.needed_until, end)
        else:
            yield from self._compressed(extent)

    def passed(self, position: int) -> Iterator[Event]:
        """Give what ``position`` completes."""
        if not self.needed_until or position < self.needed_until:
            return
        self.needed_until = 0
        while self._straddling.first() is not None:
            yield from self._compressed(self._straddling.pop())

    def finish(self, file_size: int) -> Iterator[Event]:
        """Give all that was put off.

        Raises:
            ImageRefused: compressed clusters overlap.
            ImageDamaged: the file ended too early, or what is in it can't be unpacked.
        """
        self._file_size = file_size
        if (last := self._straddling.first()) is not None:
            raise truncated(self._image, "a compressed cluster", last.start + last.detail, file_size)
        while self._put_off.first() is not None:
            extent = self._put_off.pop()
            self._stash.drop_spilled(extent.start >> self._bits)
            if extent.kind is Kind.COMPRESSED:
                yield from self._unpacked(extent, (yield from self._payload(extent)))
            else:
                yield from self._recalled_data(extent)

    def _data(self, extent: Extent) -> Iterator[Event]:
        size = self._header.cluster_size
        if extent.kind is Kind.PARTIAL:
            yield from self._alike(extent, self._place(extent.start >> self._bits))
            return
        first = extent.start >> self._bits
        for place, group in groupby(range(first, first + extent.detail), self._place):
            clusters = list(group)
            offset = (clusters[0] - first) * size
            run = Extent(extent.start + offset, extent.guest + offset, extent.kind, len(clusters))
            yield from self._alike(run, place)

    def _place(self, cluster: int) -> State:
        return self._stash.state(cluster) & (State.IN_MEMORY | State.SPILLED)

    def _alike(self, extent: Extent, place: State) -> Iterator[Event]:
        """Give data whose clusters are all at the same kind of place."""
        size, first = self._header.cluster_size, extent.start >> self._bits
        if place is State.SPILLED:
            self._put_off.add(extent)
        elif not place:
            yield from zeros_of(extent, self._header)
        else:
            for cluster in range(first, extent.end(size) >> self._bits):
                data = self._stash.in_memory(cluster) or b""
                self._stash.drop(cluster)
                offset = (cluster - first) * size
                one = Extent(extent.start + offset, extent.guest + offset, extent.kind, self._one(extent))
                yield from data_of(one, memoryview(data), self._header, self._image)

    def _recalled_data(self, extent: Extent) -> Iterator[Event]:
        size = self._header.cluster_size
        for start in range(extent.start, extent.end(size), size):
            offset = start - extent.start
            data = yield from self._cluster(start >> self._bits)
            self._stash.drop(start >> self._bits)
            one = Extent(start, extent.guest + offset, extent.kind, self._one(extent))
            yield from data_of(one, memoryview(data), self._header, self._image)

    def _one(self, extent: Extent) -> int:
        return extent.detail if extent.kind is Kind.PARTIAL else 1

    def _compressed(self, extent: Extent) -> Iterator[Event]:
        clusters = range(extent.start >> self._bits, (extent.start + extent.detail - 1 >> self._bits) + 1)
        if any(self._place(cluster) is State.SPILLED for cluster in clusters):
            self._put_off.add(extent)
        else:
            yield from self._unpacked(extent, (yield from self._payload(extent)))

    def _unpacked(self, extent: Extent, payload: bytes) -> Iterator[Event]:
        """Give a compressed cluster: unpacked, where its real end must be known."""
        end = extent.start + extent.detail
        clusters = range(extent.start >> self._bits, (end - 1 >> self._bits) + 1)
        dropped = [cluster for cluster in clusters if self._stash.was_dropped(cluster)]
        packed = compressed_of(extent, memoryview(payload), self._header)
        if self._stash.complete and not dropped:
            yield packed
            return
        data, taken = measure(packed, image=self._image)
        for cluster in dropped:
            start = max(extent.start, cluster << self._bits)
            if not self._stash.is_gap(start, min(extent.start + taken, cluster + 1 << self._bits)):
                reason = f"compressed clusters overlap at byte {start}"
                raise ImageRefused(image=self._image, reason=reason)
        if not self._stash.complete:
            self._stash.cover(extent.start, extent.start + taken)
        yield Raw(guest_offset=extent.guest, data=memoryview(data))
        # What is explained of a cluster takes memory too, and a table explains as much as its author likes.
        yield from self._stash.overflow()

    def _payload(self, extent: Extent) -> Generator[Event, None, bytes]:
        size = self._header.cluster_size
        end = extent.start + extent.detail
        pieces = []
        for cluster in range(extent.start >> self._bits, (end - 1 >> self._bits) + 1):
            data = yield from self._cluster(cluster)
            base = cluster * size
            pieces.append(data[max(0, extent.start - base) : end - base])
        return b"".join(pieces)

    def _cluster(self, cluster: int) -> Generator[Event, None, bytes]:
        kept = self._stash.in_memory(cluster)
        if kept is not None:
            return kept
        size = self._header.cluster_size
        if not self._stash.state(cluster) & State.SPILLED:
            return bytes(size)
        first, data = self._recalled
        if not first <= cluster < first + -(-len(data) // size):
            first, data = cluster, (yield from self._recall(cluster))
            self._recalled = first, data
        offset = (cluster - first) * size
        return data[offset : offset + size]

    def _recall(self, cluster: int) -> Generator[Event, None, bytes]:
        waiting = self._stash.spilled_run(cluster, max(1, _RECALLED_AT_ONCE // self._header.cluster_size))
        most = (waiting << self._bits) if self._file_size is None else self._file_size - (cluster << self._bits)
        return (yield from self._stash.spillway.fetch(cluster, waiting=waiting, most=most))
