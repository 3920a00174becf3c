"""Reading ahead: in order, in whole buffers, bounded by them, and the thread always ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from libironic_disk.errors import Cancelled, SourceFailed
from libironic_disk.machine.images.buffers import BUFFER_SIZE
from libironic_disk.machine.images.sources import Data, Piece, Zeros
from libironic_disk.machine.images.sources.readahead import BUFFERS, Leased, Reading, reading_ahead
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.units import KIB, MIB


class Scripted:
    """A source that gives runs of numbered bytes and of zeros, data in small portions, then ends or fails."""

    def __init__(
        self, *runs: int, portion: int = 100 * KIB, error: BaseException | None = None, released: bool = True
    ) -> None:
        """Take lengths of data, and of zeros as negative numbers; unless released, wait at the end to be stopped."""
        self.fillings = 0
        self.stopped = threading.Event()
        self._runs = [*runs]
        self._portion = portion
        self._error = error
        self._released = released
        self._position = 0

    def fill(self, buffer: memoryview) -> Piece | None:
        self.fillings += 1
        if not self._runs:
            if not self._released:
                self.stopped.wait(10)
            if self._error is not None:
                raise self._error
            return None
        start = self._position
        if self._runs[0] < 0:
            self._position -= self._runs.pop(0)
            return Zeros(offset=start, length=self._position - start)
        count = min(self._runs[0], self._portion, len(buffer))
        self._runs[0] -= count
        if not self._runs[0]:
            self._runs.pop(0)
        self._position += count
        buffer[:count] = pattern(start, count)
        return Data(offset=start, data=buffer[:count])

    def stop(self) -> None:
        self.stopped.set()

    def read_ranges(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        raise NotImplementedError


def pattern(offset: int, length: int) -> bytes:
    """Return bytes that are different at every place."""
    row = bytes(range(251))
    start = offset % 251
    return (row * (length // 251 + 2))[start : start + length]


def release(leased: Leased) -> Piece:
    if leased.buffer is not None:
        leased.buffer.release()
    return leased.piece


def no_thread_is_left() -> bool:
    return not any(thread.name == "libironic_disk-read" for thread in threading.enumerate())


def eventually(holds: Callable[[], bool]) -> bool:
    """Wait for what another thread brings about."""
    deadline = time.monotonic() + 5
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.001)
    return holds()


def test_pieces_come_in_order_and_in_whole_buffers() -> None:
    found: list[tuple[int, int]] = []
    with reading_ahead(Scripted(20 * MIB + 5, -7, 3 * MIB, -MIB, -1, 1)) as pieces:
        for leased in pieces:
            piece = leased.piece
            if isinstance(piece, Data):
                assert leased.buffer is not None
                assert piece.data.obj is leased.buffer.view.obj
                assert piece.data == pattern(piece.offset, len(piece.data))
            else:
                assert leased.buffer is None
            found.append((piece.offset, piece.end - piece.offset))
            release(leased)
    # What a source gives in portions fills its buffer, but for what is before zeros or the end.
    expected = [*((at, BUFFER_SIZE) for at in range(0, 20 * MIB, BUFFER_SIZE)), (20 * MIB, 5), (20 * MIB + 5, 7)]
    at = 20 * MIB + 12
    expected += [(at, BUFFER_SIZE), (at + BUFFER_SIZE, 3 * MIB - BUFFER_SIZE)]
    expected += [(at + 3 * MIB, MIB), (at + 4 * MIB, 1), (at + 4 * MIB + 1, 1)]
    assert found == expected
    assert no_thread_is_left()


def test_a_buffer_is_used_again_once_it_was_released_and_not_before() -> None:
    source = Scripted(100 * MIB, portion=BUFFER_SIZE)
    with reading_ahead(source, buffers=3) as pieces:
        held = next(pieces)
        assert eventually(lambda: source.fillings == 3)
        others = [next(pieces) for _ in range(2)]
        # There is none left to read into.
        time.sleep(0.05)
        assert source.fillings == 3
        release(others[0])
        assert eventually(lambda: source.fillings == 4)
        release(others[1])
        for leased in pieces:
            release(leased)
        assert isinstance(held.piece, Data)
        assert held.piece.data == pattern(0, BUFFER_SIZE)
    assert no_thread_is_left()


def test_it_reads_ahead_by_its_buffers_only() -> None:
    source = Scripted(100 * MIB, portion=BUFFER_SIZE)
    with reading_ahead(source) as pieces:
        next(pieces)
        assert eventually(lambda: source.fillings == BUFFERS)
        time.sleep(0.05)
        assert source.fillings == BUFFERS
    assert no_thread_is_left()


def test_zeros_take_no_buffer() -> None:
    with reading_ahead(Scripted(*[-1] * 1000), buffers=1) as pieces:
        assert [leased.piece.offset for leased in pieces] == [*range(1000)]
    assert no_thread_is_left()


def test_what_reading_raises_arrives_after_the_pieces_before_it() -> None:
    taken: list[int] = []
    source = Scripted(1, -1, 1, -1, error=SourceFailed(source="s", reason="gone"))
    with pytest.raises(SourceFailed, match="gone"), reading_ahead(source) as pieces:
        taken.extend(release(leased).offset for leased in pieces)
    assert taken == [0, 1, 2, 3]
    assert no_thread_is_left()


def test_the_thread_ends_when_the_writer_fails_and_keeps_every_buffer() -> None:
    source = Scripted(100 * MIB)
    with pytest.raises(ZeroDivisionError), reading_ahead(source) as pieces:
        next(pieces)
        raise ZeroDivisionError
    assert source.stopped.is_set()
    assert no_thread_is_left()


def test_a_tick_ends_the_waiting_for_a_source_that_stalls() -> None:
    source = Scripted(released=False)
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 3:
            raise Cancelled(during="image")

    with pytest.raises(Cancelled), reading_ahead(source, tick=tick) as pieces:
        next(pieces)
    assert ticks == 3
    assert source.stopped.is_set()
    assert no_thread_is_left()


def test_whoever_waits_for_a_piece_is_ended_by_a_stop_from_another_thread() -> None:
    source = Scripted(-1, released=False)
    reached = threading.Event()
    with reading_ahead(source, tick=reached.set) as pieces:
        release(next(pieces))
        reached.clear()

        def stop(reading: Reading) -> None:
            reached.wait(10)
            reading.stop()

        other = threading.Thread(target=stop, args=(pieces,))
        other.start()
        with pytest.raises(Cancelled):
            for leased in pieces:
                release(leased)
        other.join()
    assert no_thread_is_left()


def test_a_stream_that_only_its_owner_can_end_holds_nobody_up() -> None:
    released = threading.Event()

    class Stuck(Scripted):
        def fill(self, buffer: memoryview) -> Piece | None:
            released.wait(10)
            return None

    started = time.monotonic()
    with reading_ahead(Stuck()):
        pass
    assert time.monotonic() - started < 5
    released.set()
    assert eventually(no_thread_is_left)
