"""Rock Ridge: names, links and modes of POSIX behind ISO 9660's names.

It is written in the entries of SUSP (System Use Sharing Protocol, IEEE P1281), by RRIP (IEEE P1282). Linux reads it in
fs/isofs/rock.c.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from libironic_disk.pure.iso.records import Record, RecordDamaged
from libironic_disk.pure.iso.volumes import both32

Continued = Callable[[int, int, int], bytes]
"""Reads a continuation area: sector, offset in it and size. Returns fewer bytes where the image ends."""

LONGEST_NAME: Final = 255
"""Bytes of one name that Linux takes (NAME_MAX)."""
CONTINUATION: Final = 28
"""Bytes of the entry that leads to a continuation area."""

_HEAD: Final = 4
_SP: Final = b"SP\x07\x01\xbe\xef"
_XA: Final = 14
"""Bytes of CD-ROM XA's record, which may be before the first entry."""
_MOST_CONTINUATIONS: Final = 16
_MOST_ENTRIES: Final = 256
_LARGEST_TARGET: Final = 4096
_GOES_ON, _CURRENT, _PARENT, _ROOT = 1, 2, 4, 8
_FILE_MODE: Final = 0o100444
_DIRECTORY_MODE: Final = 0o040555
_LARGEST_NAME_ENTRY: Final = 250


class Extras(NamedTuple):
    """What Rock Ridge says about a record.

    Attributes:
        name: None if it says none.
        target: of a symbolic link.
        child: at which sector the directory is that is meant here, but is elsewhere for want of depth.
        relocated: whether this is such a directory, which isn't meant here.
        is_moved_up: whether its ``..`` says that its true parent is elsewhere.
        compressed: whether the contents are zisofs.
        known: whether any entry was of Rock Ridge.
    """

    name: bytes | None = None
    target: str | None = None
    child: int | None = None
    relocated: bool = False
    is_moved_up: bool = False
    compressed: bool = False
    known: bool = False


def skip_of(root: Record) -> int | None:
    """Return how many bytes are before the first entry of each record, by the root's own; None if there is no SUSP."""
    use = root.system_use
    for start in (0, _XA):
        if use[start : start + len(_SP)] == _SP and len(use) > start + len(_SP):
            return use[start + len(_SP)]
    return None


