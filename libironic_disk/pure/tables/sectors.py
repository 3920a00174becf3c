"""Arithmetic on sectors that the codecs of both kinds of table share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Span(NamedTuple):
    """Sectors from ``first`` up to, not including, ``end``, and what to call them in a sentence."""

    first: int
    end: int
    name: str


def in_sectors(size: int, sector_size: int) -> int:
    """Return ``size`` bytes as sectors.

    Raises:
        ValueError: they aren't a whole number of sectors.
    """
    sectors, rest = divmod(size, sector_size)
    if rest:
        raise ValueError(f"{size} bytes are not a whole number of sectors of {sector_size} bytes")
    return sectors


def overlaps(spans: Iterable[Span]) -> Iterator[str]:
    """Yield a sentence for each span that begins inside an earlier one, at most one per span."""
    reach: Span | None = None
    for span in sorted(spans):
        if reach is not None and span.first < reach.end:
            yield f"{span.name} overlaps {reach.name}"
        if reach is None or span.end > reach.end:
            reach = span
