"""Reading ahead: in order, bounded, and the thread always ends."""

from __future__ import annotations

import threading
import time

import pytest

from libironic_disk.errors import Cancelled, SourceFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine.images.sources import Data, Piece, Zeros
from libironic_disk.machine.images.sources.readahead import reading_ahead


class Counting:
    """A source of numbered pieces that remembers how far it was read."""

    def __init__(self, count: int, *, zeros: bool = False, error: BaseException | None = None) -> None:
        self.given = 0
        self._count = count
        self._zeros = zeros
        self._error = error

    def fill(self, buffer: memoryview) -> Piece | None:
        if self.given == self._count:
            if self._error is not None:
                raise self._error
            return None
        number = self.given
        self.given += 1
        if self._zeros:
            return Zeros(offset=number, length=1)
        buffer[0] = number % 256
        return Data(offset=number, data=buffer[:1])


def no_thread_is_left() -> bool:
    return not any(thread.name == "libironic_disk-read" for thread in threading.enumerate())


def test_pieces_come_in_order_and_keep_their_bytes_until_the_next() -> None:
    with reading_ahead(Counting(1000)) as pieces:
        for number, piece in enumerate(pieces):
            assert isinstance(piece, Data)
            assert (piece.offset, piece.data[0]) == (number, number % 256)
    assert number == 999
    assert no_thread_is_left()


@pytest.mark.parametrize("zeros", [False, True])
def test_it_reads_ahead_by_a_few_pieces_only(zeros: bool) -> None:
    source = Counting(1000, zeros=zeros)
    with reading_ahead(source) as pieces:
        next(pieces)
        deadline = time.monotonic() + 5
        while source.given < 4 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.05)
        assert source.given == 4
    assert no_thread_is_left()


def test_what_reading_raises_arrives_after_the_pieces_before_it() -> None:
    taken: list[int] = []
    with (
        pytest.raises(SourceFailed, match="gone"),
        reading_ahead(Counting(3, error=SourceFailed(source="s", reason="gone"))) as pieces,
    ):
        taken.extend(piece.offset for piece in pieces)
    assert taken == [0, 1, 2]
    assert no_thread_is_left()


def test_the_thread_ends_when_the_writer_fails() -> None:
    with pytest.raises(ZeroDivisionError), reading_ahead(Counting(1000)) as pieces:
        next(pieces)
        raise ZeroDivisionError
    assert no_thread_is_left()


def test_a_stalled_source_can_be_cancelled() -> None:
    released = threading.Event()

    class Stalled:
        def fill(self, buffer: memoryview) -> Piece | None:
            released.wait(10)
            return None

    cancel = Cancellation()
    timer = threading.Timer(0.05, cancel.cancel)
    timer.start()
    started = time.monotonic()
    with pytest.raises(Cancelled), reading_ahead(Stalled(), cancel=cancel) as pieces:
        try:
            next(pieces)
        finally:
            assert time.monotonic() - started < 1
            released.set()
    timer.join()
    assert no_thread_is_left()
