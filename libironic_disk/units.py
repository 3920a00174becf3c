"""Bytes, the only unit inside this package, and the two doors through which others come in and go out.

Sector numbers exist in the table codecs alone: everything else counts bytes from the start of the disk.
"""

from __future__ import annotations

import re
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
TIB: Final = 1024 * GIB

_FACTORS: Final = {
    "": 1,
    "B": 1,
    "KIB": KIB,
    "MIB": MIB,
    "GIB": GIB,
    "TIB": TIB,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
_QUANTITY: Final = re.compile(r"\s*(\d+)(?:\.(\d+))?\s*([A-Za-z]*)\s*")


def align_up(value: int, grain: int) -> int:
    """Return the smallest multiple of ``grain`` that is at least ``value``."""
    return -(-value // grain) * grain


def align_down(value: int, grain: int) -> int:
    """Return the largest multiple of ``grain`` that is at most ``value``."""
    return value // grain * grain


def parse_bytes(text: str) -> int:
    """Read ``"550 MiB"``, ``"1.5GiB"``, ``"10 GB"`` or ``"4096"`` as bytes; KiB are 1024 bytes and KB are 1000.

    Raises:
        ValueError: the text isn't a size, or isn't a whole number of bytes.
    """
    match = _QUANTITY.fullmatch(text)
    factor = _FACTORS.get(match[3].upper()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is not a size: write a number and B, KiB, MiB, GiB, TiB, KB, MB, GB or TB")
    decimals = match[2] or ""
    # Integers throughout: a float loses bytes above 2**53.
    value, rest = divmod(int(match[1] + decimals) * factor, int(10 ** len(decimals)))
    if rest:
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return value


_NAMES: Final = (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB), ("B", 1))


def in_words(size: int) -> str:
    """Return a size for people: exact where at most four digits and a binary unit can say it, else with one decimal."""
    for name, factor in _NAMES:
        whole, rest = divmod(size, factor)
        if not rest and 0 < whole < 10_000:
            return f"{whole} {name}"
    name, factor = next((each for each in _NAMES if size >= each[1]), _NAMES[-1])
    return f"{size / factor:.1f} {name}" if size else "0 B"
