"""The compression around an image: recognised by its first bytes, undone piece by piece, in bounded memory.

Bytes are pushed in and pulled out. What one pull gives is bounded, whatever was pushed: a few kilobytes that unpack to
gigabytes cost time and no memory. Several streams may follow each other, as the formats allow. Anything else behind the
last one, and an end that comes early, is an error: most tools pass over the first, and some over both.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import Final, NamedTuple, Protocol

from libironic_disk.errors import ImageDamaged, ImageRefused
from libironic_disk.pure.images.zstdframe import SKIPPABLE, WindowTooLarge, ZstdFrame
from libironic_disk.units import KIB, MIB, in_words


class Compression(StrEnum):
    """The compressions that are undone."""

    GZIP = "gzip"
    XZ = "xz"
    ZSTD = "zstd"
    BZIP2 = "bzip2"


DETECTION_SIZE: Final = 6
"""How many of an image's first bytes :func:`detect` looks at."""

MEMORY_LIMIT: Final = 128 * MIB
"""For the dictionary of xz, of which ``xz -9`` needs 65 MiB, and the window of zstd, whose own limit is the same."""

# What follows a stream comes back as a copy. Small slices at first, or a row of tiny streams would copy without end.
_FIRST_SLICE: Final = 4 * KIB
_LARGEST_SLICE: Final = 256 * KIB


def detect(head: bytes) -> Compression | None:
    """Return the compression that an image's first bytes show, None where they show none."""
    return next((compression for compression, each in _FORMATS.items() if each.start.match(head)), None)


class Decompressor:
    """Undoes one compression. Pull until nothing comes, then push more; once all was pushed and pulled, finish.

    Args:
        compression: what :func:`detect` said.
        image: its name in errors.
        limit: bytes that may come out, None for any number.
        memory_limit: bytes of memory for the format's own dictionary or window.
    """

    def __init__(
        self, compression: Compression, *, image: str, limit: int | None = None, memory_limit: int = MEMORY_LIMIT
    ) -> None:
        self._compression = compression
        self._image = image
        self._limit = limit
        self._memory_limit = memory_limit
        self._format = _FORMATS[compression]
        self._input = self._rest = memoryview(b"")
        self._taken = 0
        self._produced = 0
        self._start = b""
        self._stream: _Stream | None = None
        self._streams = 0
        self._padding = 0
        self._slice = _FIRST_SLICE

    def push(self, data: bytes | bytearray | memoryview) -> None:
        """Hand in the next bytes, after a pull gave nothing; they are borrowed until a pull gives nothing again."""
        if self._input:
            raise ValueError("there are bytes left from the last push")
        self._input = memoryview(data)

    def pull(self, most: int) -> bytes:
        """Return the next bytes, at least one and at most ``most``; none if more must be pushed.

        Raises:
            ImageDamaged: the data is wrong, or followed by something else.
            ImageRefused: it needs more memory, or unpacks to more bytes, than it may.
        """
        while stream := self._stream or self._begin():
            produced = self._decompress(stream, most)
            if produced:
                self._produced += len(produced)
                self._check_limit()
                return produced
            if stream.needs_input and not self._input:
                break
        return b""

    def finish(self) -> None:
        """Check that what was pushed ended where it may end.

        Raises:
            ImageDamaged: it is truncated, or its padding is wrong.
        """
        if self._stream is not None or self._start or not self._streams:
            raise self._damaged("it is truncated")
        self._check_padding()

    def _begin(self) -> _Stream | None:
        """Collect the start of the next stream and begin it; None if there is too little input for that."""
        if self._streams and not self._start:
            self._pass_padding()
        self._start += self._take(self._format.start_size - len(self._start))
        if len(self._start) < self._format.start_size:
            return None
        if not self._format.start.match(self._start):
            raise self._damaged(f"its {self._compression} data is followed by something else")
        self._check_padding()
        self._stream = self._format.new(self._memory_limit)
        self._streams += 1
        self._padding = 0
        self._slice = _FIRST_SLICE
        return self._stream

    def _decompress(self, stream: _Stream, most: int) -> bytes:
        data: bytes | memoryview = b""
        if self._start:
            data, self._start = self._start, b""
        elif stream.needs_input:
            data = self._take(self._slice)
            self._slice = min(2 * self._slice, _LARGEST_SLICE)
        try:
            produced = stream.decompress(data, most)
        except MemoryError:
            raise
        except Exception as error:  # the codecs' errors have no class in common
            if isinstance(error, WindowTooLarge) or "Memory usage limit" in str(error):
                reason = f"unpacking it takes more than the {in_words(self._memory_limit)} of memory that it may"
                raise ImageRefused(image=self._image, reason=reason) from error
            raise self._damaged(f"its {self._compression} data is wrong ({error})") from error
        if stream.eof:
            self._stream = None
            self._give_back(len(stream.unused_data))
        return produced

    def _pass_padding(self) -> None:
        while self._input and self._format.padding_grain and not self._input[0]:
            piece = self._take(_LARGEST_SLICE)
            behind = len(bytes(piece).lstrip(b"\0"))
            self._give_back(behind)
            self._padding += len(piece) - behind

    def _check_padding(self) -> None:
        if self._padding and self._padding % self._format.padding_grain:
            raise self._damaged(f"its {self._compression} data is padded with {self._padding} zero bytes")

    def _take(self, length: int) -> memoryview:
        piece, self._input, self._rest = self._input[:length], self._input[length:], self._input
        self._taken += len(piece)
        return piece

    def _give_back(self, length: int) -> None:
        """Undo the end of the last :meth:`_take`."""
        self._input = self._rest[len(self._rest) - len(self._input) - length :]
        self._taken -= length

    def _check_limit(self) -> None:
        if self._limit is not None and self._produced > self._limit:
            reason = f"it unpacks to more than the {in_words(self._limit)} that it may have"
            raise ImageRefused(image=self._image, reason=reason)

    def _damaged(self, reason: str) -> ImageDamaged:
        return ImageDamaged(image=self._image, reason=reason, offset=self._taken)


