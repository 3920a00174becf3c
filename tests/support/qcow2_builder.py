"""qcow2 images whose parts are in any order: what no tool writes on purpose, and some write by accident.

A guest is a row of clusters of all kinds. The file is a row of parts (tables, data, compressed clusters packed behind
each other, refcounts, remains that nobody maps), shuffled.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from random import Random

import zstandard

_COPIED = 1 << 63
_COMPRESSED = 1 << 62
_SECTOR = 512


class Kind(Enum):
    """What a cluster of the guest is."""

    ABSENT = auto()
    DATA = auto()
    ZERO_DATA = auto()
    ZERO = auto()
    RESERVED_ZERO = auto()
    COMPRESSED = auto()
    PARTIAL = auto()


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the format lets one choose."""

    cluster_bits: int = 9
    version: int = 3
    extended_l2: bool = False
    zstd: bool = False
    short_by: int = 0
    """How many sectors of the last cluster are behind the disk's end."""

    @property
    def cluster(self) -> int:
        return 1 << self.cluster_bits

    def allows(self, kind: Kind) -> bool:
        if kind is Kind.PARTIAL:
            return self.extended_l2
        if kind in (Kind.ZERO, Kind.RESERVED_ZERO):
            return self.version == 3 and not self.extended_l2
        return True


@dataclass(kw_only=True)
class Built:
    """An image, what must come out of it, and where its parts are."""

    file: bytes
    disk: bytes
    tables: list[int] = field(default_factory=list)
    """Where the L1 table and the L2 tables are."""


@dataclass(kw_only=True)
class _Part:
    """Clusters of the file that stay together. ``entries`` says which entry points at which byte of them."""

    name: str
    data: bytes
    entries: dict[int, int] = field(default_factory=dict)


def build(shape: Shape, kinds: Sequence[Kind], random: Random, *, tables_first: bool = False) -> Built:
    """Build an image; ``kinds`` are the guest's clusters, ``random`` decides contents and order."""
    return _Builder(shape, kinds, random).build(tables_first=tables_first)


