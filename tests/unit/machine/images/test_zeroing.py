"""The ladder of ways to zero a range; on real disks it is tested in tests/loopdevices."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.machine.images import file_ranges
from libironic_disk.machine.images.zeroing import Zeroer
from libironic_disk.units import KIB

SIZE = 64 * KIB


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "target"
    path.write_bytes(b"\xaa" * SIZE)
    opened = os.open(path, os.O_RDWR)
    yield opened
    os.close(opened)


@given(edges=st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), grain=st.sampled_from([512, 4096]))
def test_exactly_the_range_becomes_zero(
    tmp_path_factory: pytest.TempPathFactory, edges: tuple[int, int], grain: int
) -> None:
    start, end = sorted(edges)
    path = tmp_path_factory.mktemp("zeroing") / "target"
    path.write_bytes(b"\xaa" * SIZE)
    with path.open("r+b") as file:
        Zeroer(file.fileno(), grain).zero(start, end)
    assert path.read_bytes() == b"\xaa" * start + bytes(end - start) + b"\xaa" * (SIZE - end)
    path.unlink()


@pytest.mark.parametrize("refused", [0, 1, 2])
def test_a_way_that_is_refused_is_tried_once_only(
    descriptor: int, refused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    real = file_ranges.allocate

    def allocate(descriptor: int, mode: int, start: int, length: int) -> None:
        tried.append(mode)
        if mode in modes[:refused]:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        real(descriptor, mode, start, length)

    modes = (
        file_ranges.PUNCH_HOLE | file_ranges.KEEP_SIZE,
        file_ranges.ZERO_RANGE | file_ranges.KEEP_SIZE,
    )
    monkeypatch.setattr(file_ranges, "allocate", allocate)
    zeroer = Zeroer(descriptor, 512)
    zeroer.zero(0, 8192)
    zeroer.zero(16384, SIZE)
    again = [modes[refused]] if refused < 2 else []
    assert tried == [*modes[:refused], *again, *again]
    assert os.pread(descriptor, SIZE, 0) == bytes(8192) + b"\xaa" * 8192 + bytes(SIZE - 16384)


def test_an_error_of_the_disk_is_no_refusal(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def allocate(descriptor: int, mode: int, start: int, length: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(file_ranges, "allocate", allocate)
    with pytest.raises(OSError, match="Input/output"):
        Zeroer(descriptor, 512).zero(0, 8192)
