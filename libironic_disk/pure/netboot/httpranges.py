"""What a client asks for of a file over HTTP (RFC 9110): which bytes (section 14), on which conditions (section 13)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

MOST_RANGES: Final = 16
"""A header with more is answered by the whole, as section 14.2 allows: it is a mistake or an attack."""

_LONGEST: Final = 1024
_RANGE: Final = re.compile(r"([0-9]{0,18})-([0-9]{0,18})")
_TAG: Final = re.compile(r'[ \t,]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?=,|$)')


@dataclass(frozen=True, slots=True)
class Whole:
    """All bytes: no range was asked for, or one that a server has to or may ignore."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The bytes from ``start`` up to and without ``stop``."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """None of the ranges has a byte that there is."""


Wanted: TypeAlias = Whole | Span | Unsatisfiable


def wanted_bytes(header: str | None, size: int) -> Wanted:
    """Return which bytes of a file of ``size`` bytes a Range header asks for.

    Several ranges that join into one are that one (section 15.3.7.2 lets a server join them). Several that don't are
    answered by the whole, which section 14.2 allows: no firmware asks for such, and parts of a multipart answer would
    have to be told apart by it. A unit that isn't bytes, or a malformed header, has to be ignored.
    """
    if header is None or len(header) > _LONGEST:
        return Whole()
    unit, equals, text = header.partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return Whole()
    asked = [piece.strip(" \t") for piece in text.split(",") if piece.strip(" \t")]
    if not asked or len(asked) > MOST_RANGES:
        return Whole()
    spans: list[Span] = []
    for piece in asked:
        match = _RANGE.fullmatch(piece)
        if match is None or piece == "-":
            return Whole()
        first, last = match.groups()
        if first and last and int(last) < int(first):
            return Whole()
        span = _span(first, last, size)
        if span.start < span.stop:
            spans.append(span)
    return _joined(spans)


def _span(first: str, last: str, size: int) -> Span:
    """Return one range, clipped to what there is; it is empty if there is nothing of it."""
    if not first:
        return Span(start=max(0, size - int(last)), stop=size)
    return Span(start=int(first), stop=min(int(last) + 1, size) if last else size)


def _joined(spans: list[Span]) -> Wanted:
    if not spans:
        return Unsatisfiable()
    ordered = sorted(spans, key=lambda span: span.start)
    start, stop = ordered[0].start, ordered[0].stop
    for span in ordered[1:]:
        if span.start > stop:
            return Whole()
        stop = max(stop, span.stop)
    return Span(start=start, stop=stop)


def matches_weakly(header: str, tag: str) -> bool:
    """Whether If-None-Match names an entity tag, or any (section 13.1.2, weak comparison)."""
    return header.strip() == "*" or any(each.removeprefix("W/") == f'"{tag}"' for each in _tags(header))


def matches_strongly(header: str, tag: str) -> bool:
    """Whether If-Match names an entity tag, or any (section 13.1.1, strong comparison)."""
    return header.strip() == "*" or f'"{tag}"' in _tags(header)


def is_same(header: str, tag: str) -> bool:
    """Whether If-Range names just this entity tag (section 13.1.5). A date never matches: none is given out."""
    return header.strip() == f'"{tag}"'


def _tags(header: str) -> Iterator[str]:
    """Give the entity tags of a list, as far as it is one."""
    position = 0
    while (match := _TAG.match(header, position)) is not None:
        yield match.group(1)
        position = match.end()