class _Builder:
    def __init__(self, shape: Shape, kinds: Sequence[Kind], random: Random) -> None:
        self.shape = shape
        self.kinds = kinds
        self.random = random
        self.entry_size = 16 if shape.extended_l2 else 8
        self.per_table = shape.cluster // self.entry_size
        self.disk = bytearray()
        self.bitmaps: dict[int, int] = {}
        self.flags: dict[int, int] = {}
        self.lengths: dict[int, int] = {}

    def build(self, *, tables_first: bool) -> Built:
        parts = self._content()
        count = -(-len(self.kinds) // self.per_table)
        used = {guest // self.per_table for part in parts for guest in part.entries} | {
            guest // self.per_table for guest in (*self.flags, *self.bitmaps)
        }
        tables = [_Part(name=f"l2 {index}", data=bytes(self.shape.cluster)) for index in range(count) if index in used]
        tables.append(_Part(name="l1", data=bytes(-(-8 * count // self.shape.cluster) * self.shape.cluster)))
        tables.append(_Part(name="refcounts", data=bytes(self.shape.cluster)))
        for part in (parts, tables):
            self.random.shuffle(part)
        order = [*tables, *parts]
        if not tables_first:
            self.random.shuffle(order)
        return self._assemble(order, count)

    def _content(self) -> list[_Part]:
        parts, packed = [], []
        for guest, kind in enumerate(self.kinds):
            data = self._letters(self.shape.cluster)
            match kind:
                case Kind.DATA:
                    parts.append(_Part(name="data", data=data, entries={guest: 0}))
                case Kind.ZERO_DATA:
                    data = bytes(self.shape.cluster)
                    parts.append(_Part(name="zero data", data=data, entries={guest: 0}))
                case Kind.COMPRESSED:
                    data = self._letters(self.shape.cluster, self.random.choice([1, 2, 40]))
                    packed.append((guest, self._pack(data)))
                case Kind.PARTIAL:
                    data = self._partial(guest, data, parts)
                case Kind.RESERVED_ZERO:
                    self.flags[guest] = 1
                    parts.append(_Part(name="reserved", data=data, entries={guest: 0}))
                    data = bytes(self.shape.cluster)
                case Kind.ZERO | Kind.ABSENT:
                    self.flags.update({guest: 1} if kind is Kind.ZERO else {})
                    data = bytes(self.shape.cluster)
            self.disk += data
        for _ in range(self.random.randint(0, 3)):
            remains = self._letters(self.shape.cluster) if self.random.random() < 0.7 else bytes(self.shape.cluster)
            parts.append(_Part(name="remains", data=remains))
        return parts + self._groups(packed)

    def _partial(self, guest: int, data: bytes, parts: list[_Part]) -> bytes:
        allocated = self.random.getrandbits(32) if self.random.random() < 0.8 else 0
        zero = self.random.getrandbits(32) & ~allocated
        self.bitmaps[guest] = zero << 32 | allocated
        if allocated or self.random.random() < 0.5:
            parts.append(_Part(name="partial", data=data, entries={guest: 0}))
        size = self.shape.cluster // 32
        seen = (data[at * size : at * size + size] if allocated >> at & 1 else bytes(size) for at in range(32))
        return b"".join(seen)

    def _groups(self, packed: list[tuple[int, bytes]]) -> list[_Part]:
        """Pack compressed clusters behind each other, mostly without a gap, in several groups."""
        self.random.shuffle(packed)
        groups: list[_Part] = []
        data, entries = bytearray(), dict[int, int]()
        for guest, payload in packed:
            entries[guest] = len(data)
            self.lengths[guest] = len(payload)
            data += payload + bytes(self.random.choice([0, 0, 0, 1, 700]))
            if self.random.random() < 0.2:
                groups.append(self._group(data, entries))
                data, entries = bytearray(), {}
        return [*groups, self._group(data, entries)] if entries else groups

    def _group(self, data: bytearray, entries: dict[int, int]) -> _Part:
        padded = bytes(data) + bytes(-len(data) % self.shape.cluster)
        return _Part(name="compressed", data=padded, entries=entries)

    def _letters(self, size: int, variety: int = 200) -> bytes:
        words = [self.random.randbytes(self.random.randint(1, 16)) for _ in range(variety)]
        text = b"".join(self.random.choice(words) for _ in range(min(size, 64)))
        return (text * (size // max(1, len(text)) + 1))[:size]

    def _pack(self, data: bytes) -> bytes:
        if self.shape.zstd:
            return zstandard.ZstdCompressor(write_content_size=self.random.random() < 0.5).compress(data)
        stream = zlib.compressobj(6, zlib.DEFLATED, -12)
        return stream.compress(data) + stream.flush()

    def _assemble(self, order: list[_Part], tables: int) -> Built:
        file = bytearray(self.shape.cluster)
        places: dict[str, int] = {}
        words: dict[int, int] = {guest: flag for guest, flag in self.flags.items()}
        for part in order:
            places[part.name] = len(file)
            for guest, offset in part.entries.items():
                words[guest] = words.get(guest, 0) | self._entry(guest, len(file) + offset)
            file += part.data
        l1 = [places.get(f"l2 {index}", 0) for index in range(tables)]
        for index, at in enumerate(l1):
            if at:
                first = index * self.per_table
                file[at : at + self.shape.cluster] = self._table(words, first)
        at = places["l1"]
        file[at : at + 8 * tables] = struct.pack(f">{tables}Q", *(entry | _COPIED * bool(entry) for entry in l1))
        size = len(self.disk) - self.shape.short_by * _SECTOR
        file[: self.shape.cluster] = self._header(size, tables, places)
        return Built(file=bytes(file), disk=bytes(self.disk[:size]), tables=[at, *filter(None, l1)])

    def _entry(self, guest: int, at: int) -> int:
        if guest not in self.lengths:
            return at | _COPIED
        sectors = (at + self.lengths[guest] - 1) // _SECTOR - at // _SECTOR
        return _COMPRESSED | sectors << 62 - (self.shape.cluster_bits - 8) | at

    def _table(self, words: dict[int, int], first: int) -> bytes:
        table = bytearray()
        for guest in range(first, first + self.per_table):
            table += struct.pack(">Q", words.get(guest, 0))
            if self.shape.extended_l2:
                whole = words.get(guest, 0) and guest not in self.lengths
                table += struct.pack(">Q", self.bitmaps.get(guest, (1 << 32) - 1 if whole else 0))
        return bytes(table)

    def _header(self, size: int, l1_entries: int, places: dict[str, int]) -> bytes:
        head = struct.pack(
            ">4sIQIIQIIQQIIQ",
            b"QFI\xfb",
            self.shape.version,
            0,
            0,
            self.shape.cluster_bits,
            size,
            0,
            l1_entries,
            places["l1"],
            places["refcounts"],
            1,
            0,
            0,
        )
        if self.shape.version == 3:
            incompatible = self.shape.zstd << 3 | self.shape.extended_l2 << 4
            head += struct.pack(">QQQIIB7x", incompatible, 0, 0, 4, 112, self.shape.zstd)
        return head.ljust(self.shape.cluster, b"\0")
