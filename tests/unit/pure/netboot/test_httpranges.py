"""What a Range header asks for, and which entity tags match."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.pure.netboot.httpranges import (
    Span,
    Unsatisfiable,
    Wanted,
    Whole,
    is_same,
    matches_strongly,
    matches_weakly,
    wanted_bytes,
)


def span(start: int, stop: int) -> Span:
    return Span(start=start, stop=stop)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, Whole()),
        ("bytes=0-0", span(0, 1)),
        ("bytes=10-19", span(10, 20)),
        ("Bytes = 10-19", span(10, 20)),
        ("bytes=90-", span(90, 100)),
        ("bytes=90-1000", span(90, 100)),
        ("bytes=-7", span(93, 100)),
        ("bytes=-700", span(0, 100)),
        ("bytes=100-", Unsatisfiable()),
        ("bytes=-0", Unsatisfiable()),
        ("bytes=200-300,400-", Unsatisfiable()),
        # Joined where they touch or overlap, in any order; one that isn't there is left out.
        ("bytes=0-9,10-19", span(0, 20)),
        ("bytes=15-29, 0-19,,500-", span(0, 30)),
        ("bytes=-10,80-95", span(80, 100)),
        # Apart: the whole.
        ("bytes=0-9,20-29", Whole()),
        ("bytes=" + ",".join(["0-9"] * 17), Whole()),
        ("bytes=0-9" + " " * 2000, Whole()),
        # Not for us, or malformed: ignored.
        ("items=0-9", Whole()),
        ("bytes", Whole()),
        ("bytes=", Whole()),
        ("bytes=-", Whole()),
        ("bytes=9-0", Whole()),
        ("bytes=a-b", Whole()),
        ("bytes=0-9,x", Whole()),
        ("bytes=-1-2", Whole()),
        ("bytes=\u0661-\u0662", Whole()),
        ("bytes=0-9999999999999999999", Whole()),
    ],
)
def test_ranges_of_a_hundred_bytes(header: str | None, wanted: Wanted) -> None:
    assert wanted_bytes(header, 100) == wanted


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_nothing_of_an_empty_file_is_there(header: str) -> None:
    assert wanted_bytes(header, 0) == Unsatisfiable()


@given(header=st.text(alphabet="bytes=0123456789-, \t", max_size=60), size=st.integers(0, 2000))
def test_whatever_is_asked_for_is_there(header: str, size: int) -> None:
    match wanted_bytes(header, size):
        case Span(start=start, stop=stop):
            assert 0 <= start < stop <= size


def test_entity_tags() -> None:
    assert matches_weakly('"a"', "a")
    assert matches_weakly('W/"a"', "a")
    assert matches_weakly('"b", W/"c,d" , "a"', "a")
    assert matches_weakly(" * ", "a")
    assert not matches_weakly('"aa", a, "b"', "a")
    assert matches_strongly('"b","a"', "a")
    assert matches_strongly("*", "a")
    assert not matches_strongly('W/"a"', "a")
    assert is_same(' "a"', "a")
    assert not is_same('W/"a"', "a")
    assert not is_same("Sat, 29 Oct 1994 19:43:31 GMT", "a")
