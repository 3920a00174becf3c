"""A qcow2 image on its way to a disk: the decoder's events carried out.

Every byte of the disk is given once, so what has to be written can be done in any order and by several threads. What
the decoder asks for is done at once: it waits for the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from libironic_disk.machine.images.buffers import Buffer
from libironic_disk.machine.images.sources import Data, OpenSource, Piece
from libironic_disk.machine.images.sources.readahead import Leased
from libironic_disk.machine.images.target import Writable
from libironic_disk.machine.images.workers import Batch, Workers, Zero
from libironic_disk.pure.images.qcow2_events import Compressed, Event, Raw, Recall, Spill, WantMetadata, Zeros
from libironic_disk.pure.images.qcow2_stream import Decoder
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.units import MIB

_BATCH_BYTES: Final = MIB
_BATCH_ITEMS: Final = 256
_ZEROS: Final = bytes(MIB)


class Decoding:
    """One image being decoded onto one target.

    Args:
        decoder: a new one.
        source: where tables are read out of order.
        workers: who write.
        target: where clusters are kept that must wait and have no room in memory.
        tail_start: from where on what is kept there isn't overwritten by the image itself.
    """

    def __init__(
        self, decoder: Decoder, source: OpenSource, workers: Workers, target: Writable, *, tail_start: int
    ) -> None:
        self._decoder = decoder
        self._source = source
        self._workers = workers
        self._target = target
        self._items: list[Raw | Compressed] = []
        self._bytes = 0
        self._zeros = ByteRange(0, 0)
        self.spilled = ByteRange(tail_start, tail_start)
        """Where behind the image clusters were kept."""

    def run(self, pieces: Iterable[Leased]) -> None:
        """Decode a whole image; each piece is released.

        Raises:
            DiskError: what decoding, reading and writing raise.
        """
        for piece, buffer in pieces:
            for data in _bytes_of(piece):
                self._carry_out(self._decoder.push(data), buffer)
            self._send(buffer)
            if buffer is not None:
                buffer.release()
        self._carry_out(self._decoder.finish(), None)
        self._send(None)
        self._send_zeros()

    def _carry_out(self, events: Iterator[Event], buffer: Buffer | None) -> None:
        for event in events:
            match event:
                case Raw():
                    self._add(event, len(event.data), buffer)
                case Compressed():
                    self._add(event, event.length, buffer)
                case Zeros():
                    self._add_zeros(event)
                case WantMetadata():
                    self._read_ahead(event)
                case Spill():
                    self._spill(event)
                case Recall():
                    self._recall(event)

    def _add(self, item: Raw | Compressed, length: int, buffer: Buffer | None) -> None:
        self._items.append(item)
        self._bytes += length
        if self._bytes >= _BATCH_BYTES or len(self._items) >= _BATCH_ITEMS:
            self._send(buffer)

    def _send(self, buffer: Buffer | None) -> None:
        if not self._items:
            return
        if buffer is not None:
            buffer.hold()
        self._workers.put(Batch(items=self._items, buffer=buffer))
        self._items, self._bytes = [], 0

    def _add_zeros(self, event: Zeros) -> None:
        if event.guest_offset != self._zeros.end:
            self._send_zeros()
            self._zeros = ByteRange(event.guest_offset, event.guest_offset)
        self._zeros = ByteRange(self._zeros.start, event.guest_offset + event.length)

    def _send_zeros(self) -> None:
        if self._zeros.size:
            self._workers.put(Zero(offset=self._zeros.start, length=self._zeros.size))

    def _read_ahead(self, event: WantMetadata) -> None:
        ranges = [ByteRange(offset, offset + length) for offset, length in event.ranges]
        for wanted, data in zip(ranges, self._source.read_ranges(ranges), strict=True):
            self._decoder.give_metadata(wanted.start, data)

    def _spill(self, event: Spill) -> None:
        self._target.scratch(event.place, memoryview(event.data))
        tail_start, end = self.spilled
        if event.place >= tail_start:
            self.spilled = ByteRange(tail_start, max(end, event.place + len(event.data)))

    def _recall(self, event: Recall) -> None:
        self._decoder.give_spilled(self._target.recall(event.place, event.length))


def _bytes_of(piece: Piece) -> Iterator[memoryview]:
    if isinstance(piece, Data):
        yield piece.data
        return
    for left in range(piece.length, 0, -len(_ZEROS)):
        yield memoryview(_ZEROS)[: min(left, len(_ZEROS))]
