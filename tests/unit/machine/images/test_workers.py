"""Threads that unpack and write: everything once and right, zeros left to the disk, the first error and no thread."""

from __future__ import annotations

import random
import threading
import time
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libironic_disk.errors import Cancelled, DeviceFailed, ImageDamaged
from libironic_disk.events import Cancellation, ignore
from libironic_disk.machine.images.buffers import Buffer, BufferPool
from libironic_disk.machine.images.metering import Meter
from libironic_disk.machine.images.workers import Batch, Workers, Zero
from libironic_disk.pure.images.qcow2 import Compression
from libironic_disk.pure.images.qcow2_events import Compressed, Raw
from libironic_disk.units import GIB, KIB, MIB

BLOCK = 256 * KIB


def nothing(offset: int) -> None:
    """Do nothing more when something is written."""


class Memory:
    """A target in memory that remembers what it was asked, and does something more first."""

    def __init__(self, size: int = 4 * MIB, *, act: Callable[[int], None] = nothing) -> None:
        self.bytes = bytearray(b"\xaa" * size)
        self.written: list[tuple[int, int]] = []
        self.zeroed: list[tuple[int, int]] = []
        self._act = act

    @property
    def name(self) -> str:
        return "/dev/memory"

    @property
    def capacity(self) -> int:
        return len(self.bytes)

    def write(self, offset: int, data: memoryview) -> None:
        assert data
        self._act(offset)
        self.written.append((offset, len(data)))
        self.bytes[offset : offset + len(data)] = data

    def zero(self, offset: int, length: int) -> None:
        self._act(offset)
        self.zeroed.append((offset, length))
        if offset + length <= len(self.bytes):
            self.bytes[offset : offset + length] = bytes(length)

    def flush(self) -> None:
        raise NotImplementedError

    def scratch(self, offset: int, data: memoryview) -> None:
        raise NotImplementedError

    def recall(self, offset: int, length: int) -> bytes:
        raise NotImplementedError


def waiting_for(event: threading.Event) -> Callable[[int], None]:
    def act(offset: int) -> None:
        event.wait(10)

    return act


def workers(target: Memory, *, count: int = 3, meter: Meter | None = None) -> Workers:
    return Workers(target, image="test.img", count=count, meter=meter or Meter(ignore, None, None))


def data(offset: int, content: bytes, buffer: Buffer | None = None) -> Batch:
    return Batch(items=(Raw(guest_offset=offset, data=memoryview(content)),), buffer=buffer)


def cluster(offset: int, content: bytes) -> Compressed:
    packer = zlib.compressobj(1, wbits=-15)
    payload = packer.compress(content) + packer.flush()
    return Compressed(
        guest_offset=offset,
        length=len(content),
        kind=Compression.ZLIB,
        payload=memoryview(payload),
        cluster_size=len(content),
        host_offset=77,
    )


def no_thread_is_left() -> bool:
    return not any(thread.name.startswith("libironic_disk-write") for thread in threading.enumerate())


def content(chance: random.Random, length: int) -> bytes:
    """Return noise with rows of zeros in it."""
    found = bytearray(chance.randbytes(length))
    for _ in range(chance.randrange(3)):
        start = chance.randrange(length)
        end = min(length, start + chance.choice([1, 1000, BLOCK, 2 * BLOCK, length]))
        found[start:end] = bytes(end - start)
    return bytes(found)


