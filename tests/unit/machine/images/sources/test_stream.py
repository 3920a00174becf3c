"""Reading a stream that may be peeked at, and that may misbehave."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import SourceFailed
from libironic_disk.machine.images.sources import Data
from libironic_disk.machine.images.sources.stream import Readable, StreamSource


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


def test_a_stream_is_read_once() -> None:
    source = StreamSource(io.BytesIO(b"image"), name="the upload", size=None)
    assert read(source) == b"image"
    with pytest.raises(SourceFailed, match="once"):
        read(source)


def test_the_stream_stays_open() -> None:
    stream = io.BytesIO(b"image")
    read(StreamSource(stream, name="the upload", size=None))
    assert not stream.closed
