"""Sizes as a layout names them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.pure.disks.sizes import Exact, Percent, Remaining, Size, mib, parse_size, size_problems
from libironic_disk.units import GIB, MIB


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20 GiB", Exact(size=20 * GIB)),
        ("1048576", Exact(size=MIB)),
        ("25%", Percent(share=25)),
        (" 33.3 % ", Percent(share=33.3)),
        ("remaining", Remaining()),
        (" Remaining ", Remaining()),
    ],
)
def test_words_become_sizes(text: str, size: Size) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "rest", "-5%", "5 %%", "%", "1 MiB %", "-1 MiB", "nan%", "1e2%"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


def test_ironic_s_unit_is_the_mebibyte() -> None:
    assert mib(550) == Exact(size=550 * 1024 * 1024)


@pytest.mark.parametrize(
    ("size", "words"),
    [(mib(550), "550 MiB"), (Percent(share=12.5), "12.5%"), (Percent(share=25.0), "25%"), (Remaining(), "remaining")],
)
def test_sizes_are_told_as_they_are_written(size: Size, words: str) -> None:
    assert str(size) == words
    assert parse_size(words) == size


@given(st.integers(0, 2**70), st.integers(0, 10_000))
def test_a_percentage_is_exact_to_the_byte(usable: int, hundredths: int) -> None:
    assert Percent(share=hundredths / 100).of(usable) == usable * hundredths // 10_000


def test_a_tenth_is_a_tenth_although_no_float_is() -> None:
    assert Fraction(0.1) > Fraction(1, 10)
    assert Percent(share=0.1).of(10**21) == 10**18


@pytest.mark.parametrize(
    ("size", "problems"),
    [
        (Exact(size=1), []),
        (Exact(size=0), ["0 bytes"]),
        (Exact(size=-5), ["-5 bytes"]),
        (Percent(share=100), []),
        (Percent(share=0), ["0% is not"]),
        (Percent(share=-1), ["-1% is not"]),
        (Percent(share=100.1), ["100.1% is not"]),
        (Percent(share=float("nan")), ["nan% is not"]),
        (Percent(share=float("inf")), ["inf% is not"]),
        (Remaining(), []),
        (Remaining(minimum=5, maximum=5, weight=1), []),
        (Remaining(minimum=0), ["a minimum of 0"]),
        (Remaining(minimum=7, maximum=6), ["a maximum of 6 bytes below the minimum of 7"]),
        (Remaining(minimum=-1, maximum=-2, weight=-3), ["a minimum of -1", "a maximum of -2", "a weight of -3"]),
    ],
)
def test_each_defect_of_a_size_is_named(size: Size, problems: list[str]) -> None:
    found = size_problems(size)
    assert len(found) == len(problems)
    assert all(words in problem for words, problem in zip(problems, found, strict=True))
