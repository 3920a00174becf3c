"""Sizes as people write them, read without losing a byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.units import GIB, KIB, MIB, TIB, align_down, align_up, in_words, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("0", 0),
        ("4096 B", 4096),
        ("550 MiB", 550 * MIB),
        ("550mib", 550 * MIB),
        ("  1.5  GiB ", GIB + GIB // 2),
        ("10 GB", 10**10),
        ("1 kB", 1000),
        ("2 TB", 2 * 10**12),
        ("2TiB", 2 * TIB),
        ("0.5 KiB", 512),
        ("0.0009765625 MiB", KIB),
        ("18446744073709551615", 2**64 - 1),
        # A float would round these: they are above 2^53.
        ("8191.999999999 TB", 8191_999_999_999_000),
        ("9007199254740993 B", 9007199254740993),
    ],
)
def test_a_size_is_read_exactly(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1", "1 M", "1 EiB", "1,5 GiB", ".5 GiB", "1.GiB", "1e3", "0x10", "1 MiB x"]
)
def test_what_is_no_size_is_refused_with_its_own_words(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size") as refused:
        parse_bytes(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize("text", ["0.5", "1.5 B", "0.0001 KiB", "1.3 KiB"])
def test_a_part_of_a_byte_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a whole number of bytes"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (KIB, "1 KiB"),
        (1536, "1536 B"),
        (34 * 512, "17 KiB"),
        (10_000, "9.8 KiB"),
        (550 * MIB, "550 MiB"),
        (1024 * MIB, "1 GiB"),
        (GIB + MIB, "1025 MiB"),
        (100 * GIB + MIB, "100.0 GiB"),
        (3 * TIB, "3 TiB"),
        (5000 * TIB, "5000 TiB"),
    ],
)
def test_sizes_are_told_exactly_where_that_is_short(size: int, words: str) -> None:
    assert in_words(size) == words


@given(st.integers(0, 2**70))
def test_a_number_of_bytes_reads_back(size: int) -> None:
    assert parse_bytes(str(size)) == parse_bytes(f"{size} B") == size


@given(st.integers(0, 2**50) | st.builds(int.__mul__, st.integers(0, 20_000), st.sampled_from([KIB, MIB, GIB, TIB])))
def test_what_is_told_without_a_decimal_point_is_exact(size: int) -> None:
    words = in_words(size)
    if "." not in words:
        assert parse_bytes(words) == size
    else:
        number, unit = words.split()
        assert abs(float(number) * parse_bytes(f"1 {unit}") - size) <= parse_bytes(f"1 {unit}") / 20 + 1


@given(st.integers(-(2**70), 2**70), st.integers(1, 2**40))
def test_aligning_finds_the_nearest_multiple_on_either_side(value: int, grain: int) -> None:
    below, above = align_down(value, grain), align_up(value, grain)
    assert below % grain == above % grain == 0
    assert below <= value <= above
    assert above - below == (0 if value % grain == 0 else grain)
