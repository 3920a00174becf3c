"""An input: a file, and how the decoder reads it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from libironic_disk.pure.images.qcow2_events import MetadataAccess
from libironic_disk.units import KIB, MIB

LONGEST_FILE = MIB
SETTINGS = 8
"""How many bytes say how the file is read."""

_ACCESS = tuple(MetadataAccess)
_BUDGETS = (0, 4 * KIB, 64 * KIB, 32 * MIB)
_SPILL, _SIZE_KNOWN, _CHANGED = 1, 2, 4


class Unreadable(Exception):
    """Bytes that are no input."""


@dataclass(frozen=True, slots=True)
class Case:
    """``settings`` are bytes so that a mutation of any of them is another sound case."""

    settings: bytes
    file: bytes

    @classmethod
    def unpacked(cls, data: bytes) -> Case:
        """Read an input.

        Raises:
            Unreadable: it is none.
        """
        stream = zlib.decompressobj()
        try:
            plain = stream.decompress(data, SETTINGS + LONGEST_FILE)
        except zlib.error as error:
            raise Unreadable from error
        if len(plain) < SETTINGS or stream.unconsumed_tail:
            raise Unreadable
        return cls(plain[:SETTINGS], plain[SETTINGS:])

    def packed(self) -> bytes:
        """Return the bytes that :meth:`unpacked` reads."""
        return zlib.compress(self.settings + self.file[:LONGEST_FILE], 1)

    @property
    def access(self) -> MetadataAccess:
        return _ACCESS[self.settings[0] % len(_ACCESS)]

    @property
    def budget(self) -> int:
        return _BUDGETS[self.settings[1] % len(_BUDGETS)]

    @property
    def spill(self) -> bool:
        return bool(self.settings[2] & _SPILL)

    @property
    def size_known(self) -> bool:
        return bool(self.settings[2] & _SIZE_KNOWN)

    @property
    def changed(self) -> bool:
        """Whether the file isn't the same when it is read out of order."""
        return self.settings[2] & _CHANGED == _CHANGED and self.settings[3] % 4 == 0

    def other_file(self) -> bytes:
        """Return what the file is when it is read out of order."""
        if not self.changed or len(self.file) < 520:
            return self.file
        random = self._random()
        other = bytearray(self.file)
        at = random.randrange(512, len(other) - 7) & ~7
        other[at : at + 8] = random.choice([bytes(8), random.randbytes(8), bytes(7) + b"\1"])
        return bytes(other)

    def sizes(self) -> Iterator[int]:
        """Give the sizes of the pieces that it comes in, without end."""
        random = self._random()
        match self.settings[4] % 5:
            case 0:
                yield LONGEST_FILE
            case 1:
                size = random.randint(100, 5000)
                while True:
                    yield size
            case 2:
                while True:
                    yield random.choice([1, 7, 511, 512, 513, 4096])
            case 3:
                while True:
                    yield random.randint(1, 40_000)
        while True:
            yield random.randint(1, 300) * 512

    def _random(self) -> Random:
        return Random(self.settings[5:])

    def __str__(self) -> str:
        size = "known" if self.size_known else "unknown"
        return (
            f"{len(self.file)} bytes, size {size}, metadata {self.access}, budget {self.budget}, spill {self.spill},"
            f" changed {self.changed}, pieces {self.settings[4] % 5}"
        )
