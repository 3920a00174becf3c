"""The ladder of ways to zero a range; on real disks it is tested in tests/loopdevices."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.machine.images import file_ranges
from libironic_disk.machine.images.zeroing import Zeroer
from libironic_disk.units import KIB

SIZE = 64 * KIB
MODES = (
    file_ranges.PUNCH_HOLE | file_ranges.KEEP_SIZE,
    file_ranges.ZERO_RANGE | file_ranges.KEEP_SIZE,
)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "target"
    path.write_bytes(b"\xaa" * SIZE)
    opened = os.open(path, os.O_RDWR)
    yield opened
    os.close(opened)


def zero(descriptor: int, *ranges: tuple[int, int], grain: int = 4096) -> list[tuple[int, int]]:
    """Zero the ranges; return what was written for that, as (offset, length)."""
    written: list[tuple[int, int]] = []

    def write(offset: int, data: memoryview) -> None:
        os.pwrite(descriptor, data, offset)
        written.append((offset, len(data)))

    with closing(Zeroer(descriptor, grain, write)) as zeroer:
        for start, end in ranges:
            zeroer.zero(start, end)
    return [each for each in written if each[1]]


@given(edges=st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), grain=st.sampled_from([512, 4096, 16384]))
def test_exactly_the_range_becomes_zero_and_only_parts_of_pages_are_written(
    tmp_path_factory: pytest.TempPathFactory, edges: tuple[int, int], grain: int
) -> None:
    start, end = sorted(edges)
    path = tmp_path_factory.mktemp("zeroing") / "target"
    path.write_bytes(b"\xaa" * SIZE)
    with path.open("r+b") as file:
        written = zero(file.fileno(), (start, end), grain=grain)
    assert path.read_bytes() == b"\xaa" * start + bytes(end - start) + b"\xaa" * (SIZE - end)
    assert sum(length for _, length in written) < 2 * grain
    path.unlink()


@pytest.mark.parametrize("refused", [0, 1, 2])
def test_a_way_that_is_refused_is_tried_once_only(
    descriptor: int, refused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    real = file_ranges.allocate

    def allocate(descriptor: int, mode: int, start: int, length: int) -> None:
        tried.append(mode)
        if mode in MODES[:refused]:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        real(descriptor, mode, start, length)

    monkeypatch.setattr(file_ranges, "allocate", allocate)
    written = zero(descriptor, (0, 8192), (16384, SIZE))
    again = [MODES[refused]] if refused < 2 else []
    assert tried == [*MODES[:refused], *again, *again]
    # BLKZEROOUT is no plain file's way.
    assert written == ([(0, 8192), (16384, SIZE - 16384)] if refused == 2 else [])
    assert os.pread(descriptor, SIZE, 0) == bytes(8192) + b"\xaa" * 8192 + bytes(SIZE - 16384)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_an_error_of_the_disk_is_no_refusal(descriptor: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def allocate(descriptor: int, mode: int, start: int, length: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(file_ranges, "allocate", allocate)
    with pytest.raises(OSError, match=os.strerror(code)):
        zero(descriptor, (0, 8192))


def test_dirty_pages_in_the_way_are_no_refusal_either(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = file_ranges.allocate
    busy = [True]

    def allocate(descriptor: int, mode: int, start: int, length: int) -> None:
        if busy:
            busy.clear()
            raise OSError(errno.EBUSY, "Device or resource busy")
        assert mode == MODES[0]
        real(descriptor, mode, start, length)

    monkeypatch.setattr(file_ranges, "allocate", allocate)
    assert zero(descriptor, (0, 8192), (16384, SIZE)) == [(0, 8192)]
    assert os.pread(descriptor, SIZE, 0) == bytes(8192) + b"\xaa" * 8192 + bytes(SIZE - 16384)
