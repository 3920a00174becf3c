"""A qcow2 image decoded as its bytes come, from the first to the last.

Most tools write a table before the clusters that it maps; a reader that has read it knows where each cluster belongs at
the moment it passes. Some images have tables at their end: those that were enlarged, written to after an internal
snapshot, or preallocated. What came before its table is then kept in memory; or the tables are read ahead, where the
source can do that; or it is kept elsewhere, where there is room. Else the image is refused, with advice.

No memory is ever reserved for what a field says: it grows with the bytes that came. Two things at the same place of the
file are refused, so that a small file can't become a large disk. Internal snapshots, bitmaps and reference counts are
nothing to whoever reads the active disk: they pass as bytes that nobody asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator
from itertools import pairwise
from typing import Final

from libironic_disk.errors import ImageDamaged, ImageRefused, SourceChanged
from libironic_disk.pure.images.qcow2 import L1_ENTRY, Header
from libironic_disk.pure.images.qcow2_ahead import ReadAhead
from libironic_disk.pure.images.qcow2_data import check_end, compressed_of, data_of, truncated
from libironic_disk.pure.images.qcow2_entries import Hole, TableReader
from libironic_disk.pure.images.qcow2_events import Compressed, Event, MetadataAccess, Raw, Zeros
from libironic_disk.pure.images.qcow2_inflate import measure
from libironic_disk.pure.images.qcow2_late import Late
from libironic_disk.pure.images.qcow2_map import Extent, ExtentMap, Kind
from libironic_disk.pure.images.qcow2_stash import Stash, State
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.units import MIB, align_up

STASH_BUDGET: Final = 32 * MIB
"""Bytes of memory for clusters whose table hasn't come yet."""

_SECTOR: Final = 512
_NOWHERE: Final = ByteRange(0, 0)
# A compressed cluster that starts in the last cluster of the window ends within two clusters and a sector behind that.
_BRIDGE: Final = 4


