"""Which formats an image's first bytes look like, by oslo.utils' inspectors.

Their safety checks are for the formats that only qemu-img reads. For qcow2 they aren't used: pure/images/qcow2.py
checks more and refuses less that is fine (oslo.utils takes extended L2 entries for an unknown feature and reads the
feature bits of version 2 headers, which have none).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Final

from oslo_utils.imageutils import format_inspector

from libironic_disk.errors import ImageRefused
from libironic_disk.pure.images.inspection import ImageFormat
from libironic_disk.units import KIB, MIB

PIECE: Final = 64 * KIB
"""The largest piece that may be fed at once: an inspector that finds out late where to look misses what lies before."""

HEAD: Final = 4 * MIB
"""Bytes after which an undecided image is what it looks like so far: every signature lies within."""

_SECTOR: Final = 512


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
        # One that is given less than a sector sees nothing in it: what was cut off there would pass for raw.
        _feed(inspector, bytes(max(0, _SECTOR - seen)), puzzled)
        inspector.finish()
    return frozenset(str(inspector) for inspector in inspectors if _matches(inspector, image)) or frozenset({"raw"})


def check_safe(pieces: Iterable[bytes], image_format: ImageFormat, *, image: str) -> None:
    """Check that an image of another format than ours leads a program that reads it to no other file.

    Args:
        pieces: the whole image from its start, each at most :data:`PIECE` bytes; no more are taken than it needs.
        image_format: its format.
        image: its name in errors.

    Raises:
        ImageRefused: it does, or that can't be told.
    """
    inspector = format_inspector.ALL_FORMATS[image_format]()
    rest = iter(pieces)
    first = next(rest, b"")
    if image_format is ImageFormat.VMDK and not _has_its_own_data(first):
        raise ImageRefused(image=image, reason="it isn't safe to read (it has no data, but names of files that have)")
    try:
        for piece in chain([first], rest):
            inspector.eat_chunk(piece)
            if inspector.complete:
                break
        inspector.finish()
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed as error:
        reason = "; ".join(f"{name}: {failure}" for name, failure in error.failures.items())
        raise ImageRefused(image=image, reason=f"it isn't safe to read ({reason})") from error
    except Exception as error:  # whatever hostile bytes provoke in a parser
        reason = f"it can't be told whether it is safe to read ({error})"
        raise ImageRefused(image=image, reason=reason) from error


def _has_its_own_data(head: bytes) -> bool:
    """Whether a VMDK image is more than a description of other files to QEMU: block/vmdk.c, vmdk_open_vmdk4().

    QEMU then takes the type from a line ``createType``, in exactly this case, and oslo.utils from the first that has
    these letters: an image with both is as harmless to the one as it is not to the other.
    """
    capacity = head[12:20]
    return head.startswith(b"KDMV") and len(capacity) == 8 and any(capacity)


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
