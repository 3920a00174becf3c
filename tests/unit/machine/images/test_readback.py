"""Remembering what was written, and finding every difference with as few readings as there are steps."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.machine.images.readback import Reader, Record, Written
from libironic_disk.units import MIB

GRAIN = 16


class Disk:
    """Bytes that are read as a device is read, in whole sectors."""

    def __init__(self, contents: bytes) -> None:
        self.contents = contents
        self.readings = 0

    def read(self, offset: int, room: memoryview) -> int:
        assert offset % GRAIN == 0
        assert len(room) % GRAIN == 0
        self.readings += 1
        found = self.contents[offset : offset + len(room)]
        room[: len(found)] = found
        return len(found)


def mismatch(disk: Disk, record: Record, moved: list[int]) -> int | None:
    with closing(Reader(disk.read, GRAIN)) as reader:
        for run in record.runs():
            found = reader.mismatch(run, moved.append)
            if found is not None:
                return found
    return None


def remembered(contents: bytes, spans: Sequence[tuple[int, int]]) -> Record:
    """Remember ranges of a disk, those of zeros as such."""
    record = Record()
    for start, end in spans:
        data = contents[start:end]
        if any(data):
            record.wrote(start, memoryview(data))
        else:
            record.zeroed(start, end - start)
    return record


@given(
    bits=st.lists(st.booleans(), min_size=1, max_size=40),
    cuts=st.sets(st.integers(0, 400), max_size=20),
    order=st.randoms(use_true_random=False),
    left_out=st.sets(st.integers(0, 20)),
    where=st.integers(0, 399),
)
def test_any_byte_that_differs_is_found_and_none_else(
    bits: list[bool], cuts: set[int], order: Random, left_out: set[int], where: int
) -> None:
    contents = b"".join((b"0123456789" if bit else bytes(10)) for bit in bits)
    edges = sorted({0, len(contents)} | {cut for cut in cuts if cut < len(contents)})
    spans = [span for number, span in enumerate(pairwise(edges)) if number not in left_out]
    order.shuffle(spans)
    record, disk = remembered(contents, spans), Disk(contents.ljust(1000, b"\xaa"))
    moved: list[int] = []
    assert mismatch(disk, record, moved) is None
    assert sum(moved) == sum(end - start for start, end in spans)
    at = where % len(contents)
    changed = bytearray(disk.contents)
    changed[at] ^= 1
    found = mismatch(Disk(bytes(changed)), record, [])
    inside = [span for span in spans if span[0] <= at < span[1]]
    if not inside:
        assert found is None
    elif any(contents[slice(*inside[0])]):
        assert found == inside[0][0]
    else:
        assert found == at


def test_small_ranges_that_adjoin_are_read_in_large_steps() -> None:
    contents = bytes(range(1, 251)) * 40_000
    spans = [(at, at + 1000) for at in range(0, len(contents), 1000)]
    record, disk = remembered(contents, spans[::-1]), Disk(contents.ljust(11 * MIB))
    moved: list[int] = []
    assert mismatch(disk, record, moved) is None
    # 10 MB in steps of 4 MiB, and what is sorted together ends once in between.
    assert disk.readings <= 5
    assert sum(moved) == len(contents)


def test_zeros_behind_each_other_are_one_range() -> None:
    record = Record()
    for at in range(0, 1000, 10):
        record.zeroed(at, 10)
    record.wrote(1000, memoryview(b"x"))
    record.zeroed(1001, 9)
    record.zeroed(2000, 0)
    record.wrote(3000, memoryview(b""))
    (run,) = record.runs()
    assert [(each.offset, each.length) for each in run] == [(0, 1000), (1000, 1), (1001, 9)]


def test_runs_end_where_there_is_a_gap() -> None:
    record = Record()
    for start, end in ((50, 60), (0, 10), (20, 30), (10, 20), (60, 61)):
        record.wrote(start, memoryview(b"x" * (end - start)))
    assert [[each.offset for each in run] for run in record.runs()] == [[0, 10, 20], [50, 60]]


def test_any_thread_may_add() -> None:
    record = Record()

    def work(number: int) -> None:
        for at in range(number, 4000, 4):
            if at % 3:
                record.wrote(at, memoryview(b"x"))
            else:
                record.zeroed(at, 1)

    with ThreadPoolExecutor(4) as threads:
        for _ in threads.map(work, range(4)):
            pass
    ranges = [each for run in record.runs() for each in run]
    assert [each.offset for each in ranges] == [*range(4000)]
    assert {each.length for each in ranges} == {1}


def test_a_disk_that_became_shorter_is_an_error() -> None:
    record = remembered(b"x" * 100, [(0, 100)])
    with pytest.raises(OSError, match="became shorter"):
        mismatch(Disk(b"x" * 80), record, [])
    # No more is missed than was written.
    assert mismatch(Disk(b"x" * 100), record, []) is None


def test_what_a_report_raises_ends_the_comparison() -> None:
    def moved(count: int) -> None:
        raise ZeroDivisionError

    with closing(Reader(Disk(bytes(100)).read, GRAIN)) as reader, pytest.raises(ZeroDivisionError):
        reader.mismatch([Written(offset=0, length=100, check=0)], moved)