class Decoder:
    """Decodes one image: push its bytes, then finish; take all events of one call before the next.

    Args:
        header: of the image, read from the same bytes.
        image: its name in errors.
        size: how many bytes will come, if that is known; what lies behind is then refused before it is waited for.
        budget: bytes of memory for clusters whose table hasn't come yet; 0 is allowed.
        tail: of the target, behind the guest's disk: where clusters may wait that have no room in memory.
        lent: of the guest's disk, at the start of the target: where they may wait until its own bytes come.
        metadata: when tables can be read ahead.
    """

    def __init__(
        self,
        header: Header,
        *,
        image: str,
        size: int | None = None,
        budget: int = STASH_BUDGET,
        tail: ByteRange = _NOWHERE,
        lent: ByteRange = _NOWHERE,
        metadata: MetadataAccess = MetadataAccess.NEVER,
    ) -> None:
        self._header = header
        self._image = image
        self._size = size
        self._cluster = header.cluster_size
        self._reader = TableReader(header, image=image)
        self._map = ExtentMap(image)
        self._stash = Stash(header.cluster_bits, budget=budget, tail=tail, lent=lent, image=image)
        self._late = Late(header, self._stash, image=image)
        self._ahead = ReadAhead(metadata)
        # Everything before the position has been dealt with; the window holds what came from there on.
        self._position = 0
        self._window = bytearray()
        self._received = 0
        self._wanted = self._cluster
        self._shared_end = 0
        self._covered: list[tuple[int, int]] = []
        self._l1_size = header.l1_entries * L1_ENTRY
        self._l1_read = 0
        self._l2_missing = 0
        self._l2_known_until = 0
        self._place_tables()

    @property
    def stashed(self) -> int:
        """Bytes of memory that clusters take whose table hasn't come yet."""
        return self._stash.used

    def give_metadata(self, offset: int, data: bytes) -> None:
        """Hand in one range that :class:`WantMetadata` asked for."""
        self._ahead.give(offset, data)

    def give_spilled(self, data: bytes) -> None:
        """Hand in what :class:`Recall` asked for."""
        self._stash.spillway.answer(data)

    def push(self, data: bytes | bytearray | memoryview) -> Iterator[Event]:
        """Take the next bytes of the file, any number of them. Events may refer to them.

        Raises:
            ImageRefused: the image is one that isn't read.
            ImageDamaged: it can't be what its owner meant.
            ImageOrderUnsupported: its tables come too late.
        """
        return self._guarded(self._push(memoryview(data)))

    def _push(self, chunk: memoryview) -> Iterator[Event]:
        before, self._received = self._received, self._received + len(chunk)
        if self._size is not None and self._received > self._size:
            raise ImageDamaged(image=self._image, reason="it goes on behind its end", offset=self._size)
        if self._ahead.eager and self._may_read_ahead:
            yield from self._read_ahead()
        if self._received < self._wanted:
            self._window += chunk
            return
        if self._window:
            start = before - len(self._window)
            bridged = _BRIDGE * self._cluster
            bridge = memoryview(bytes(self._window) + chunk[:bridged])
            yield from self._advance(bridge, start)
            if self._position < before:
                self._window = bytearray(bridge[self._position - start :]) + chunk[bridged:]
                return
        yield from self._advance(chunk, before)
        self._window = bytearray(chunk[self._position - before :])

    def finish(self) -> Iterator[Event]:
        """Take note that all bytes came, and give what only that decides.

        Raises:
            ImageRefused: the image is one that isn't read.
            ImageDamaged: it is truncated, or can't be unpacked.
            ImageOrderUnsupported: its tables came too late.
            SourceChanged: tables that were read ahead weren't the ones that came by.
        """
        return self._guarded(self._finish())

    def _finish(self) -> Iterator[Event]:
        size = self._received
        if self._size not in (None, size):
            raise ImageDamaged(image=self._image, reason=f"it has {self._size} bytes and ended before", offset=size)
        self._size = size
        if self._window:
            yield from self._advance(memoryview(bytes(self._window)), size - len(self._window), last=True)
        yield from self._late.passed(self._position)
        while (extent := self._map.first()) is not None:
            if extent.start < self._position:
                raise self._overlap(extent.start)
            check_end(extent, self._size, self._header, self._image)
            # What nobody reads needn't be there.
            self._map.pop()
        yield from self._late.finish(size)
        if not self._ahead.came_by_alike:
            reason = "the tables that were read ahead aren't those that came by later"
            raise SourceChanged(source=self._image, reason=reason)

    def _guarded(self, events: Iterator[Event]) -> Iterator[Event]:
        return self._making_way(events) if self._stash.spillway.lends else events

    def _making_way(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            if isinstance(event, Raw | Compressed | Zeros):
                yield from self._stash.spillway.making_way(event)
            yield event

    def _place_tables(self) -> None:
        header, cluster = self._header, self._cluster
        known = sorted(
            (
                Extent(0, 0, Kind.RESERVED, 1),
                Extent(header.l1_offset, 0, Kind.L1_TABLE, -(-self._l1_size // cluster)),
                Extent(header.refcount_table_offset, 0, Kind.RESERVED, header.refcount_table_size // cluster),
            )
        )
        for extent, following in pairwise(known):
            if extent.end(cluster) > following.start:
                raise self._overlap(following.start)
        for extent in known:
            check_end(extent, self._size, self._header, self._image)
            self._map.add(extent)

    @property
    def _complete(self) -> bool:
        return self._l1_read == self._l1_size and not self._l2_missing

    def _advance(self, view: memoryview, base: int, *, last: bool = False) -> Iterator[Event]:
        """Deal with whole clusters from the position on.

        Args:
            view: bytes of the file.
            base: where they start, not behind the position.
            last: nothing follows; what is there of the last cluster counts as whole.
        """
        end = base + len(view)
        limit = align_up(end, self._cluster) if last else end - end % self._cluster
        while self._position < limit:
            position = self._position
            yield from self._late.passed(position)
            extent = self._map.first()
            if extent is None or extent.start >= position + self._cluster:
                until = limit if extent is None else min(limit, extent.start - extent.start % self._cluster)
                yield from self._pass_unclaimed(view, base, until)
            elif extent.start < position:
                raise self._overlap(extent.start)
            elif extent.kind is Kind.COMPRESSED:
                if not self._complete and self._may_read_ahead:
                    yield from self._read_ahead()
                elif not (yield from self._pass_compressed(view, base, last=last)):
                    return
            else:
                if position < max(self._shared_end, self._late.needed_until):
                    raise self._overlap(position)
                yield from self._pass_whole(extent, view[position - base :], limit)
        self._wanted = self._position + self._cluster

    def _pass_unclaimed(self, view: memoryview, base: int, until: int) -> Iterator[Event]:
        """Pass what no known table maps the start of anything in: one cluster, or all if nobody waits for them."""
        if self._complete and self._position >= self._late.needed_until:
            self._position = until
        elif not self._complete and self._stash.full and self._may_read_ahead:
            yield from self._read_ahead()
        else:
            yield from self._pass_one(view, base)

    def _pass_compressed(self, view: memoryview, base: int, *, last: bool) -> Generator[Event, None, bool]:
        """Pass a cluster in which compressed ones start; return whether all of them end within the view."""
        end = base + len(view)
        while (extent := self._map.first()) is not None and extent.start < self._position + self._cluster:
            if extent.kind is not Kind.COMPRESSED:
                raise self._overlap(extent.start)
            extent_end = extent.start + extent.detail
            if extent_end > (align_up(end, _SECTOR) if last else end):
                if last:
                    raise truncated(self._image, "a compressed cluster", extent_end, end)
                self._wanted = extent_end
                return False
            self._map.pop()
            self._shared_end = max(self._shared_end, extent_end)
            yield from self._compressed(extent, view[extent.start - base : extent_end - base])
        yield from self._pass_one(view, base)
        return True

    def _compressed(self, extent: Extent, payload: memoryview) -> Iterator[Event]:
        packed = compressed_of(extent, payload, self._header)
        if self._complete:
            yield packed
            return
        # Where it really ends decides whether there is room for something else in its last sector.
        data, taken = measure(packed, image=self._image)
        end = extent.start + taken
        if self._covered and extent.start <= self._covered[-1][1]:
            start, before = self._covered.pop()
            self._covered.append((start, max(before, end)))
        else:
            self._covered.append((extent.start, end))
        yield Raw(guest_offset=extent.guest, data=memoryview(data))

    def _pass_one(self, view: memoryview, base: int) -> Iterator[Event]:
        """Pass a cluster that isn't one of the guest's, or is several, and keep what may still be asked for."""
        position, number = self._position, self._position >> self._header.cluster_bits
        self._position += self._cluster
        if self._complete and position >= self._late.needed_until:
            return
        data = bytes(view[position - base : position - base + self._cluster])
        shared = position < max(self._shared_end, self._late.needed_until)
        self._stash.mark(number, 1, State.SHARED if shared else State.UNKNOWN)
        if self._complete or not shared:
            if not self._stash.is_zero(data):
                self._stash.keep(number, data)
        else:
            self._stash.keep_rest(number, data, self._covered)
            self._covered = [each for each in self._covered if each[1] > self._position]
        yield from self._stash.overflow()

    def _pass_whole(self, extent: Extent, view: memoryview, limit: int) -> Iterator[Event]:
        """Pass clusters that are a table or the guest's."""
        position = self._position
        clusters = extent.end(self._cluster) - extent.start >> self._header.cluster_bits
        count = min(clusters, limit - position >> self._header.cluster_bits)
        if count < clusters:
            self._map.shorten(count, self._cluster)
            extent = extent._replace(detail=count)
        else:
            self._map.pop()
        if not self._complete:
            self._stash.mark(position >> self._header.cluster_bits, count, State.WHOLE)
        self._position += count * self._cluster
        data = view[: count * self._cluster]
        match extent.kind:
            case Kind.L1_TABLE:
                yield from self._pass_l1(position - self._header.l1_offset, data)
            case Kind.L2_TABLE:
                yield from self._pass_l2(extent, data)
            case Kind.DATA | Kind.PARTIAL:
                yield from data_of(extent, data, self._header, self._image)

    def _pass_l1(self, offset: int, data: memoryview) -> Iterator[Event]:
        data = data[: self._l1_size - offset]
        if offset + len(data) < min(self._l1_size, self._position - self._header.l1_offset):
            raise truncated(self._image, "its L1 table", self._header.l1_offset + self._l1_size, self._received)
        if self._l1_read > offset:
            self._ahead.l1.passes(data)
        else:
            yield from self._read_l1(data)

    def _pass_l2(self, extent: Extent, data: memoryview) -> Iterator[Event]:
        if len(data) < self._cluster:
            raise truncated(self._image, "an L2 table", extent.start + self._cluster, self._received)
        if extent.start < self._l2_known_until:
            self._ahead.l2.passes(data)
        else:
            yield from self._read_l2(data, extent.guest)

    def _read_l1(self, data: bytes | memoryview) -> Iterator[Event]:
        guest = self._l1_read // L1_ENTRY * self._header.l2_covers
        yield from self._admit(self._reader.l1(data, guest))
        self._l1_read += len(data)
        self._note_completeness()

    def _read_l2(self, data: bytes | memoryview, guest: int) -> Iterator[Event]:
        yield from self._admit(self._reader.l2(data, guest))
        self._l2_missing -= 1
        self._note_completeness()

    def _note_completeness(self) -> None:
        self._stash.complete = self._complete

    def _admit(self, found: Iterable[Extent | Hole]) -> Iterator[Event]:
        """Put what a table maps where it is looked for, now if it has passed already."""
        for each in found:
            if isinstance(each, Hole):
                yield Zeros(guest_offset=each.guest, length=each.length)
                continue
            self._l2_missing += each.kind is Kind.L2_TABLE
            check_end(each, self._size, self._header, self._image)
            if each.start >= self._position:
                self._map.add(each)
            elif each.kind is Kind.L2_TABLE:
                yield from self._read_l2((yield from self._late.table(each)), each.guest)
            else:
                yield from self._late.resolve(self._split(each), self._position)

    def _split(self, extent: Extent) -> Extent:
        """Return the part of a row of clusters that has passed, and wait for the rest."""
        if extent.kind not in (Kind.DATA, Kind.RESERVED):
            return extent
        length = self._position - extent.start
        passed = length >> self._header.cluster_bits
        if extent.detail <= passed:
            return extent
        self._map.add(Extent(self._position, extent.guest + length, extent.kind, extent.detail - passed))
        return extent._replace(detail=passed)

    @property
    def _may_read_ahead(self) -> bool:
        return self._ahead.possible and self._map.is_roomy

    def _read_ahead(self) -> Iterator[Event]:
        """Read the tables that haven't come yet, if that is worth it, as far as there is room for what they map."""
        self._ahead.possible = False
        rest = self._l1_size - self._l1_read
        for ranges in self._ahead.requests([self._header.l1_offset + self._l1_read] if rest else [], rest):
            for data in (yield from self._ahead.ask(ranges, self._image)):
                self._ahead.l1.read_ahead(data)
                yield from self._read_l1(data)
        starts, guests = self._map.places(Kind.L2_TABLE)
        known = bisect_left(starts, self._l2_known_until)
        starts, guests = starts[known:], guests[known:]
        if not self._ahead.is_worth_it(starts):
            return
        places = zip(starts, guests, strict=True)
        for ranges in self._ahead.requests(starts, self._cluster):
            for data in (yield from self._ahead.ask(ranges, self._image)):
                for at in range(0, len(data), self._cluster):
                    if self._map.is_crowded:
                        self._ahead.possible = True
                        return
                    start, guest = next(places)
                    table = data[at : at + self._cluster]
                    self._l2_known_until = start + self._cluster
                    self._ahead.l2.read_ahead(table)
                    yield from self._read_l2(table, guest)

    def _overlap(self, offset: int) -> ImageRefused:
        reason = f"two of its tables or clusters are at byte {offset}"
        return ImageRefused(image=self._image, reason=reason)
