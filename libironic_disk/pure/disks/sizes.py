"""How large a partition is to be: a number of bytes, a share of the disk, or what the others leave.

The doors for other units are here too: MiB as Ironic counts, and words as people write them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from libironic_disk.units import MIB, in_words, parse_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """This many bytes, rounded up to whole sectors."""

    size: int

    def __str__(self) -> str:
        return in_words(self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Percent:
    """A share of the bytes that partitions can have on a disk, rounded down to the alignment grain.

    What tables and the alignment of the first and the last byte take isn't among them: 100% of a disk always fits.
    """

    share: float

    def __str__(self) -> str:
        return f"{self.share:g}%"

    def of(self, usable: int) -> int:
        """Return the share of ``usable`` bytes, exactly: the decimal digits count, not their binary approximation."""
        return int(usable * Fraction(str(self.share)) / 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """What all the others leave, from ``minimum`` up to ``maximum`` bytes, the minimum rounded up to whole sectors.

    One partition of a layout may say so without a weight. Several share the rest in proportion to their ``weight``,
    which each of them then has to name: two claims on "the rest" without one are a mistake more often than a wish.
    """

    minimum: int = MIB
    maximum: int | None = None
    weight: int | None = None

    def __str__(self) -> str:
        return "remaining"


Size = Exact | Percent | Remaining

_PERCENT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


def mib(count: int) -> Exact:
    """Return a size of ``count`` MiB, the unit of Ironic's ``root_mb`` and its kin."""
    return Exact(size=count * MIB)


def parse_size(text: str) -> Size:
    """Read ``"20 GiB"``, ``"25%"`` or ``"remaining"``.

    Raises:
        ValueError: it is none of these.
    """
    if text.strip().lower() == "remaining":
        return Remaining()
    if match := _PERCENT.fullmatch(text):
        return Percent(share=float(match[1]))
    return Exact(size=parse_bytes(text))


def size_problems(size: Size) -> tuple[str, ...]:
    """Return what is wrong with a size, in words."""
    match size:
        case Exact():
            return () if size.size > 0 else (f"a size of {size.size} bytes: it must be positive",)
        case Percent():
            return () if 0 < size.share <= 100 else (f"{size.share:g}% is not more than 0 and at most 100",)
        case Remaining():
            problems = []
            if size.minimum <= 0:
                problems.append(f"a minimum of {size.minimum} bytes: it must be positive")
            if size.maximum is not None and size.maximum < size.minimum:
                problems.append(f"a maximum of {size.maximum} bytes below the minimum of {size.minimum}")
            if size.weight is not None and size.weight <= 0:
                problems.append(f"a weight of {size.weight}: it must be positive")
            return tuple(problems)