class _Stream(Protocol):
    """One stream of a format, used as the standard library's decompressors are."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes: ...


class _GzipMember:
    """A gzip member by zlib, whose decompressor has other attributes than the others'."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        self._more = False

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not (self.eof or self._more)

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes:
        produced = self._zlib.decompress(self._zlib.unconsumed_tail or data, max_length)
        # zlib may have taken all input and hold back output that there was no room for.
        self._more = len(produced) == max_length
        return produced


@cache
def _gzip_members() -> Callable[[], _Stream]:
    try:
        from isal.igzip_lib import DECOMP_GZIP, IgzipDecompressor
    except ImportError:  # it is built for the most common machines alone, and twice as fast there
        return _GzipMember
    return lambda: IgzipDecompressor(flag=DECOMP_GZIP)


class _Format(NamedTuple):
    """How streams begin, how one is undone, and of how many zero bytes there may be a multiple behind them."""

    start: re.Pattern[bytes]
    start_size: int
    new: Callable[[int], _Stream]
    padding_grain: int


_FORMATS: Final = {
    # RFC 1952 section 2.3.1. gzip(1) takes zeros at the end for padding, as they come from tapes.
    Compression.GZIP: _Format(re.compile(rb"\x1f\x8b\x08"), 3, lambda limit: _gzip_members()(), 1),
    # The .xz File Format, sections 2.1.1.1 and 2.2.
    Compression.XZ: _Format(
        re.compile(rb"\xfd7zXZ\x00"), 6, lambda limit: lzma.LZMADecompressor(lzma.FORMAT_XZ, limit), 4
    ),
    # RFC 8878 sections 3.1.1 and 3.1.2; parallel compressors put a skippable frame first.
    Compression.ZSTD: _Format(re.compile(rb"\x28\xb5\x2f\xfd|" + SKIPPABLE.pattern), 4, ZstdFrame, 0),
    Compression.BZIP2: _Format(re.compile(rb"BZh[1-9]"), 4, lambda limit: bz2.BZ2Decompressor(), 0),
}
