"""The map of a file: its order against a plain sorted list."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import ImageRefused
from libironic_disk.pure.images import qcow2_map
from libironic_disk.pure.images.qcow2_entries import bit_runs
from libironic_disk.pure.images.qcow2_map import Extent, ExtentMap, Kind, RangeSet, compressed_length

extents = st.builds(
    Extent, st.integers(0, 2**56), st.integers(0, 2**62), st.sampled_from(Kind), st.integers(1, 2**32 - 1)
)


@given(batches=st.lists(st.tuples(st.lists(extents, max_size=40), st.integers(0, 30)), max_size=20))
def test_extents_come_back_in_the_order_of_the_file(batches: list[tuple[list[Extent], int]]) -> None:
    extent_map = ExtentMap("test")
    inside: list[Extent] = []
    for batch, takes in batches:
        for extent in batch:
            extent_map.add(extent)
            inside.append(extent)
        for _ in range(min(takes, len(inside))):
            found = extent_map.pop()
            assert found.start == min(extent.start for extent in inside)
            inside.remove(found)
        assert len(extent_map) == len(inside)
        tables = sorted((each.start, each.guest) for each in inside if each.kind is Kind.L2_TABLE)
        starts, guests = extent_map.places(Kind.L2_TABLE)
        assert sorted(zip(starts, guests, strict=True)) == tables
        assert list(starts) == sorted(starts)
    while extent_map.first() is not None:
        inside.remove(extent_map.pop())
    assert not inside
    with pytest.raises(IndexError):
        extent_map.pop()


def test_a_row_is_shortened_from_its_start() -> None:
    extent_map = ExtentMap("test")
    with pytest.raises(IndexError):
        extent_map.shorten(1, 512)
    extent_map.add(Extent(1024, 4096, Kind.DATA, 5))
    extent_map.add(Extent(9 * 512, 0, Kind.DATA, 1))
    extent_map.shorten(2, 512)
    assert extent_map.pop() == Extent(2048, 5120, Kind.DATA, 3)
    assert extent_map.pop() == Extent(9 * 512, 0, Kind.DATA, 1)


def test_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qcow2_map, "_MOST_EXTENTS", 5000)
    extent_map = ExtentMap("test")
    with pytest.raises(ImageRefused, match="5000 fragments"):
        for at in range(10_000):
            extent_map.add(Extent(at, at, Kind.DATA, 1))
    assert len(extent_map) < 10_000


@given(bitmap=st.integers(0, 2**32 - 1))
def test_runs_of_bits(bitmap: int) -> None:
    runs = list(bit_runs(bitmap))
    assert sum((1 << length) - 1 << start for start, length in runs) == bitmap
    assert all(start + length < following for (start, length), (following, _) in pairwise(runs))


@given(cuts=st.sets(st.integers(0, 300), max_size=40), asked=st.tuples(st.integers(0, 300), st.integers(0, 300)))
def test_ranges_know_what_is_in_them(cuts: set[int], asked: tuple[int, int]) -> None:
    ordered = sorted(cuts)
    ranges = list(zip(ordered[::2], ordered[1::2], strict=False))
    found = RangeSet()
    for each in reversed(ranges):
        found.add(*each)
    expected = asked[0] >= asked[1] or any(start <= asked[0] and asked[1] <= end for start, end in ranges)
    assert found.contains(*asked) == expected


def test_a_compressed_cluster_ends_with_a_sector() -> None:
    assert compressed_length(0, 0) == 512
    assert compressed_length(511, 0) == 1
    assert compressed_length(513, 2) == 511 + 1024
