"""Compressed pieces through a decompressor: any cut, holes, and every way to end."""

from __future__ import annotations

import gzip
import lzma
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import Cancelled, ImageDamaged, SourceFailed
from libironic_disk.machine.images.buffers import BufferPool
from libironic_disk.machine.images.sources import Data, OpenSource, Piece, Zeros
from libironic_disk.machine.images.sources.readahead import Reading, nothing
from libironic_disk.machine.images.unpacking import Unpacked
from libironic_disk.pure.images.compression import Compression, Decompressor
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.units import MIB


class Row:
    """A source that gives bytes, and zeros for numbers, then ends, fails or waits until it is stopped."""

    def __init__(self, *parts: bytes | int, error: Exception | None = None, waits: bool = False) -> None:
        self.stopped = threading.Event()
        self._parts = [*parts]
        self._error = error
        self._waits = waits
        self._position = 0

    def fill(self, buffer: memoryview) -> Piece | None:
        start = self._position
        if not self._parts:
            if self._waits:
                self.stopped.wait(10)
            if self._error is not None:
                raise self._error
            return None
        part = self._parts.pop(0)
        if isinstance(part, int):
            self._position += part
            return Zeros(offset=start, length=part)
        taken, rest = part[: len(buffer)], part[len(buffer) :]
        if rest:
            self._parts.insert(0, rest)
        buffer[: len(taken)] = taken
        self._position += len(taken)
        return Data(offset=start, data=buffer[: len(taken)])

    def stop(self) -> None:
        self.stopped.set()

    def read_ranges(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        raise NotImplementedError


@contextmanager
def unpacked(row: Row, kind: Compression = Compression.GZIP, *, size: int = 1000) -> Iterator[Unpacked]:
    """Unpack pieces of a size, all of them in the same memory: each is overwritten as soon as it was released."""
    reading = Reading(row, BufferPool(1, size), nothing)
    thread = threading.Thread(target=reading.run)
    thread.start()
    try:
        yield Unpacked(reading, Decompressor(kind, image="disk.img"), image="disk.img")
    finally:
        reading.stop()
        thread.join()


def read(opened: OpenSource, size: int) -> bytes:
    buffer = memoryview(bytearray(size))
    whole = bytearray()
    full = True
    while (piece := opened.fill(buffer)) is not None:
        assert isinstance(piece, Data)
        assert piece.offset == len(whole)
        assert full, "a buffer before the last one wasn't filled"
        full = len(piece.data) == size
        whole += piece.data
    assert opened.fill(buffer) is None
    return bytes(whole)


@given(
    body=st.binary(max_size=2000) | st.just(bytes(100_000)),
    kind=st.sampled_from([Compression.GZIP, Compression.XZ]),
    size=st.integers(1, 3000),
    filled=st.integers(100, 30_000),
)
def test_any_pieces(body: bytes, kind: Compression, size: int, filled: int) -> None:
    packed = gzip.compress(body) if kind is Compression.GZIP else lzma.compress(body, preset=0)
    with unpacked(Row(packed), kind, size=size) as found:
        assert read(found, filled) == body
    with unpacked(Row(packed[:-1]), kind, size=size) as found, pytest.raises(ImageDamaged, match="truncated"):
        read(found, filled)


def test_a_hole_is_zeros() -> None:
    packed = gzip.compress(b"body")
    with unpacked(Row(packed, 5 * MIB + 1)) as found:
        assert read(found, 100) == b"body"
    # The format says of how many zeros there may be a multiple.
    packed = lzma.compress(b"body")
    with unpacked(Row(packed, MIB + 4), Compression.XZ) as found:
        assert read(found, 100) == b"body"
    with unpacked(Row(packed, MIB + 1), Compression.XZ) as found, pytest.raises(ImageDamaged, match="padded"):
        read(found, 100)


def test_zeros_are_nothing_but_padding() -> None:
    packed = gzip.compress(b"body")
    with unpacked(Row(packed, 5, packed[3:])) as found, pytest.raises(ImageDamaged, match="followed by something else"):
        read(found, 100)


def test_a_source_that_fails_fails_as_itself() -> None:
    failing = Row(gzip.compress(b"body")[:10], error=SourceFailed(source="disk.img", reason="gone", offset=10))
    with unpacked(failing) as found, pytest.raises(SourceFailed, match="gone"):
        read(found, 100)


def test_what_is_stopped_in_the_middle_is_neither_whole_nor_truncated() -> None:
    """Also where the source has given a whole stream, after which it could end."""
    row = Row(gzip.compress(b"body"), 1, waits=True)
    with unpacked(row) as found:
        other = threading.Timer(0.05, found.stop)
        other.start()
        with pytest.raises(Cancelled):
            read(found, 100)
        other.join()
    assert row.stopped.is_set()


def test_what_is_compressed_has_one_order() -> None:
    with unpacked(Row(gzip.compress(b"body"))) as found, pytest.raises(SourceFailed, match="out of order"):
        found.read_ranges([ByteRange(0, 1)])
