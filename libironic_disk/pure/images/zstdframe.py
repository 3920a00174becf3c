"""One zstd frame, undone block by block: the standard library's interface, which zstandard's lacks, and its bounds."""

from __future__ import annotations

import re
from typing import Final

from zstandard import CONTENTSIZE_UNKNOWN, ZstdDecompressor, get_frame_parameters

from libironic_disk.units import KIB

SKIPPABLE: Final = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
"""The magic number of a frame that holds no data, RFC 8878 section 3.1.2."""

_LARGEST_BLOCK: Final = 128 * KIB


class WindowTooLarge(Exception):
    """The frame needs a larger window than it may have."""


class ZstdFrame:
    """A zstd frame, RFC 8878 section 3.1, skippable or not.

    zstandard's decompressor gives all that its input unpacks to, at 32 KiB for each byte in the worst case. Fed with no
    more than one block at a time, it gives no more than 128 KiB.
    """

    def __init__(self, memory_limit: int) -> None:
        self._memory_limit = memory_limit
        self._decompressor = ZstdDecompressor(max_window_size=memory_limit).decompressobj()
        self._input = memoryview(b"")
        self._output = b""
        self._header = b""
        self._in_blocks = self._skipped = self._checksum = self._last = False
        self._left = 0
        self._size: int | None = None
        self._unpacked_size = 0

    @property
    def eof(self) -> bool:
        """Whether the frame ended and all of it was returned."""
        return self._last and not self._left and not self._output

    @property
    def needs_input(self) -> bool:
        """Whether there is nothing to return before more comes in."""
        return not (self.eof or self._input or self._output)

    @property
    def unused_data(self) -> bytes:
        """What followed the frame, at its end."""
        return bytes(self._input)

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes:
        """Return at most ``max_length`` bytes; take ``data`` in if input is needed, borrowing it until it is again.

        Raises:
            WindowTooLarge: it would take more memory than it may.
            ZstdError, ValueError: the data is wrong.
        """
        if data:
            self._input = memoryview(data)
        while self._input and not self._output and not self.eof:
            if self._left:
                self._output = self._unpacked(self._left)
            else:
                self._read_header()
        produced, self._output = self._output[:max_length], self._output[max_length:]
        return produced

    def _unpacked(self, length: int) -> bytes:
        piece, self._input = self._input[:length], self._input[length:]
        self._left -= len(piece)
        unpacked = b"" if self._skipped else self._decompressor.decompress(piece)
        if self.eof and not self._skipped and not self._decompressor.eof:
            raise ValueError("the frame goes on behind its last block")
        self._unpacked_size += len(unpacked)
        self._check_size()
        return unpacked

    def _read_header(self) -> None:
        missing = self._header_size() - len(self._header)
        self._header += self._input[:missing]
        self._input = self._input[missing:]
        if len(self._header) < self._header_size():
            return
        header, self._header = self._header, b""
        if self._in_blocks:
            self._begin_block(header)
        else:
            self._begin_frame(header)

    def _header_size(self) -> int:
        """Return how long the header of the next block or of the frame is, or at least is as far as it is known."""
        if self._in_blocks:
            return 3
        if SKIPPABLE.match(self._header):
            return 8
        if len(self._header) < 5:
            return 5
        descriptor = self._header[4]  # section 3.1.1.1.1
        single_segment = bool(descriptor & 0x20)
        content_size = (int(single_segment), 2, 4, 8)[descriptor >> 6]
        dictionary = (0, 1, 2, 4)[descriptor & 3]
        return 5 + (not single_segment) + dictionary + content_size

    def _begin_frame(self, header: bytes) -> None:
        if SKIPPABLE.match(header):
            self._skipped = self._last = True
            self._left = int.from_bytes(header[4:], "little")
            return
        parameters = get_frame_parameters(header)
        if parameters.window_size > self._memory_limit:
            raise WindowTooLarge
        self._checksum = parameters.has_checksum
        self._size = None if parameters.content_size == CONTENTSIZE_UNKNOWN else parameters.content_size
        self._decompressor.decompress(header)
        self._in_blocks = True

    def _begin_block(self, header: bytes) -> None:
        """Section 3.1.1.2: bit 0 marks the last block, bits 1 and 2 are its type, the rest is its size."""
        value = int.from_bytes(header, "little")
        size, repeated = value >> 3, (value >> 1) & 3 == 1
        if size > _LARGEST_BLOCK:
            raise ValueError(f"a block of {size} bytes")
        self._last = bool(value & 1)
        self._left = (1 if repeated else size) + (4 if self._last and self._checksum else 0)
        self._decompressor.decompress(header)
        self._check_size()

    def _check_size(self) -> None:
        """Compare the frame's size with what its header says; zstd doesn't in a stream whose last block is empty."""
        if self._last and not self._left and self._size not in (None, self._unpacked_size):
            raise ValueError(f"a frame of {self._size} bytes has {self._unpacked_size}")
