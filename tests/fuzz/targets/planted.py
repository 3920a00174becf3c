"""A target that has a defect: what the engine itself is tested with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import cast

import atheris

from tests.fuzz.engine import Scramble


class _Planted:
    """Four bytes that nobody finds by chance. Each alone is easy, for whoever sees that it reached new code."""

    def __init__(self) -> None:
        self._reached = cast("Callable[[bytes], int]", atheris.instrument_func(_reached))

    def seeds(self, random: Random) -> Iterator[bytes]:
        yield bytes(4)

    def mutate(self, data: bytes, random: Random, scramble: Scramble) -> bytes:
        changed = bytearray(data[:4].ljust(4, b"\0"))
        changed[random.randrange(4)] = random.randrange(256)
        return bytes(changed)

    def cross(self, data: bytes, other: bytes, random: Random) -> bytes:
        return data[:2] + other[2:]

    def check(self, data: bytes) -> bool:
        assert self._reached(data) < 4, "the planted defect"
        return True

    def summary(self) -> str:
        return "nothing"


def _reached(data: bytes) -> int:
    if len(data) < 4 or data[0] != 0x51:
        return 0
    if data[1] != 0x46:
        return 1
    if data[2] != 0x49:
        return 2
    if data[3] != 0xFB:
        return 3
    return 4


TARGET = _Planted()
