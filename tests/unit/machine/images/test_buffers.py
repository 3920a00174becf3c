"""Buffers: a fixed number, each given out again only when its last holder has released it."""

from __future__ import annotations

import mmap
import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

from libironic_disk.machine.images import file_ranges
from libironic_disk.machine.images.buffers import BUFFER_SIZE, Buffer, BufferPool


def taken(pool: BufferPool) -> Buffer:
    buffer = pool.take()
    assert buffer is not None
    return buffer


def takes_soon(pool: BufferPool) -> bool:
    """Whether somebody who asks now needn't wait; the buffer is released again."""
    got: list[Buffer | None] = []
    asker = threading.Thread(target=lambda: got.append(pool.take()), daemon=True)
    asker.start()
    asker.join(0.2)
    if asker.is_alive():
        pool.close()
        asker.join()
        return False
    if got[0] is not None:
        got[0].release()
    return True


def test_a_buffer_is_whole_pages() -> None:
    buffer = taken(BufferPool(1))
    assert len(buffer.view) == BUFFER_SIZE
    assert file_ranges.address(buffer.view) % mmap.PAGESIZE == 0


def test_there_are_as_many_as_there_are() -> None:
    pool = BufferPool(2, 4096)
    first, second = taken(pool), taken(pool)
    assert first is not second
    first.release()
    assert taken(pool) is first
    assert not takes_soon(pool)


def test_the_last_holder_gives_it_back() -> None:
    pool = BufferPool(1, 4096)
    buffer = taken(pool)
    for _ in range(3):
        buffer.hold()
    for _ in range(3):
        buffer.release()
    # The one who took it still holds it.
    buffer.hold()
    buffer.release()
    buffer.release()
    assert takes_soon(pool)
    buffer = taken(pool)
    buffer.hold()
    buffer.release()
    assert not takes_soon(pool)


def test_closing_ends_every_waiting_now_and_later() -> None:
    pool = BufferPool(1, 4096)
    held = taken(pool)
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(pool.take) for _ in range(3)]
        pool.close()
        assert [each.result(10) for each in waiting] == [None] * 3
    # What comes back afterwards is nobody's.
    held.release()
    assert pool.take() is None
    assert pool.take() is None


def test_no_buffer_has_two_owners_however_many_threads_pass_it_on() -> None:
    pool = BufferPool(3, 4096)
    wrong: list[int] = []

    def work(number: int) -> None:
        chance = Random(number)
        for turn in range(300):
            buffer = taken(pool)
            mark = (number * 300 + turn).to_bytes(4)
            buffer.view[:4] = mark
            parts = chance.randrange(4)
            for _ in range(parts):
                buffer.hold()
            # The others are released by another thread, in the middle of it.
            others = [threads.submit(buffer.release) for _ in range(parts)]
            if buffer.view[:4] != mark:
                wrong.append(turn)
            for each in others:
                each.result()
            if buffer.view[:4] != mark:
                wrong.append(turn)
            buffer.release()

    with ThreadPoolExecutor(2) as threads, ThreadPoolExecutor(5) as owners:
        for _ in owners.map(work, range(5)):
            pass
    assert not wrong
