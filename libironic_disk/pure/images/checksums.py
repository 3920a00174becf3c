"""Checksums of images: as values, as lines of a checksum file, and live while the bytes pass.

A checksum file is text that somebody else wrote. No part of it, and no image's name, ever becomes a pattern; what isn't
a checksum (a signature, a remark) is passed over; what would leave a choice is an error.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol, Self

from libironic_disk.errors import ChecksumInvalid, ChecksumMismatch


class Algorithm(StrEnum):
    """The algorithms that are accepted, the weakest first; the words are hashlib's."""

    MD5 = "md5"
    SHA1 = "sha1"
    SHA224 = "sha224"
    SHA3_224 = "sha3_224"
    SHA256 = "sha256"
    SHA3_256 = "sha3_256"
    BLAKE2S = "blake2s"
    SHA384 = "sha384"
    SHA3_384 = "sha3_384"
    SHA512 = "sha512"
    SHA3_512 = "sha3_512"
    BLAKE2B = "blake2b"

    @classmethod
    def named(cls, word: str) -> Algorithm | None:
        """Return what ``word`` names: ``sha256``, ``SHA-256``, and OpenSSL's ``SHA2-256``; None if nothing."""
        plain = re.sub("[-_]", "", word.lower())
        plain = _OPENSSL_WORDS.get(plain, plain)
        return next((algorithm for algorithm in cls if algorithm.replace("_", "") == plain), None)

    @property
    def digits(self) -> int:
        """How many hexadecimal digits a value has."""
        return 2 * _new_hash(self).digest_size


_OPENSSL_WORDS: Final = {
    "sha2224": "sha224",
    "sha2256": "sha256",
    "sha2384": "sha384",
    "sha2512": "sha512",
    "blake2s256": "blake2s",
    "blake2b512": "blake2b",
}

_BY_DIGITS: Final = {
    32: Algorithm.MD5,
    40: Algorithm.SHA1,
    56: Algorithm.SHA224,
    64: Algorithm.SHA256,
    96: Algorithm.SHA384,
    128: Algorithm.SHA512,
}
"""What a value alone is taken for; Ironic takes 32, 64 and 128 digits for the same."""

_VALUE: Final = re.compile(r"(?:([\w-]+):)?([0-9a-f]+)", re.ASCII | re.IGNORECASE)
# GNU coreutils: a backslash in front says that the name is escaped; between value and name are a blank and either
# another one or an asterisk. Other people write any white space.
_GNU_LINE: Final = re.compile(r"(\\?)([0-9a-f]+)(?:[ \t][ *]|[ \t])[ \t]*(.+)", re.ASCII | re.IGNORECASE)
_BSD_LINE: Final = re.compile(r"(\\?)([\w-]+) ?\((.+)\) ?= ?([0-9a-f]+)", re.ASCII | re.IGNORECASE)
_ESCAPED: Final = re.compile(r"\\([\\nr])")
_NAMES_IN_ERRORS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksum:
    """What an image must have; ``value`` are lower-case hexadecimal digits, as many as the algorithm gives.

    Raises:
        ChecksumInvalid: other digits, or another number of them.
    """

    algorithm: Algorithm
    value: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", self.value.lower())
        if not re.fullmatch("[0-9a-f]*", self.value) or len(self.value) != self.algorithm.digits:
            reason = f"a {self.algorithm} value has {self.algorithm.digits} hexadecimal digits"
            raise ChecksumInvalid(source=_quoted(self.value), reason=reason)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"


def parse_checksum(text: str) -> Checksum:
    """Read ``sha256:HEX``, or a value alone, which is MD5, SHA-1 or SHA-2 by its length; in upper or lower case.

    Raises:
        ChecksumInvalid: anything else.
    """
    match = _VALUE.fullmatch(text.strip())
    if match is None:
        reason = "write the algorithm, a colon and hexadecimal digits; a checksum file is a URL or a pathlib.Path"
        raise ChecksumInvalid(source=_quoted(text), reason=reason)
    algorithm = Algorithm.named(match[1]) if match[1] else _BY_DIGITS.get(len(match[2]))
    if algorithm is None:
        reason = f"it is of no known algorithm; {', '.join(Algorithm)} are known"
        raise ChecksumInvalid(source=_quoted(text), reason=reason)
    return Checksum(algorithm=algorithm, value=match[2])


