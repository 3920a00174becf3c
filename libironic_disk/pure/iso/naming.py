"""Names for what is new, in the character sets of each tree: ECMA-119 (4th edition) 7.5 and 7.6, Joliet."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from libironic_disk.errors import IsoUnsupported
from libironic_disk.pure.iso.model import TreeKind
from libironic_disk.pure.iso.rockridge import LONGEST_NAME

_NOT_D: Final = re.compile(r"[^A-Z0-9_]")
_STEM, _EXTENSION = 8, 3
_PLAIN: Final = re.compile(r"[A-Z0-9_]+(\.[A-Z0-9_]+)?")
_LONGEST_PLAIN: Final = 31
_NOT_JOLIET: Final = re.compile(r"[\x00-\x1f*/:;?\\]|[^\x00-\uffff]|[\ud800-\udfff]")
_LONGEST_JOLIET: Final = 64
_VERSION: Final = ";1"


def parts_of(path: str, *, name: str) -> tuple[str, ...]:
    """Return the names in an absolute path.

    Raises:
        IsoUnsupported: it isn't absolute, is the root, climbs, or has a name that no file can have; ``name`` is the
            image's.
    """
    parts = tuple(path.split("/"))
    if len(parts) < 2 or parts[0]:
        raise IsoUnsupported(iso=name, reason=f"{path!r} is no absolute path of a file")
    for part in parts[1:]:
        if part in {"", ".", ".."} or "\0" in part or len(_encoded(part)) > LONGEST_NAME:
            raise IsoUnsupported(iso=name, reason=f"{path!r} can't be the path of a file")
    return parts[1:]


def identifier(
    part: str,
    kind: TreeKind,
    *,
    is_directory: bool,
    taken: Collection[bytes],
    versioned: bool,
    exactly: bool,
    name: str,
) -> bytes:
    """Return the identifier of something new in a directory, different from all that are taken.

    Args:
        part: what it should be called.
        kind: which names the tree has.
        is_directory: whether it is a directory.
        taken: the identifiers that there are.
        versioned: whether files' identifiers have a version.
        exactly: whether it has to be found by this identifier, because no other tree has its name.
        name: the image's in errors.

    Raises:
        IsoUnsupported: plain names can't be like that, or all are taken.
    """
    if kind is TreeKind.JOLIET:
        candidates = _joliet(part)
    elif exactly:
        candidates = _plain(part, is_directory=is_directory, name=name)
    else:
        candidates = _short(part, is_directory=is_directory)
    known = {_bare(each, kind) for each in taken}
    for candidate in candidates:
        if candidate.removesuffix(".") not in known:
            return _packed(candidate + _VERSION if versioned and not is_directory else candidate, kind)
    raise IsoUnsupported(iso=name, reason=f"no name for {part!r} is left in its directory")


def name_entry(part: str) -> bytes:
    """Return a name as Rock Ridge has it."""
    return _encoded(part)


def _encoded(part: str) -> bytes:
    return part.encode("utf-8", "surrogateescape")


def _packed(text: str, kind: TreeKind) -> bytes:
    return text.encode("utf-16-be" if kind is TreeKind.JOLIET else "ascii")


def _bare(found: bytes, kind: TreeKind) -> str:
    """Return a name without its version."""
    text = found.decode("utf-16-be", "replace") if kind is TreeKind.JOLIET else found.decode("latin-1")
    return text.partition(_VERSION[:1])[0].removesuffix(".")


def _short(part: str, *, is_directory: bool) -> Iterator[str]:
    """Yield names of eight and three characters that remind of one: the true name is somewhere else."""
    stem, dot, extension = part.upper().rpartition(".") if "." in part.lstrip(".") else (part.upper(), "", "")
    stem = _NOT_D.sub("_", stem) or "_"
    tail = f".{_NOT_D.sub('_', extension)[:_EXTENSION]}" if dot and extension and not is_directory else ""
    if not is_directory and not tail:
        tail = "."
    yield stem[:_STEM] + tail
    for number in range(100_000):
        digits = f"{number:03}"
        yield stem[: _STEM - len(digits)] + digits + tail


def _plain(part: str, *, is_directory: bool, name: str) -> Iterator[str]:
    """Yield the one name by which something will be found again.

    Raises:
        IsoUnsupported: there is none.
    """
    upper = part.upper()
    if part != upper.lower() or not _PLAIN.fullmatch(upper) or len(upper) > _LONGEST_PLAIN:
        reason = (
            f"it has neither Rock Ridge's names nor Joliet's, and {part!r} isn't at most {_LONGEST_PLAIN} of the "
            "characters a to z, 0 to 9 and _, with one dot"
        )
        raise IsoUnsupported(iso=name, reason=reason)
    yield upper if is_directory or "." in upper else f"{upper}."


def _joliet(part: str) -> Iterator[str]:
    clean = _NOT_JOLIET.sub("_", part)
    yield clean[:_LONGEST_JOLIET]
    stem, dot, extension = clean.rpartition(".") if "." in clean.lstrip(".") else (clean, "", "")
    tail = f"{dot}{extension}"[: _LONGEST_JOLIET // 2]
    for number in range(100_000):
        digits = f"{number:03}"
        yield stem[: _LONGEST_JOLIET - len(digits) - len(tail)] + digits + tail


def joliet_names(part: str) -> Iterator[str]:
    """Yield what a name may be in a Joliet tree that somebody else made."""
    yield part
    clean = _NOT_JOLIET.sub("_", part)
    yield clean[:_LONGEST_JOLIET]
    yield clean[:103]