@settings(max_examples=40)
@given(
    lengths=st.lists(st.sampled_from([1, 512, 4096, 64 * KIB, 128 * KIB, BLOCK + 1, MIB]), min_size=1, max_size=12),
    batch=st.integers(1, 5),
    seed=st.integers(0, 1 << 32),
)
def test_everything_arrives_once_however_it_is_batched(lengths: list[int], batch: int, seed: int) -> None:
    chance = random.Random(seed)
    target = Memory(13 * MIB)
    expected = bytearray(target.bytes)
    items: list[Raw | Compressed | Zero] = []
    offset = 0
    for length in lengths:
        offset += chance.choice([0, 0, 0, 7])
        piece = content(chance, length)
        kind = chance.randrange(3)
        if kind == 0:
            piece = bytes(length)
            items.append(Zero(offset=offset, length=length))
        else:
            items.append(cluster(offset, piece) if kind == 1 else Raw(guest_offset=offset, data=memoryview(piece)))
        expected[offset : offset + length] = piece
        offset += length
    rows = [items[at : at + batch] for at in range(0, len(items), batch)]
    chance.shuffle(rows)
    meter = Meter(ignore, None, None)
    with workers(target, meter=meter) as crew:
        for row in rows:
            crew.put(Batch(items=[item for item in row if not isinstance(item, Zero)], buffer=None))
            for item in row:
                if isinstance(item, Zero):
                    crew.put(item)
        crew.finish()
    assert target.bytes == expected
    assert meter.written == sum(length for _, length in target.written)
    assert meter.zeroed == sum(length for _, length in target.zeroed)
    assert meter.written + meter.zeroed == sum(lengths)
    assert no_thread_is_left()