def find_checksum(text: str, *, name: str, source: str, algorithm: Algorithm | None = None) -> Checksum:
    """Find an image's checksum in the text of a checksum file.

    Lines may be those of GNU coreutils, those of BSD and OpenSSL, or a single value. An entry is the image's if it has
    the same path; if there is none such, if it has the same last component; if the file names nothing at all, its
    value is meant for whatever image. Of several algorithms the strongest counts.

    Args:
        text: the file's.
        name: the image's, with or without directories.
        source: what the checksum file is called in errors.
        algorithm: the only one that counts; it also says what a value alone is.

    Raises:
        ChecksumInvalid: there is no checksum for the image, or there are several that differ.
    """
    entries = list(_entries(text, algorithm))
    found = _matching(entries, name)
    if not found:
        named = [_quoted(entry.name) for entry in entries if entry.name is not None]
        others = f", only of {', '.join(named[:_NAMES_IN_ERRORS])}" if named else ""
        more = " and others" if len(named) > _NAMES_IN_ERRORS else ""
        kind = f"{algorithm} checksum" if algorithm else "checksum"
        raise ChecksumInvalid(source=source, reason=f"it has no {kind} of {_quoted(name)}{others}{more}")
    ranks = list(Algorithm)
    best = max((entry.checksum.algorithm for entry in found), key=ranks.index)
    checksums = {entry.checksum for entry in found if entry.checksum.algorithm is best}
    if len(checksums) > 1:
        raise ChecksumInvalid(source=source, reason=f"it has several {best} checksums of {_quoted(name)}")
    return checksums.pop()


class LiveDigest:
    """The digest of what has passed so far: ``position`` bytes."""

    __slots__ = ("_hash", "algorithm", "position")

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self.position = 0
        self._hash = _new_hash(algorithm)

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; other threads run meanwhile."""
        self._hash.update(data)
        self.position += len(data)

    def copy(self) -> LiveDigest:
        """Return a digest of the same bytes that goes its own way."""
        twin = LiveDigest(self.algorithm)
        twin.position = self.position
        twin._hash = self._hash.copy()
        return twin

    def checksum(self) -> Checksum:
        """Return the checksum of what has passed so far."""
        return Checksum(algorithm=self.algorithm, value=self._hash.hexdigest())

    def check(self, wanted: Checksum, *, image: str) -> None:
        """Check what has passed against what should have.

        Raises:
            ChecksumMismatch: these were other bytes.
        """
        found = self.checksum()
        if found != wanted:
            raise ChecksumMismatch(image=image, algorithm=wanted.algorithm, wanted=wanted.value, found=found.value)


class _Hash(Protocol):
    @property
    def digest_size(self) -> int: ...
    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def copy(self) -> Self: ...
    def hexdigest(self) -> str: ...


def _new_hash(algorithm: Algorithm) -> _Hash:
    # A machine in FIPS mode refuses MD5 otherwise, though whoever gave an MD5 value has nothing better.
    return hashlib.new(algorithm.value, usedforsecurity=False)


class _Entry(NamedTuple):
    name: str | None
    checksum: Checksum


def _entries(text: str, algorithm: Algorithm | None) -> Iterator[_Entry]:
    for line in text.removeprefix("\ufeff").split("\n"):
        entry = _entry(line.strip(), algorithm)
        if entry is not None and algorithm in (None, entry.checksum.algorithm):
            yield entry


def _entry(line: str, algorithm: Algorithm | None) -> _Entry | None:
    if match := _BSD_LINE.fullmatch(line):
        escape, word, name, value = match.groups()
        found = Algorithm.named(word)
    elif match := _GNU_LINE.fullmatch(line):
        escape, value, name = match.groups()
        found = _algorithm_of(value, algorithm)
    elif match := _VALUE.fullmatch(line):
        escape, word, value, name = "", match[1], match[2], None
        found = Algorithm.named(word) if word else _algorithm_of(value, algorithm)
    else:
        return None
    if found is None or len(value) != found.digits:
        return None
    if escape and name is not None:
        name = _ESCAPED.sub(lambda each: {"n": "\n", "r": "\r"}.get(each[1], each[1]), name)
    return _Entry(name, Checksum(algorithm=found, value=value))


def _algorithm_of(value: str, expected: Algorithm | None) -> Algorithm | None:
    if expected is not None and len(value) == expected.digits:
        return expected
    return _BY_DIGITS.get(len(value))


def _matching(entries: list[_Entry], name: str) -> list[_Entry]:
    path = _plain(name)
    last = path.rpartition("/")[2]
    named = [(_plain(entry.name), entry) for entry in entries if entry.name is not None]
    if not named:
        return entries
    return [entry for found, entry in named if found == path] or [
        entry for found, entry in named if found.rpartition("/")[2] == last
    ]


def _plain(name: str) -> str:
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 160 else f"{text[:160]}...")
