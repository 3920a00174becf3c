"""Ranges of bytes, compared with sets of numbers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.pure.ranges import ByteRange, edges, merged, without

RANGES = st.lists(st.builds(ByteRange, st.integers(0, 60), st.integers(0, 60)), max_size=8)


def numbers(ranges: list[ByteRange] | tuple[ByteRange, ...]) -> set[int]:
    return {number for span in ranges for number in range(span.start, span.end)}


@given(RANGES)
def test_merged_ranges_are_the_same_bytes_in_order_and_apart(ranges: list[ByteRange]) -> None:
    result = merged(ranges)
    assert numbers(result) == numbers(ranges)
    assert all(span.size > 0 for span in result)
    assert all(one.end < other.start for one, other in pairwise(result))


@given(RANGES, RANGES)
def test_no_untouched_byte_is_left_in_and_no_other_is_left_out(ranges: list[ByteRange], holes: list[ByteRange]) -> None:
    result = without(ranges, holes)
    assert numbers(result) == numbers(ranges) - numbers(holes)
    assert result == merged(result)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 60))
def test_edges_are_the_first_and_last_bytes_and_never_more_than_the_range(start: int, size: int, depth: int) -> None:
    span = ByteRange(start, start + size)
    first, last = edges(span, depth)
    assert first.size == last.size == min(depth, size)
    assert (first.start, last.end) == (span.start, span.end)
    assert numbers([first, last]) <= numbers([span])


def test_a_range_knows_its_size() -> None:
    assert ByteRange(3, 10).size == 7