def entries(use: bytes, continued: Continued) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries that begin in ``use``: two letters, and the entry as a whole.

    Raises:
        RecordDamaged: there are too many of them, or they go on in too many places.
    """
    places = seen = 0
    while use:
        further = None
        at = 0
        while at + _HEAD <= len(use):
            length = use[at + 2]
            kind, entry = use[at : at + 2], use[at : at + length]
            if length < _HEAD or len(entry) < length or kind == b"ST":
                break
            at += length
            seen += 1
            if seen > _MOST_ENTRIES:
                raise RecordDamaged(f"a directory record has more than {_MOST_ENTRIES} entries of Rock Ridge")
            if kind == b"CE" and length >= CONTINUATION:
                further = entry
            else:
                yield kind, entry
        if further is None:
            return
        places += 1
        if places > _MOST_CONTINUATIONS:
            raise RecordDamaged(f"a directory record goes on in more than {_MOST_CONTINUATIONS} places")
        block, offset, size = struct.unpack_from("<I4xI4xI", further, _HEAD)
        use = continued(block, offset, size)


def read_extras(use: bytes, continued: Continued) -> Extras:
    """Return what the entries that begin in ``use`` say.

    Raises:
        RecordDamaged: they can't be followed.
    """
    found = Extras()
    names: list[bytes] = []
    links: list[bytes] = []
    for kind, entry in entries(use, continued):
        if kind == b"NM" and len(entry) > _HEAD:
            names.append(entry[5:] if not entry[4] & (_CURRENT | _PARENT) else b"")
        elif kind == b"SL" and len(entry) > _HEAD:
            links.append(entry[5:])
        elif kind == b"CL" and len(entry) >= _HEAD + 8:
            found = found._replace(child=int.from_bytes(entry[4:8], "little"))
        elif kind == b"RE":
            found = found._replace(relocated=True)
        elif kind == b"PL":
            found = found._replace(is_moved_up=True)
        elif kind == b"ZF":
            found = found._replace(compressed=True)
        elif kind == b"ER":
            found = found._replace(known=found.known or entry[8:].startswith((b"RRIP", b"IEEE")))
    name = b"".join(names)
    target = _target(b"".join(links)) if links else None
    return found._replace(name=name or None, target=target, known=found.known or bool(names))


def _target(parts: bytes) -> str:
    """Return where a symbolic link leads to, from its components (RRIP 4.1.3.1)."""
    words: list[bytes] = [b""]
    at = 0
    while at + 2 <= len(parts):
        flags, length = parts[at], parts[at + 1]
        if flags & _ROOT:
            words = [b"", b""]
        else:
            word = b"." if flags & _CURRENT else b".." if flags & _PARENT else parts[at + 2 : at + 2 + length]
            words[-1] += word
            if not flags & _GOES_ON:
                words.append(b"")
        at += 2 + length
    if len(words) > 1 and not words[-1]:
        words.pop()
    return (b"/".join(words) or b"/")[:_LARGEST_TARGET].decode("utf-8", "surrogateescape")


def mode_entry_size(use: bytes) -> int:
    """Return the bytes of the entry with the mode among those of a record: two editions of RRIP differ; 0 for none."""
    return next((len(entry) for kind, entry in entries(use, _nothing) if kind == b"PX"), 0)


def attributes(*, is_directory: bool, date: bytes, mode_size: int, serial: int) -> bytes:
    """Return the entries with mode, owner and dates of something new that root owns and everybody may read.

    Args:
        is_directory: whether it is a directory.
        date: in the seven bytes of a directory record.
        mode_size: bytes of the entry with the mode; the longer one has a serial number.
        serial: that number, which nothing else in the tree may have.
    """
    numbered = mode_size > 36
    mode, links = (_DIRECTORY_MODE, 2) if is_directory else (_FILE_MODE, 1)
    owned = both32(mode) + both32(links) + both32(0) + both32(0) + (both32(serial) if numbered else b"")
    dates = bytes((0x0E,)) + date * 3  # modified, accessed, attributes changed
    return _entry(b"PX", owned) + _entry(b"TF", dates)


def name_entries(name: bytes) -> bytes:
    """Return the entries with a name."""
    parts = [name[at : at + _LARGEST_NAME_ENTRY] for at in range(0, len(name), _LARGEST_NAME_ENTRY)]
    flags = [_GOES_ON] * (len(parts) - 1) + [0]
    return b"".join(_entry(b"NM", bytes((flag,)) + part) for flag, part in zip(flags, parts, strict=True))


def continuation_entry(sector: int, offset: int, size: int) -> bytes:
    """Return the entry that says where more of them are."""
    return _entry(b"CE", both32(sector) + both32(offset) + both32(size))


def with_another_link(use: bytes, skip: int) -> bytes:
    """Return the entries of a directory's record when another directory is made in it.

    Some programs skip directories whose number of links says that there are none below.
    """
    at = skip
    while at + _HEAD <= len(use) and use[at + 2] >= _HEAD:
        if use[at : at + 2] == b"PX" and at + 20 <= len(use):
            links = int.from_bytes(use[at + 12 : at + 16], "little")
            # 1 says that nobody counted.
            changed = links + 1 if 2 <= links < 0xFFFFFFFF else links
            return use[: at + 12] + both32(changed) + use[at + 20 :]
        at += use[at + 2]
    return use


def _entry(kind: bytes, data: bytes) -> bytes:
    return kind + bytes((_HEAD + len(data), 1)) + data


def _nothing(sector: int, offset: int, size: int) -> bytes:
    del sector, offset, size
    return b""