def test_long_rows_of_zeros_in_data_are_left_to_the_disk() -> None:
    target = Memory()
    noise = random.Random(1).randbytes(BLOCK)
    almost = bytes(BLOCK // 2) + b"\1" + bytes(BLOCK // 2 - 1)
    with workers(target) as crew:
        crew.put(data(0, noise + bytes(2 * BLOCK) + almost + noise + bytes(BLOCK) + bytes(5)))
        crew.finish()
    assert sorted(target.zeroed) == [(BLOCK, BLOCK), (2 * BLOCK, BLOCK), (5 * BLOCK, BLOCK), (6 * BLOCK, 5)]
    assert sorted(target.written) == [(0, BLOCK), (3 * BLOCK, 2 * BLOCK)]
    assert target.bytes[: 6 * BLOCK + 6] == (
        noise + bytes(2 * BLOCK) + almost + noise + bytes(BLOCK) + bytes(5) + b"\xaa"
    )


def test_small_clusters_that_follow_each_other_are_one_write() -> None:
    target = Memory()
    pieces = [bytes([number]) * 4096 for number in range(1, 41)]
    items: list[Raw | Compressed] = [
        cluster(at * 4096, piece) if at % 2 else Raw(guest_offset=at * 4096, data=memoryview(piece))
        for at, piece in enumerate(pieces)
    ]
    with workers(target) as crew:
        crew.put(Batch(items=items, buffer=None))
        crew.finish()
    assert target.written == [(0, 40 * 4096)]
    assert target.bytes[: 40 * 4096] == b"".join(pieces)


def test_a_buffer_is_released_once_its_data_is_written_and_not_before() -> None:
    pool = BufferPool(1, 4096)
    buffer = pool.take()
    assert buffer is not None
    buffer.view[:] = b"x" * 4096
    go_on = threading.Event()
    target = Memory(act=waiting_for(go_on))
    again: list[Buffer | None] = []
    taker = threading.Thread(target=lambda: again.append(pool.take()))
    with workers(target) as crew:
        crew.put(Batch(items=(Raw(guest_offset=0, data=buffer.view),), buffer=buffer))
        taker.start()
        taker.join(0.05)
        assert not again
        go_on.set()
        crew.finish()
        taker.join(10)
    assert again == [buffer]
    assert target.bytes[:4096] == b"x" * 4096


def failing(reason: str) -> DeviceFailed:
    return DeviceFailed(device="/dev/memory", action="writing", reason=reason)


def test_the_first_error_wins_and_what_waits_is_not_done() -> None:
    all_put_and_two_begun = threading.Barrier(3)

    def act(offset: int) -> None:
        if offset <= 4096:
            all_put_and_two_begun.wait(10)
        if offset == 0:
            raise failing("first")
        if offset == 4096:
            # It fails as well, but only after the other has.
            while crew._failure is None:
                time.sleep(0.001)
            raise failing("second")

    target = Memory(act=act)
    pool = BufferPool(4, 4096)
    buffers = [pool.take() for _ in range(4)]
    with pytest.raises(DeviceFailed, match="first"), workers(target, count=2) as crew:
        for number, buffer in enumerate(buffers):
            crew.put(data(number * 4096, b"x", buffer))
        all_put_and_two_begun.wait(10)
        try:
            crew.finish()
        finally:
            # Every later call says the same.
            with pytest.raises(DeviceFailed, match="first"):
                crew.put(Zero(offset=0, length=1))
            with pytest.raises(DeviceFailed, match="first"):
                crew.finish()
    assert not target.written
    assert not target.zeroed
    # What waited isn't done, and its buffers are free again.
    assert {pool.take() for _ in range(4)} == {*buffers}
    assert no_thread_is_left()


def test_a_cluster_that_does_not_unpack_is_the_images_fault() -> None:
    damaged = cluster(0, b"x" * 4096)
    broken = Compressed(
        guest_offset=0,
        length=4096,
        kind=Compression.ZLIB,
        payload=damaged.payload[:5],
        cluster_size=4096,
        host_offset=77,
    )
    with workers(Memory()) as crew, pytest.raises(ImageDamaged, match=r"test\.img is damaged at byte 77"):
        crew.put(Batch(items=(broken,), buffer=None))
        crew.finish()


@pytest.mark.parametrize("finishing", [False, True], ids=["put", "finish"])
def test_cancelling_ends_the_waiting_for_a_disk_that_is_busy(finishing: bool) -> None:
    cancel, go_on = Cancellation(), threading.Event()
    target = Memory(act=waiting_for(go_on))
    meter = Meter(ignore, None, cancel)
    put = 0
    with workers(target, count=2, meter=meter) as crew:
        crew.put(data(0, b"x"))
        timer = threading.Timer(0.05, cancel.cancel)
        timer.start()
        with pytest.raises(Cancelled):
            if finishing:
                crew.finish()
            # As many wait as there is room for, and the next one isn't taken.
            for put in range(1000):  # noqa: B007
                crew.put(data(0, b"x"))
        go_on.set()
        timer.join()
    assert put < 20
    assert len(target.written) <= 2
    assert no_thread_is_left()


def test_whoever_leaves_early_waits_for_nothing_but_what_is_being_done() -> None:
    target = Memory(act=lambda offset: time.sleep(0.01))
    with pytest.raises(ZeroDivisionError), workers(target, count=2) as crew:
        for _ in range(8):
            crew.put(data(0, b"x"))
        raise ZeroDivisionError
    assert len(target.written) < 8
    assert no_thread_is_left()


@pytest.mark.parametrize("seconds_for_a_gib", [0.001, 0.5, 60])
def test_zeroing_goes_in_steps_that_a_cancellation_can_wait_for(
    seconds_for_a_gib: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    slowest = [0.0]
    target = Memory()

    def zero(offset: int, length: int) -> None:
        seconds = length / GIB * seconds_for_a_gib
        now[0] += seconds
        if len(target.zeroed) > 10:
            slowest[0] = max(slowest[0], seconds)
        target.zeroed.append((offset, length))

    monkeypatch.setattr(target, "zero", zero)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with workers(target, count=1) as crew:
        crew.put(Zero(offset=5, length=200 * GIB))
        crew.finish()
    end = 5
    for offset, length in target.zeroed:
        assert offset == end
        end += length
    assert end == 5 + 200 * GIB
    # As large as that time allows, and no larger than it does.
    assert slowest[0] < 0.25
    assert len(target.zeroed) < 20 + 200 * seconds_for_a_gib / 0.01


def test_a_large_range_is_not_zeroed_on_once_somebody_failed() -> None:
    cancel = Cancellation()

    def act(offset: int) -> None:
        time.sleep(0.02)
        if offset > GIB:
            cancel.cancel()

    target = Memory(act=act)
    with pytest.raises(Cancelled), workers(target, count=1, meter=Meter(ignore, None, cancel)) as crew:
        crew.put(Zero(offset=0, length=10_000_000 * GIB))
        crew.finish()
    assert len(target.zeroed) < 1000
    assert no_thread_is_left()
