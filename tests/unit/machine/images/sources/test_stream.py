"""Reading a stream that may be peeked at, and that may misbehave."""

from __future__ import annotations

import io
from array import array
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import Cancelled, SourceFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine.images.sources import Data
from libironic_disk.machine.images.sources.stream import Pieces, Readable, StreamSource
from libironic_disk.pure.images.qcow2_events import MetadataAccess
from libironic_disk.pure.ranges import ByteRange


class Dribble:
    """A stream that gives what it likes, in pieces of its own choosing, then ends or fails."""

    def __init__(self, pieces: list[bytes], error: Exception | None = None) -> None:
        self._pieces = pieces
        self._error = error

    def read(self, size: int, /) -> bytes | None:
        if self._pieces:
            piece = self._pieces.pop(0)
            if len(piece) > size:
                self._pieces.insert(0, piece[size:])
            return piece[:size]
        if self._error is not None:
            raise self._error
        return b""


def read(source: StreamSource, buffer_size: int = 10) -> bytes:
    buffer = memoryview(bytearray(buffer_size))
    whole = bytearray()
    with source.opened() as opened:
        while (piece := opened.fill(buffer)) is not None:
            assert isinstance(piece, Data)
            assert piece.offset == len(whole)
            whole += piece.data
    return bytes(whole)


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=20),
    peeks=st.lists(st.integers(1, 50), max_size=8),
    buffer_size=st.integers(1, 60),
    announced=st.booleans(),
)
def test_no_byte_is_lost_by_peeking(pieces: list[bytes], peeks: list[int], buffer_size: int, announced: bool) -> None:
    whole = b"".join(pieces)
    source = StreamSource(Dribble([*pieces]), name="test", size=len(whole) if announced else None)
    peeked = b"".join(source.peek(length) for length in peeks)
    assert source.head == peeked == whole[: len(peeked)]
    assert read(source, buffer_size) == whole


def failing(stream: Readable, size: int | None) -> SourceFailed:
    source = StreamSource(stream, name="the upload", size=size)
    with pytest.raises(SourceFailed, match="the upload") as failed:
        read(source)
    return failed.value


def test_a_stream_that_ends_early_fails_where_it_ended() -> None:
    failed = failing(Dribble([b"x" * 25]), 30)
    assert "ended early" in failed.reason
    assert failed.offset == 25


def test_a_stream_that_goes_on_fails_where_it_should_have_ended() -> None:
    failed = failing(Dribble([b"x" * 31]), 30)
    assert "more bytes" in failed.reason
    assert failed.offset == 30


def test_what_a_stream_raises_is_the_reason() -> None:
    failed = failing(Dribble([b"x" * 25], ConnectionResetError("reset by peer")), None)
    assert failed.reason == "reset by peer"
    assert failed.offset == 25
    assert isinstance(failed.__cause__, ConnectionResetError)


def test_a_stream_that_does_not_block_is_refused() -> None:
    class Hasty:
        def read(self, size: int, /) -> bytes | None:
            return None

    assert "block" in failing(Hasty(), None).reason


def test_a_stream_that_gives_more_than_it_was_asked_for_is_refused() -> None:
    class Generous:
        def read(self, size: int, /) -> bytes | None:
            return bytes(size + 1)

    assert "asked for" in failing(Generous(), None).reason


def test_a_stream_that_gives_text_is_refused() -> None:
    class Text:
        def read(self, size: int, /) -> str:
            return "image"

    stream = cast("Readable", Text())
    assert "gives str and not bytes" in failing(stream, None).reason
    with pytest.raises(SourceFailed, match="gives str"):
        StreamSource(stream, name="the upload", size=None).peek(5)


def test_a_stream_that_is_being_read_is_not_peeked_at() -> None:
    source = StreamSource(io.BytesIO(b"image"), name="the upload", size=None)
    source.peek(2)
    with source.opened() as opened:
        with pytest.raises(SourceFailed, match="once"):
            source.peek(1)
        buffer = memoryview(bytearray(10))
        pieces = [opened.fill(buffer) for _ in range(3)]
        assert [piece and (piece.offset, piece.end) for piece in pieces] == [(0, 2), (2, 5), None]
    with pytest.raises(SourceFailed, match="once"):
        source.peek(1)


@pytest.mark.parametrize("stopped", [True, False])
def test_a_stream_that_was_stopped_or_cancelled_is_read_no_further(stopped: bool) -> None:
    stream, cancel = io.BytesIO(b"image"), Cancellation()
    with StreamSource(stream, name="the upload", size=None).opened(cancel=cancel) as opened:
        opened.fill(memoryview(bytearray(2)))
        if stopped:
            opened.stop()
        else:
            cancel.cancel()
        with pytest.raises(Cancelled):
            opened.fill(memoryview(bytearray(2)))
    assert stream.tell() == 2


def test_a_stream_has_one_order() -> None:
    source = StreamSource(io.BytesIO(b"image"), name="the upload", size=5)
    assert source.access is MetadataAccess.NEVER
    with source.opened() as opened, pytest.raises(SourceFailed, match="out of order"):
        opened.read_ranges([ByteRange(0, 1)])


@given(pieces=st.lists(st.binary(max_size=40), max_size=20), sizes=st.lists(st.integers(1, 50), max_size=30))
def test_pieces_are_a_stream(pieces: list[bytes], sizes: list[int]) -> None:
    stream = Pieces(pieces)
    found = [stream.read(size) for size in sizes]
    assert all(len(piece) <= size for piece, size in zip(found, sizes, strict=True))
    # Some or none before the end, and none only there.
    rest = b"".join(iter(lambda: stream.read(7), b""))
    assert b"".join(found) + rest == b"".join(pieces)
    assert stream.read(1) == b""


def test_pieces_may_be_views_of_anything() -> None:
    pieces = cast("list[bytes]", [array("I", [1, 2]), memoryview(b"xyz")])
    assert Pieces(pieces).read(5) == array("I", [1, 2]).tobytes()[:5]
    assert failing(Pieces(cast("list[bytes]", ["text"])), None).reason.startswith("memoryview")


def test_a_stream_is_read_once() -> None:
    source = StreamSource(io.BytesIO(b"image"), name="the upload", size=None)
    assert read(source) == b"image"
    with pytest.raises(SourceFailed, match="once"):
        read(source)


def test_the_stream_stays_open() -> None:
    stream = io.BytesIO(b"image")
    read(StreamSource(stream, name="the upload", size=None))
    assert not stream.closed
