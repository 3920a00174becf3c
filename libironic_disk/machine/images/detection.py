"""Which formats an image's first bytes look like, by oslo.utils' inspectors.

Only their recognition is used. Their safety checks are not: pure/images/qcow2.py checks more and refuses less that is
fine (oslo.utils takes extended L2 entries for an unknown feature and reads the feature bits of version 2 headers,
which have none), and of the other formats none is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from oslo_utils.imageutils import format_inspector

from libironic_disk.errors import ImageRefused
from libironic_disk.units import KIB, MIB

PIECE: Final = 64 * KIB
"""The largest piece that may be fed at once: an inspector that finds out late where to look misses what lies before."""

HEAD: Final = 4 * MIB
"""Bytes after which an undecided image is what it looks like so far: every signature lies within."""


def signatures(pieces: Iterable[bytes], *, image: str) -> frozenset[str]:
    """Return the name of every format that the image's first bytes match, or ``raw`` alone.

    Args:
        pieces: the image from its start, each at most :data:`PIECE` bytes; no more are taken than it needs.
        image: its name in errors.

    Raises:
        ImageRefused: an inspector can't make up its mind.
    """
    # All of them, always: to look for the declared format alone is to overlook what else the image is.
    inspectors = [kind() for name, kind in format_inspector.ALL_FORMATS.items() if name != "raw"]
    puzzled: set[format_inspector.FileInspector] = set()
    seen = 0
    for piece in pieces:
        seen += len(piece)
        for inspector in inspectors:
            _feed(inspector, piece, puzzled)
        if seen >= HEAD or all(inspector.complete for inspector in inspectors):
            break
    for inspector in inspectors:
        inspector.finish()
    return frozenset(str(inspector) for inspector in inspectors if _matches(inspector, image)) or frozenset({"raw"})


def _feed(
    inspector: format_inspector.FileInspector, piece: bytes, puzzled: set[format_inspector.FileInspector]
) -> None:
    if inspector in puzzled:
        return
    try:
        inspector.eat_chunk(piece)
    except Exception:  # whatever hostile bytes provoke in a parser: it has seen enough
        puzzled.add(inspector)


def _matches(inspector: format_inspector.FileInspector, image: str) -> bool:
    try:
        return inspector.format_match
    except Exception as error:
        reason = f"it can't be told whether its bytes are {inspector}"
        raise ImageRefused(image=image, reason=reason) from error
