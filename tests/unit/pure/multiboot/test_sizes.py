"""Bareon's sizes (research/bareon.md, 1.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.pure.disks.sizes import Exact, Percent, Remaining, Size, mib
from libironic_disk.pure.multiboot.sizes import parse_bytes, parse_size
from libironic_disk.units import MIB


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4000", mib(4000)),
        ("1.5", mib(1)),
        ("10 GiB", mib(10240)),
        ("10GB", Exact(size=9536 * MIB)),
        ("512 KiB", Exact(size=512 * 1024)),
        ("2048 s", mib(1)),
        ("1 B", Exact(size=1)),
        ("50%", Percent(share=50)),
        ("0.5 %", Percent(share=0.5)),
        ("remaining", Remaining()),
        (" 3 TiB ", mib(3 * 1024 * 1024)),
    ],
)
def test_sizes(text: str, size: Size) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["10G", "4k", "0", "0%", "-5", "101%", "", "rest", "1 2", "1e3", "0.1 B", "½", "x"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no|is nothing|is not more"):
        parse_size(text)


@given(st.text(max_size=12) | st.from_regex(r"[0-9]{1,25}\.?[0-9]{0,3} ?[A-Za-z%]{0,3}"))
def test_any_text_is_a_size_or_none(text: str) -> None:
    try:
        size = parse_size(text)
    except ValueError:
        return
    assert not isinstance(size, Exact) or size.size > 0


def test_a_disk_is_as_large_as_it_says() -> None:
    assert parse_bytes("500107862016 B") == 500107862016
    with pytest.raises(ValueError, match="no size here"):
        parse_bytes("50%")
