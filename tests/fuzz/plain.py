"""What targets of short inputs have in common: how they are changed, what each may cost, which errors may come."""

from __future__ import annotations

import hashlib
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from libironic_disk.errors import DiskError
from libironic_disk.units import MIB
from tests.fuzz.engine import Scramble
from tests.fuzz.limits import limited
from tests.fuzz.mutations import crossed, mutated

_Value = TypeVar("_Value")

LARGEST_IMAGE = 4 * MIB


class Plain(ABC):
    """A target whose inputs are texts, or bytes as they are.

    Attributes:
        refusals: the errors that an input may end with.
        words: what means something in it.
        seconds: of processor time for an input, and for each byte of it.
        memory: bytes that may be taken for it.
        fixed: whether bytes keep their place when it is changed.
    """

    refusals: tuple[type[DiskError], ...] = ()
    words: Sequence[bytes] = ()
    seconds = (1.0, 20e-6)
    memory = 16 * MIB
    fixed = False

    def __init__(self) -> None:
        self._outcomes = Counter[str]()

    @abstractmethod
    def seeds(self, random: Random) -> Iterator[bytes]:
        """Give sound inputs."""

    @abstractmethod
    def examine(self, data: bytes) -> str:
        """Read an input, assert what has to hold, and say in a word what it was."""

    def mutate(self, data: bytes, random: Random, scramble: Scramble) -> bytes:
        return mutated(data, random, scramble, words=self.words, fixed=self.fixed)

    def cross(self, data: bytes, other: bytes, random: Random) -> bytes:
        return crossed(data, other, random)

    def check(self, data: bytes) -> bool:
        base, each = self.seconds
        try:
            with limited(seconds=lambda: base + each * len(data), memory=self.memory + 20 * len(data)):
                outcome = self.examine(data)
        except self.refusals as error:
            assert str(error)
            outcome = type(error).__name__
        self._outcomes[outcome] += 1
        return True

    def summary(self) -> str:
        return ", ".join(f"{outcome} {count}" for outcome, count in self._outcomes.most_common()) or "nothing"


class Packed(Plain):
    """A target whose inputs are images of mostly zeros, which are packed."""

    fixed = True
    seconds = (1.0, 2e-6)

    @abstractmethod
    def images(self, random: Random) -> Iterator[bytes]:
        """Give sound images."""

    def seeds(self, random: Random) -> Iterator[bytes]:
        return (packed(image) for image in self.images(random))

    def mutate(self, data: bytes, random: Random, scramble: Scramble) -> bytes:
        image = unpacked(data)
        return data if image is None else packed(self.changed(image, random, scramble))

    def changed(self, image: bytes, random: Random, scramble: Scramble) -> bytes:
        """Return another image near this one."""
        return mutated(image, random, scramble, words=self.words, fixed=random.random() < 0.97)

    def cross(self, data: bytes, other: bytes, random: Random) -> bytes:
        one, two = unpacked(data) or b"", unpacked(other) or b""
        cut = random.randrange(len(one) + 1)
        return packed(one[:cut] + two[cut:])

    def check(self, data: bytes) -> bool:
        image = unpacked(data)
        return image is not None and super().check(image)


def packed(image: bytes) -> bytes:
    """Return what :func:`unpacked` reads."""
    return zlib.compress(image[:LARGEST_IMAGE], 1)


def unpacked(data: bytes) -> bytes | None:
    """Return an image of at most 4 MiB; None where the bytes are none."""
    try:
        return zlib.decompressobj().decompress(data, LARGEST_IMAGE)
    except zlib.error:
        return None


def drawn(strategy: SearchStrategy[_Value], random: Random, count: int) -> list[_Value]:
    """Return what a strategy of the property tests gives, the same for the same ``random``."""
    found: list[_Value] = []

    @seed(random.getrandbits(60))
    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck]
    )
    @given(strategy)
    def collect(value: _Value) -> None:
        found.append(value)

    collect()
    return found


def text_of(data: bytes) -> str:
    """Return a text whatever the bytes are, as the package reads the files of images."""
    return data.decode(errors="surrogateescape")


def sampled(data: bytes, one_in: int) -> bool:
    """Whether an input is one of those for which a program is asked: the same ones each time."""
    return int.from_bytes(hashlib.sha1(data, usedforsecurity=False).digest()[:4]) % one_in == 0


def repeated(make: Callable[[], _Value]) -> Iterator[_Value]:
    """Give what is made, without end."""
    while True:
        yield make()
