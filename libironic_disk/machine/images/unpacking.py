"""An image's bytes out of the compression around them, piece by piece as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from libironic_disk.machine.images.sources import Data, Piece
from libironic_disk.pure.images.compression import Decompressor
from libironic_disk.units import MIB

_ZEROS = bytes(MIB)


class Unpacked:
    """What a row of compressed pieces unpacks to, as an open source; see :class:`OpenSource`.

    Args:
        pieces: from a source's first byte to its end; each is done with before the next one is asked for.
        decompressor: a new one.
    """

    def __init__(self, pieces: Iterable[Piece], decompressor: Decompressor) -> None:
        self._input = _bytes_of(pieces)
        self._decompressor = decompressor
        self._position = 0
        self._ended = False

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


def _bytes_of(pieces: Iterable[Piece]) -> Iterator[bytes | memoryview]:
    for piece in pieces:
        if isinstance(piece, Data):
            yield piece.data
            continue
        # A hole in a file: zeros are padding at its end, and wrong anywhere else.
        for left in range(piece.length, 0, -len(_ZEROS)):
            yield _ZEROS[:left]
