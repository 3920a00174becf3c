"""An image's bytes out of the compression around them, piece by piece as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from libironic_disk.errors import SourceFailed
from libironic_disk.machine.images.sources import Data
from libironic_disk.machine.images.sources.readahead import Leased, Reading
from libironic_disk.pure.images.compression import Decompressor
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.units import MIB

_ZEROS = bytes(MIB)


class Unpacked:
    """What a row of compressed pieces unpacks to, as an open source; see :class:`OpenSource`.

    Args:
        pieces: from a source's first byte to its end; each is released before the next one is asked for.
        decompressor: a new one.
        image: its name in errors.
    """

    def __init__(self, pieces: Reading, decompressor: Decompressor, *, image: str) -> None:
        self._pieces = pieces
        self._input = _bytes_of(pieces)
        self._decompressor = decompressor
        self._image = image
        self._position = 0
        self._ended = False

    def stop(self) -> None:
        """Let a filling that waits for a piece end soon; from any thread."""
        self._pieces.stop()

    def read_ranges(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Refuse: what is compressed has one order."""
        raise SourceFailed(source=self._image, reason="what is compressed can't be read out of order")

    def fill(self, buffer: memoryview) -> Data | None:
        """Return the next piece, a whole buffer of it except at the end.

        Raises:
            ImageDamaged: the compressed data is wrong, truncated, or followed by something else.
            ImageRefused: unpacking it takes too much memory.
            DiskError: what asking for the next piece raises.
        """
        filled = 0
        while filled < len(buffer) and not self._ended:
            piece = self._decompressor.pull(len(buffer) - filled)
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
            if not piece:
                self._push()
        self._position += filled
        return Data(offset=self._position - filled, data=buffer[:filled]) if filled else None

    def _push(self) -> None:
        data = next(self._input, None)
        if data is None:
            self._decompressor.finish()
            self._ended = True
        else:
            self._decompressor.push(data)


def _bytes_of(pieces: Iterable[Leased]) -> Iterator[bytes | memoryview]:
    for piece, buffer in pieces:
        if isinstance(piece, Data):
            yield piece.data
        else:
            # A hole in a file: zeros are padding at its end, and wrong anywhere else.
            for left in range(piece.length, 0, -len(_ZEROS)):
                yield _ZEROS[:left]
        if buffer is not None:
            buffer.release()
