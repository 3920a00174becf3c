"""Ropes are read like the bytes that they stand for."""

from __future__ import annotations

import pytest

from libironic_disk.errors import SourceFailed
from libironic_disk.pure.ropes import Range, Rope, Zeros
from tests.support.isos import Memory

BASE = Memory(bytes(range(256)))


def test_pieces_that_belong_together_become_one() -> None:
    rope = Rope.of(Range(0, 4), Range(4, 6), b"", b"ab", Rope.of(b"cd"), Zeros(2), Zeros(0), Zeros(3), Range(10, 0))
    assert rope.pieces == (Range(0, 10), b"abcd", Zeros(5))
    assert (rope.size, rope.inline_size) == (19, 4)


def test_what_it_stands_for() -> None:
    rope = Rope.of(b"head", Range(100, 3), Zeros(2)) + Rope.of(b"tail")
    assert rope.read_at(BASE, 0, 99) == b"headdef\0\0tail"
    assert rope.slice(3, 3) == Rope.of(b"d", Range(100, 2))
    assert list(rope.chunks(BASE, size=5)) == [b"headd", b"ef\0\0t", b"ail"]


def test_edits_may_touch_and_must_not_overlap() -> None:
    rope = Rope.of(Range(0, 10))
    assert rope.overlaid({2: b"xx", 4: Rope.of(Zeros(1))}).read_at(BASE, 0, 10) == b"\0\1xx\0\5\6\7\x08\x09"
    assert rope.overlaid({3: Rope.of(Range(3, 4))}) == rope
    with pytest.raises(ValueError, match="overlaps another"):
        rope.overlaid({2: b"xx", 3: b"y"})
    with pytest.raises(ValueError, match="the end at 10"):
        rope.overlaid({9: b"xx"})


def test_what_is_not_there() -> None:
    with pytest.raises(ValueError, match="aren't in a rope of 4"):
        Rope.of(b"abcd").slice(2, 3)
    with pytest.raises(ValueError, match="no piece"):
        Rope.of(Range(-1, 2))
    with pytest.raises(SourceFailed) as caught:
        Rope.of(Range(250, 10)).read_at(BASE, 0, 10)
    assert caught.value.offset == 250
