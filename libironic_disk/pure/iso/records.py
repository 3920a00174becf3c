"""Directory records and what a directory is made of: ECMA-119 (4th edition), 9.1 and 6.8.1."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Self

from libironic_disk.pure.iso.volumes import SECTOR, both16, both32
from libironic_disk.units import align_up

SELF: Final = b"\x00"
PARENT: Final = b"\x01"
LARGEST_SIZE: Final = (1 << 32) - SECTOR
"""Bytes of one extent at most: its size has 32 bits, and other readers want whole sectors in all but the last one."""

_HEAD: Final = 33
_EXTENT_AT: Final = 2
_DIRECTORY: Final = 0x02
_ASSOCIATED: Final = 0x04
_CONTINUED: Final = 0x80
_LARGEST: Final = 254


class RecordDamaged(ValueError):
    """Bytes that are no directory record; the text says in which way."""


class Record(NamedTuple):
    """One record, by the bytes it consists of; ``at`` is where it is in the image, 0 for one that is new."""

    at: int
    raw: bytes

    @property
    def extent(self) -> int:
        """The sector at which the contents begin, behind those of an extended attribute record."""
        sector: int = struct.unpack_from("<I", self.raw, _EXTENT_AT)[0]
        return sector + self.raw[1]

    @property
    def size(self) -> int:
        """Bytes of the contents."""
        size: int = struct.unpack_from("<I", self.raw, 10)[0]
        return size

    @property
    def date(self) -> bytes:
        """Its date, in the seven bytes of 9.1.5."""
        return self.raw[18:25]

    @property
    def identifier(self) -> bytes:
        """Its name, as the tree's character set has it."""
        return self.raw[_HEAD : _HEAD + self.raw[32]]

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory's."""
        return bool(self.raw[25] & _DIRECTORY)

    @property
    def is_associated(self) -> bool:
        """Whether it is what belongs to the file of the same name, as a resource fork does."""
        return bool(self.raw[25] & _ASSOCIATED)

    @property
    def is_continued(self) -> bool:
        """Whether the next record is of the same file."""
        return bool(self.raw[25] & _CONTINUED)

    @property
    def is_interleaved(self) -> bool:
        """Whether its contents have gaps (9.1.7)."""
        return self.raw[26] != 0

    @property
    def system_use(self) -> bytes:
        """What is behind the name: Rock Ridge's place."""
        return self.raw[self.system_use_at :]

    @property
    def system_use_at(self) -> int:
        """Where in the record that begins."""
        length = self.raw[32]
        return _HEAD + length + (length + 1) % 2

    def placed(self, extent: int, size: int) -> Self:
        """Return the same record for contents elsewhere."""
        head = bytes((self.raw[0], 0)) + both32(extent) + both32(size)
        return self._replace(raw=head + self.raw[18:])

    def with_system_use(self, system_use: bytes) -> Self:
        """Return the same record with other bytes of the same number behind the name."""
        return self._replace(raw=self.raw[: self.system_use_at] + system_use)


def new_record(identifier: bytes, *, date: bytes, is_directory: bool, system_use: bytes = b"") -> Record:
    """Return a record that leads nowhere yet.

    Raises:
        ValueError: the name and what is behind it are too long for a record.
    """
    name = identifier + bytes((len(identifier) + 1) % 2)
    flags = _DIRECTORY if is_directory else 0
    tail = date + bytes((flags, 0, 0)) + both16(1) + bytes((len(identifier),)) + name + system_use
    length = align_up(18 + len(tail), 2)
    if length > _LARGEST:
        raise ValueError(f"a record of {length} bytes")
    return Record(0, (bytes((length, 0)) + bytes(16) + tail).ljust(length, b"\0"))


def room_for_system_use(identifier: bytes) -> int:
    """Return how many bytes fit into a record behind a name."""
    return _LARGEST - _HEAD - len(identifier) - (len(identifier) + 1) % 2


def read_records(data: bytes, at: int) -> Iterator[Record]:
    """Yield the records of a directory whose bytes begin at ``at`` in the image.

    Raises:
        RecordDamaged: there is one that can't be.
    """
    place = 0
    while place < len(data):
        length = data[place]
        if not length:
            # No record crosses the end of a sector: the rest of this one is unused (6.8.1.1).
            place = align_up(place + 1, SECTOR)
            continue
        raw = data[place : place + length]
        if length < _HEAD + 1 or len(raw) < length or place % SECTOR + length > SECTOR:
            raise RecordDamaged(f"the directory record at byte {at + place} has {length} bytes")
        if not raw[32] or _HEAD + raw[32] > length:
            raise RecordDamaged(f"the directory record at byte {at + place} has a name of {raw[32]} bytes")
        yield Record(at + place, raw)
        place += length


def packed(records: Iterable[Record]) -> bytes:
    """Return the bytes of a directory, in whole sectors."""
    data = bytearray()
    for record in records:
        if len(data) % SECTOR + len(record.raw) > SECTOR:
            data += bytes(-len(data) % SECTOR)
        data += record.raw
    return bytes(data) + bytes(-len(data) % SECTOR)


def order_of(identifier: bytes) -> tuple[bytes, bytes, bytes]:
    """Return what records are sorted by (9.3): name, extension and version, short ones as if filled up with blanks."""
    name, _, version = identifier.partition(b";")
    stem, _, extension = name.partition(b".")
    return stem.ljust(32), extension.ljust(32), version
