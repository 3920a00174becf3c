"""Checksum files: what is found stands in the text, and the order of the lines decides nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from random import Random

from libironic_disk.errors import ChecksumInvalid
from libironic_disk.pure.images.checksums import Algorithm, Checksum, find_checksum, parse_checksum
from tests.fuzz.mutations import words_of
from tests.fuzz.plain import Plain, repeated

_NAME = "images/disk.img"
_NAMES = ("disk.img", "./disk.img", "images/disk.img", "other.img", "a b.img", "*disk.img", "x/disk.img")


def _line(random: Random) -> str:
    algorithm, name = random.choice(list(Algorithm)), random.choice(_NAMES)
    value = hashlib.new(algorithm, name.encode()).hexdigest()
    forms = (
        f"{value}  {name}",
        f"{value} *{name}",
        f"{algorithm.upper()} ({name}) = {value}",
        value,
        f"{algorithm}:{value}",
    )
    return random.choice(
        [*forms, f"\\{value}  {name}\\n", f"SHA2-256({name})= {value}", "-----BEGIN PGP SIGNED MESSAGE-----"]
    )


class _Checksums(Plain):
    refusals = (ChecksumInvalid,)
    words = words_of(
        b"\n|  | *|\t|\\|\\n|\\\\|disk.img|images/|./|/| = |(|) = |SHA256 (|MD5|sha512:|SHA2-256(|\r",
        b"\xef\xbb\xbf|\xff|\xe2\x80\xa8",
        *(hashlib.new(each, b"x").hexdigest().encode() for each in Algorithm),
    )

    def seeds(self, random: Random) -> Iterator[bytes]:
        return repeated(lambda: "".join(f"{_line(random)}\n" for _ in range(random.randint(1, 8))).encode())

    def examine(self, data: bytes) -> str:
        text = data.decode(errors="replace")
        one, other = self._found(text), self._found("\n".join(reversed(text.removeprefix("\ufeff").split("\n"))))
        assert one == other
        for algorithm in (Algorithm.SHA256, Algorithm.SHA3_256):
            expected = self._found(text, algorithm)
            assert expected is None or expected.algorithm is algorithm
        alone = parse_checksum(text) if len(text) < 200 and one is None else one
        if alone is None:
            return "nothing"
        assert alone.value in text.lower()
        assert len(alone.value) == alone.algorithm.digits
        assert parse_checksum(str(alone)) == alone
        return f"{alone.algorithm}"

    def _found(self, text: str, algorithm: Algorithm | None = None) -> Checksum | None:
        try:
            return find_checksum(text, name=_NAME, source="SUMS", algorithm=algorithm)
        except ChecksumInvalid as error:
            assert len(str(error)) < 2000
            return None


TARGET = _Checksums()
