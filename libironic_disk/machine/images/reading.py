"""An inspected image as a row of its own bytes: read, counted, digested, and unpacked from what is around it.

Each stage has a thread of its own and hands over buffers, of which there is a fixed number. So the slowest stage sets
the pace, and memory is bounded whatever the image has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from libironic_disk.errors import Cancelled
from libironic_disk.events import Cancellation
from libironic_disk.machine.images.inspection import InspectedImage
from libironic_disk.machine.images.metering import Meter
from libironic_disk.machine.images.sources import Data, OpenSource, Piece
from libironic_disk.machine.images.sources.readahead import BUFFERS, Reading, reading_ahead
from libironic_disk.machine.images.unpacking import Unpacked
from libironic_disk.pure.images.checksums import LiveDigest
from libironic_disk.pure.images.compression import Decompressor
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.units import MIB

_PACKED_BUFFERS: Final = 4
_ZEROS: Final = bytes(MIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReading:
    """An image while it is read; made by :func:`image_read`."""

    image: InspectedImage
    source: OpenSource
    pieces: Reading
    digest: LiveDigest | None

    def check(self) -> None:
        """Check, once all pieces were taken, that it was the image that its owner described.

        Raises:
            ChecksumMismatch: it wasn't.
        """
        if self.image.checksum is not None and self.digest is not None:
            self.digest.check(self.image.checksum, image=self.image.name)


@contextmanager
def image_read(
    image: InspectedImage, *, meter: Meter, cancel: Cancellation | None, tick: Callable[[], None] | None = None
) -> Iterator[ImageReading]:
    """Open an image for one reading, which begins at once.

    Args:
        image: what inspection returned.
        meter: told how far the source was read.
        cancel: ends what waits for a server.
        tick: called while a piece is waited for; what it raises ends the waiting. None for the meter's.

    Raises:
        SourceFailed: it can't be opened, or isn't what it was when it was inspected.
    """
    tick = tick or meter.tick
    digest = LiveDigest(image.checksum.algorithm) if image.checksum else None

    def delivered(position: int) -> LiveDigest:
        if digest is None or digest.position != position:
            raise ValueError(f"the digest isn't that of {position} bytes")
        return digest.copy()

    with image.source.opened(cancel=cancel, delivered=delivered if digest else None) as opened:
        source = _Observed(opened, digest, meter)
        if image.compression is None:
            with reading_ahead(source, tick=tick) as pieces:
                yield ImageReading(image=image, source=source, pieces=pieces, digest=digest)
            return
        with reading_ahead(source, buffers=_PACKED_BUFFERS) as packed:
            unpacked = Unpacked(packed, Decompressor(image.compression, image=image.name), image=image.name)
            with reading_ahead(unpacked, tick=tick, buffers=BUFFERS) as pieces:
                yield ImageReading(image=image, source=unpacked, pieces=pieces, digest=digest)


class _Observed:
    """An open source that is counted and digested by the thread that reads: the bytes are in the cache there."""

    def __init__(self, source: OpenSource, digest: LiveDigest | None, meter: Meter) -> None:
        self._source = source
        self._digest = digest
        self._meter = meter
        self._stopped = False

    def fill(self, buffer: memoryview) -> Piece | None:
        piece = self._source.fill(buffer)
        if piece is not None:
            if self._digest is not None:
                self._update(self._digest, piece)
            self._meter.read_until(piece.end)
        return piece

    def stop(self) -> None:
        self._stopped = True
        self._source.stop()

    def read_ranges(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        return self._source.read_ranges(ranges)

    def _update(self, digest: LiveDigest, piece: Piece) -> None:
        if isinstance(piece, Data):
            digest.update(piece.data)
            return
        # A hole that isn't read is zeros all the same to whoever made the checksum. A large one takes a while.
        for left in range(piece.length, 0, -len(_ZEROS)):
            if self._stopped:
                raise Cancelled(during="image")
            digest.update(_ZEROS if left >= len(_ZEROS) else _ZEROS[:left])
            self._meter.read_until(piece.end - left)
