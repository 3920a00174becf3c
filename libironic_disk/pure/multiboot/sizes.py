"""Sizes as Bareon's descriptions have them: a unit has the case that is written here, and ``10G`` is none."""

from __future__ import annotations

import re
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from libironic_disk.pure.disks.sizes import Exact, Percent, Remaining, Size
from libironic_disk.pure.multiboot.fields import said
from libironic_disk.units import MIB, align_down

_NUMBER: Final = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([A-Za-z%]*)\s*")
_PREFIXES: Final = "KMGTPEZY"
_FACTORS: Final = MappingProxyType(
    {"": MIB, "B": 1, "s": 512}
    | {f"{prefix}B": 1000**power for power, prefix in enumerate(_PREFIXES, 1)}
    | {f"{prefix}iB": 1024**power for power, prefix in enumerate(_PREFIXES, 1)}
)


def parse_size(text: str) -> Size:
    """Read ``"4000"`` (MiB), ``"10 GiB"``, ``"1.5 GB"``, ``"50%"`` or ``"remaining"``.

    A size that isn't a whole number of MiB loses the rest, unless it is smaller than one.

    Raises:
        ValueError: it is none of these, or nothing.
    """
    if text.strip() == "remaining":
        return Remaining()
    match = _NUMBER.fullmatch(text)
    if match is None or match[2] != "%":
        size = parse_bytes(text)
        return Exact(size=align_down(size, MIB) or size)
    share = float(match[1])
    if not 0 < share <= 100:
        raise ValueError(f"{text!r} is not more than 0% and at most 100%")
    return Percent(share=share)


def parse_bytes(text: str) -> int:
    """Return the bytes of a size that says how many they are.

    Raises:
        ValueError: it is no size, no fixed one, or nothing.
    """
    match = _NUMBER.fullmatch(text)
    if match is None or match[2] not in _FACTORS:
        raise ValueError(f"{said(text)} is no size here: write MiB as a number alone, or B, s, KB to YB, KiB to YiB")
    size = int(Fraction(match[1]) * _FACTORS[match[2]])
    if size <= 0:
        raise ValueError(f"{said(text)} is nothing: a size must be positive")
    return size
