"""Mutations of qcow2 images that know where its tables are: most bytes of a file decide nothing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from random import Random

import zstandard

from tests.fuzz.engine import Scramble
from tests.fuzz.qcow2.case import LONGEST_FILE
from tests.support.qcow2_builder import Kind, Shape, build

_SECTOR = 512
_COPIED = 1 << 63
_COMPRESSED = 1 << 62
_OFFSET = 0x00FF_FFFF_FFFF_FE00
_MAX = 2**64
_FIELDS = {
    4: 4, 8: 8, 16: 4, 20: 4, 24: 8, 32: 4, 36: 4, 40: 8, 48: 8, 56: 4, 60: 4, 64: 8, 72: 8, 80: 8, 88: 8, 96: 4,
    100: 4, 104: 1, 112: 4, 116: 4,
}  # fmt: skip
"""Where the fields of the header are, and how long."""
_SIZE, _L1_ENTRIES, _L1, _REFCOUNTS, _INCOMPATIBLE, _HEADER_LENGTH, _COMPRESSION = 24, 36, 40, 48, 72, 100, 104
_INTERESTING = (0, 1, 2, 3, 4, 8, 9, 16, 21, 72, 104, 112, 511, 512, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
_EXTENSIONS = (0, 0xE2792ACA, 0x6803F857, 0x23852875, 0x0537BE77, 0x44415441, 0x12345678)


def sound(random: Random) -> bytes:
    """Return a sound image of few clusters."""
    kind = random.randrange(8)
    if kind == 0:
        shape = Shape(version=2, cluster_bits=random.choice([9, 12]))
    elif kind == 1:
        shape = Shape(cluster_bits=14, extended_l2=True, zstd=random.random() < 0.5, short_by=random.randrange(32))
    elif kind == 2:
        shape = Shape(cluster_bits=16, zstd=random.random() < 0.5, short_by=random.randrange(128))
    elif kind == 3:
        shape = Shape(cluster_bits=12, zstd=random.random() < 0.5, short_by=random.randrange(8))
    else:
        shape = Shape(cluster_bits=random.choice([9, 9, 10]), zstd=random.random() < 0.5)
    most = max(3, min(150, 128 >> max(0, shape.cluster_bits - 10)))
    kinds = [kind for kind in Kind if shape.allows(kind)]
    guest = [random.choice(kinds) for _ in range(random.randint(1, most))]
    return build(shape, guest, random, tables_first=random.random() < 0.3).file


def mutated(file: bytes, random: Random, scramble: Scramble) -> bytes:
    """Return the image with a few changes."""
    draft = _Draft(file, random, scramble)
    for _ in range(random.choice([1, 1, 1, 2, 3, 5])):
        if len(draft.file) < 112:
            draft.file = bytearray(sound(random))
        random.choice(_MUTATIONS)(draft)
    return bytes(draft.file[:LONGEST_FILE])


def crossed(one: bytes, other: bytes, random: Random) -> bytes:
    """Return an image with the start of one and the end of the other, or with clusters of both."""
    if random.random() < 0.3:
        at = random.randrange(max(1, min(len(one), len(other)))) // _SECTOR * _SECTOR
        return one[:at] + other[at:]
    draft = bytearray(one)
    for _ in range(random.randint(1, 8)):
        size = 1 << random.randint(9, 14)
        source = random.randrange(max(1, len(other))) // size * size
        target = random.randrange(max(1, len(one))) // size * size
        draft[target : target + size] = other[source : source + size]
    return bytes(draft)


class _Draft:
    """An image in work, which may be anything already."""

    def __init__(self, file: bytes, random: Random, scramble: Scramble) -> None:
        self.file = bytearray(file)
        self.random = random
        self.scramble = scramble

    @property
    def bits(self) -> int:
        return min(max(9, self.number(20, 4)), 21)

    @property
    def cluster(self) -> int:
        return 1 << self.bits

    @property
    def extended(self) -> bool:
        return self.number(4, 4) == 3 and bool(self.number(_INCOMPATIBLE) & 1 << 4)

    def number(self, at: int, size: int = 8) -> int:
        return int.from_bytes(self.file[at : at + size])

    def put(self, at: int, value: int, size: int = 8) -> None:
        if at + size <= len(self.file):
            self.file[at : at + size] = (value % (1 << 8 * size)).to_bytes(size)

    def l1(self) -> range:
        """Return where the entries of L1 are, as far as they are in the file."""
        start = self.number(_L1)
        return range(start, max(start, min(start + 8 * min(self.number(_L1_ENTRIES, 4), 64), len(self.file) - 7)), 8)

    def l2(self) -> list[int]:
        """Return where the L2 tables are."""
        starts = {self.number(at) & _OFFSET for at in self.l1()}
        return sorted(start for start in starts if 0 < start <= len(self.file) - self.cluster)

    def entries(self) -> list[int]:
        """Return where the words of L2 tables are that aren't zero, and a few others."""
        words = [at for table in self.l2() for at in range(table, table + self.cluster, 8)]
        used = [at for at in words if any(self.file[at : at + 8])]
        return used + self.random.sample(words, min(8, len(words)))

    def entry(self) -> int:
        """Return where some word of a table is."""
        places = self.entries()
        if not places or self.random.random() < 0.15:
            places = list(self.l1())
        return self.random.choice(places) if places else 8 * self.random.randrange(len(self.file) // 8)

    def word(self) -> int:
        """Return a word that means something somewhere."""
        random = self.random
        flags = random.choice([0, 0, 1, _COPIED, _COPIED, _COPIED | 1, _COMPRESSED, 2, 512, 1 << 57])
        match random.randrange(4):
            case 0:
                return random.choice(_INTERESTING)
            case 1:
                return random.randrange(len(self.file) // _SECTOR + 3) * _SECTOR | flags
            case 2:
                return random.getrandbits(64)
        return random.randrange((len(self.file) >> self.bits) + 2) << self.bits | flags

    def append(self, data: bytes, *, gap: int = 0) -> int:
        """Put bytes behind the end, at a cluster's start or ``gap`` bytes behind; return where they are."""
        self.file += bytes(-len(self.file) % self.cluster + gap)
        at = len(self.file)
        if at + len(data) <= LONGEST_FILE:
            self.file += data
        return at


def _field(draft: _Draft) -> None:
    at, size = draft.random.choice(list(_FIELDS.items()))
    value = draft.number(at, size)
    match draft.random.randrange(3):
        case 0:
            value = draft.word()
        case 1:
            value ^= 1 << draft.random.randrange(8 * size)
        case 2:
            value += draft.random.choice([1, -1, 8, -8, 512, -512, draft.cluster, -draft.cluster])
    draft.put(at, value, size)


def _entry_replaced(draft: _Draft) -> None:
    draft.put(draft.entry(), draft.word())


def _entry_copied(draft: _Draft) -> None:
    value = draft.number(draft.entry())
    draft.put(draft.entry(), value + draft.random.choice([0, 0, 1, -1, 17, 512, -512, draft.cluster]))


def _entry_nudged(draft: _Draft) -> None:
    at = draft.entry()
    value = draft.number(at)
    if draft.random.random() < 0.5:
        draft.put(at, value ^ 1 << draft.random.randrange(64))
    else:
        # Of a compressed cluster, where it starts or how many sectors it has.
        unit = draft.random.choice([1, 512, draft.cluster, 1 << 62 - (draft.bits - 8)])
        draft.put(at, value + draft.random.choice([unit, -unit]))


def _entries_exchanged(draft: _Draft) -> None:
    one, other = draft.entry(), draft.entry()
    first, second = draft.number(one), draft.number(other)
    draft.put(one, second)
    draft.put(other, first)


def _entry_cleared(draft: _Draft) -> None:
    draft.put(draft.entry(), draft.random.choice([0, 0, 1]))


def _clusters_exchanged(draft: _Draft) -> None:
    """Exchange two clusters and all that points there: mostly a sound image in another order."""
    count = len(draft.file) >> draft.bits
    if count < 3:
        return
    one, other = (draft.random.randrange(1, count) for _ in range(2))
    if draft.random.random() < 0.8:
        moves = {one: other, other: one}
        words = [at for table in draft.l2() for at in range(table, table + draft.cluster, 16 if draft.extended else 8)]
        for at in [_L1, _REFCOUNTS, *draft.l1(), *words]:
            value = draft.number(at)
            mask = (1 << 62 - (draft.bits - 8)) - 1 if value & _COMPRESSED else _OFFSET
            place = value & mask
            if place and place >> draft.bits in moves:
                moved = moves[place >> draft.bits] << draft.bits | place & draft.cluster - 1
                draft.put(at, value & ~mask | moved)
    here, there = one << draft.bits, other << draft.bits
    first, second = draft.file[here : here + draft.cluster], draft.file[there : there + draft.cluster]
    draft.file[here : here + draft.cluster], draft.file[there : there + draft.cluster] = second, first


def _cluster_copied(draft: _Draft) -> None:
    count = (len(draft.file) >> draft.bits) + 1
    source, target = (draft.random.randrange(count) << draft.bits for _ in range(2))
    data = draft.file[source : source + draft.cluster]
    draft.file[target : target + len(data)] = data


def _cluster_filled(draft: _Draft) -> None:
    at = draft.random.randrange(1, (len(draft.file) >> draft.bits) + 2) << draft.bits
    data = draft.random.choice([bytes(draft.cluster), bytes([0xAA]) * draft.cluster])
    length = min(draft.cluster, max(0, len(draft.file) - at))
    draft.file[at : at + length] = data[:length]


def _cut(draft: _Draft) -> None:
    unit = draft.random.choice([1, _SECTOR, draft.cluster])
    back = draft.random.choice([1, 1, 2, 3, draft.random.randint(1, max(1, len(draft.file) // unit))])
    end = (len(draft.file) - 1) // unit * unit - (back - 1) * unit
    del draft.file[max(1, end) :]


def _extended(draft: _Draft) -> None:
    length = draft.random.choice([1, 100, _SECTOR, draft.cluster, draft.cluster * 3])
    draft.file += draft.random.choice([bytes(length), draft.random.randbytes(length)])


def _resized(draft: _Draft) -> None:
    """Change the disk's size, and mostly the number of L1's entries as it needs."""
    random = draft.random
    covers = (draft.cluster // (16 if draft.extended else 8)) << draft.bits
    step = random.choice([_SECTOR, draft.cluster, covers])
    size = random.choice([draft.number(_SIZE) + random.randint(-9, 9) * step, random.randint(1, 70) * covers, step])
    draft.put(_SIZE, size)
    if random.random() < 0.8:
        draft.put(_L1_ENTRIES, -(-(size % _MAX) // covers), 4)


def _l1_moved(draft: _Draft) -> None:
    """Write the L1 table anew behind the end, longer perhaps, as when an image is enlarged."""
    random = draft.random
    words = [draft.number(at) for at in draft.l1()]
    words += [random.choice([0, 0, 0, *words]) for _ in range(random.choice([0, 0, 1, 5, 70]))]
    table = struct.pack(f">{len(words)}Q", *words)
    padded = table + bytes(-len(table) % draft.cluster) if random.random() < 0.7 else table
    draft.put(_L1, draft.append(padded))
    draft.put(_L1_ENTRIES, len(words), 4)


def _l2_added(draft: _Draft) -> None:
    """Write an L2 table behind the end, a copy of another or a new one, as after an internal snapshot."""
    random = draft.random
    places = list(draft.l1())
    if not places:
        return
    at = random.choice(places)
    old = draft.number(at) & _OFFSET
    table = draft.file[old : old + draft.cluster] if old else bytearray()
    draft.put(at, draft.append(bytes(table.ljust(draft.cluster, b"\0"))) | _COPIED)
    if random.random() < 0.5:
        draft.file[old : old + draft.cluster] = bytes(len(draft.file[old : old + draft.cluster]))


def _data_added(draft: _Draft) -> None:
    letters = draft.random.randbytes(16) * (draft.cluster // 16)
    entry = draft.entry()
    draft.put(entry, draft.append(letters[: draft.random.choice([draft.cluster, draft.cluster, _SECTOR])]) | _COPIED)


def _payload_added(draft: _Draft) -> None:
    """Write a compressed cluster of any make behind the end, at any place within a cluster."""
    random = draft.random
    entry, payload = draft.entry(), _payload(draft)
    at = draft.append(payload, gap=random.choice([0, 0, 1, 300, draft.cluster - 1]))
    sectors = (at + len(payload) - 1) // _SECTOR - at // _SECTOR + random.choice([0, 0, 0, 0, 1, -1, 3])
    draft.put(entry, _COMPRESSED | max(0, sectors) << 62 - (draft.bits - 8) | at)


def _payload(draft: _Draft) -> bytes:
    random = draft.random
    length = draft.cluster + random.choice([0, 0, 0, 0, 0, 1, -1, 1000])
    pattern = random.randbytes(random.choice([1, 40, 600]))
    data = (pattern * (length // len(pattern) + 1))[:length]
    if draft.number(_COMPRESSION, 1) == 1:
        cuts = sorted(random.randrange(length) for _ in range(random.choice([0, 0, 1, 3, 20])))
        pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, length], strict=True)]
        frames = [
            zstandard.ZstdCompressor(
                write_content_size=random.random() < 0.5, write_checksum=random.random() < 0.5
            ).compress(piece)
            for piece in pieces
        ]
        if random.random() < 0.2:
            frames.insert(random.randrange(len(frames) + 1), b"\x50\x2a\x4d\x18\x04\0\0\0skip")
        return b"".join(frames)
    stream = zlib.compressobj(random.choice([0, 1, 9]), zlib.DEFLATED, random.choice([-9, -12, -12, -15]))
    return stream.compress(data) + stream.flush(random.choice([zlib.Z_FINISH, zlib.Z_FINISH, zlib.Z_SYNC_FLUSH]))


def _extension_added(draft: _Draft) -> None:
    random = draft.random
    at = draft.number(_HEADER_LENGTH, 4) if draft.number(4, 4) == 3 else 72
    length = random.choice([0, 1, 8, 24, 200, draft.cluster])
    data = struct.pack(">II", random.choice(_EXTENSIONS), length) + random.randbytes(min(length, 300))
    if at + len(data) <= len(draft.file):
        draft.file[at : at + len(data)] = data


def _scrambled(draft: _Draft) -> None:
    """Let libFuzzer change a few bytes, which knows what they are compared with."""
    at = draft.random.choice([0, draft.entry(), draft.random.randrange(len(draft.file))])
    length = draft.random.choice([8, 8, 64, 128])
    before = bytes(draft.file[at : at + length])
    draft.file[at : at + length] = draft.scramble(before, len(before))[: len(before)].ljust(len(before), b"\0")


_MUTATIONS: tuple[Callable[[_Draft], None], ...] = (
    _field,
    _entry_replaced,
    _entry_copied,
    _entry_nudged,
    _entries_exchanged,
    _entry_cleared,
    _clusters_exchanged,
    _clusters_exchanged,
    _cluster_copied,
    _cluster_filled,
    _cut,
    _extended,
    _resized,
    _l1_moved,
    _l2_added,
    _data_added,
    _payload_added,
    _extension_added,
    _scrambled,
)
