"""Files with the checksums of others: which ones there are, and their lines made true again.

As Debian's and Ubuntu's ``md5sum.txt``, ``SHA256SUMS`` and others write them, by the programs of coreutils: a value, a
space, a space or a star, and a path from the directory of the file. Or BSD's: ``SHA256 (path) = value``.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

LARGEST: Final = 8 * 1024 * 1024
"""Bytes of a list; Debian's, of a whole DVD, have less than one MiB."""
SIGNATURES: Final = (".asc", ".gpg", ".sig", ".sign", ".p7s")

_NAME: Final = re.compile(r"(?:.*[._-])?(?:md5|sha1|sha224|sha256|sha384|sha512)(?:sums?)?(?:\.txt)?", re.IGNORECASE)
_LINE: Final = re.compile(rb"(?P<value>[0-9a-fA-F]{32,128})(?P<between>[ \t][ \t*]?)(?P<path>[^\r\n]+)")
_BSD_LINE: Final = re.compile(
    rb"(?P<between>(?:MD5|SHA\d{1,3}) \((?P<path>[^\r\n]+)\) = )(?P<value>[0-9a-fA-F]{32,128})"
)
_BY_LENGTH: Final = {32: "md5", 40: "sha1", 56: "sha224", 64: "sha256", 96: "sha384", 128: "sha512"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """One line: where its value is in the list, by which algorithm, and of which file."""

    start: int
    value: bytes
    algorithm: str
    path: str


def is_list(name: str) -> bool:
    """Whether a file of this name is expected to hold checksums."""
    return _NAME.fullmatch(name) is not None


def sums(text: bytes, *, directory: str) -> Iterator[Sum]:
    """Yield the lines of a list that can be read; paths are from the ISO's root.

    Args:
        text: the list's contents.
        directory: where the list is, from which its paths count.
    """
    at = 0
    for line in text.split(b"\n"):
        match = _LINE.match(line) or _BSD_LINE.match(line)
        if match is not None and len(match["value"]) in _BY_LENGTH:
            path = posixpath.normpath(posixpath.join(directory, match["path"].decode(errors="surrogateescape")))
            yield Sum(
                start=at + match.start("value"),
                value=match["value"],
                algorithm=_BY_LENGTH[len(match["value"])],
                path=path,
            )
        at += len(line) + 1


def renewed(text: bytes, *, directory: str, value_of: Callable[[str, str], str | None]) -> bytes:
    """Return a list whose values are right again; every other byte stays, and so does its length.

    Args:
        text: the list's contents.
        directory: where it is.
        value_of: returns the new value of a path by an algorithm, None for a file that didn't change.
    """
    changed = bytearray(text)
    for line in sums(text, directory=directory):
        value = value_of(line.path, line.algorithm)
        if value is not None:
            new = value.upper() if line.value.isupper() else value
            changed[line.start : line.start + len(line.value)] = new.encode()
    return bytes(changed)


def digest(algorithm: str) -> hashlib._Hash:
    """Return a digest that is no protection from anybody: media carry MD5 against scratches."""
    return hashlib.new(algorithm, usedforsecurity=False)
