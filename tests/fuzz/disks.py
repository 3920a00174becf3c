"""Disks of any size with a few bytes on them, packed, and changed as whoever forges a partition table would."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from libironic_disk.pure.tables.gptcopy import MAGIC, MOST_ENTRIES
from libironic_disk.pure.tables.model import Extent
from libironic_disk.units import KIB, MIB
from tests.fuzz.engine import Scramble
from tests.fuzz.mutations import mutated
from tests.unit.pure.tables.disks import Disk
from tests.unit.pure.tables.forging import HEADER_FIELDS, forge_header

_HEAD = struct.Struct("<BQQ")
_EXTENT = struct.Struct("<QI")
_LARGEST = 1 << 50
_MOST_EXTENTS = 200
_MOST_BYTES = 4 * MIB
_SLOTS_AT = 446
_WORDS = (b"\x55\xaa", MAGIC, b"\xee", b"\x05", b"\x0f", b"\x80", bytes(16), b"\xff" * 8, b"NTFS    ")


@dataclass
class DiskCase:
    """A disk, the bytes of its sectors, and a number that decides what else is tried."""

    disk: Disk
    sector_size: int
    choice: int = 0

    @classmethod
    def unpacked(cls, data: bytes) -> DiskCase | None:
        """Read an input; None if it is none."""
        try:
            plain = zlib.decompressobj().decompress(data, _MOST_BYTES)
            power, size, choice = _HEAD.unpack_from(plain)
        except (zlib.error, struct.error):
            return None
        disk, at = Disk(size % _LARGEST), _HEAD.size
        while at + _EXTENT.size <= len(plain) and len(disk.extents) < _MOST_EXTENTS:
            offset, length = _EXTENT.unpack_from(plain, at)
            at += _EXTENT.size
            piece = plain[at : at + length][: max(0, disk.size - offset)]
            at += length
            if piece:
                disk.extents.append(Extent(offset, piece))
        return cls(disk, 512 << power % 8, choice)

    def packed(self) -> bytes:
        """Return the bytes that :meth:`unpacked` reads."""
        power = (self.sector_size // 512).bit_length() - 1
        parts = [_HEAD.pack(power, self.disk.size, self.choice)]
        for offset, data in self.disk.extents:
            parts += [_EXTENT.pack(offset % (1 << 63), len(data)), data]
        return zlib.compress(b"".join(parts), 1)

    def merged(self) -> DiskCase:
        """Return the same with extents that don't overlap, in pieces of a sector each at least."""
        places: dict[int, None] = {}
        for offset, data in self.disk.extents:
            first, last = offset // self.sector_size, (offset + len(data) - 1) // self.sector_size
            places |= dict.fromkeys(range(first, last + 1))
        extents: list[Extent] = []
        for number in sorted(places):
            at = number * self.sector_size
            data = self.disk.read(at, self.sector_size)
            if not data.strip(b"\0"):
                continue
            if extents and extents[-1].offset + len(extents[-1].data) == at:
                extents[-1] = Extent(extents[-1].offset, extents[-1].data + data)
            else:
                extents.append(Extent(at, data))
        return DiskCase(Disk(self.disk.size, extents), self.sector_size, self.choice)


def near(case: DiskCase, random: Random, scramble: Scramble) -> DiskCase:
    """Return another disk near this one; mostly with checksums that fit."""
    draft = _Draft(case.merged(), random, scramble)
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        random.choice(_CHANGES)(draft)
    if random.random() < 0.85:
        repair(draft.case)
    return draft.case.merged()


def repair(case: DiskCase) -> None:
    """Make the checksums of whatever begins like a header of a GPT fit."""
    disk, size = case.disk, case.sector_size
    for lba in (1, disk.size // size - 1):
        header = disk.read(lba * size, size) if lba > 0 else b""
        if len(header) < size or not header.startswith(MAGIC):
            continue
        entries, slots, width = struct.unpack_from("<QII", header, 72)
        length = slots * width
        if 0 < length <= MOST_ENTRIES and entries < 1 << 40:
            forge_header(disk, lba, size, entries_crc=zlib.crc32(disk.read(entries * size, length)))


@dataclass
class _Draft:
    case: DiskCase
    random: Random
    scramble: Scramble

    @property
    def disk(self) -> Disk:
        return self.case.disk

    def lba(self) -> int:
        sectors = self.disk.size // self.case.sector_size
        places = [*(at // self.case.sector_size for at, _ in self.disk.extents), 0]
        near = [0, 1, 2, 33, 34, 63, 2048, sectors - 1, sectors - 2, sectors - 34, sectors, self.random.choice(places)]
        return max(
            0,
            self.random.choice([*near, self.random.randrange(max(sectors, 1))]) + self.random.choice([0, 0, 0, 1, -1]),
        )


def _header(draft: _Draft) -> None:
    disk, size = draft.disk, draft.case.sector_size
    lba = draft.random.choice([1, 1, disk.size // size - 1])
    name = draft.random.choice(sorted(HEADER_FIELDS))
    form = HEADER_FIELDS[name][1]
    if lba < 1 or disk.read(lba * size, 8) != MAGIC:
        return
    if form == "16s":
        forge_header(disk, lba, size, **{name: draft.random.randbytes(16)})
        return
    header = disk.read(lba * size, size)
    (value,) = struct.unpack_from(form, header, HEADER_FIELDS[name][0])
    value = draft.random.choice([draft.lba(), value + 1, value - 1, 2 * value, value // 2, 128, 256])
    forge_header(disk, lba, size, **{name: value % (1 << 8 * struct.calcsize(form))})


def _entry(draft: _Draft) -> None:
    """Change an entry of one copy or of both, as a program would."""
    disk, size, random = draft.disk, draft.case.sector_size, draft.random
    number = random.choice([0, 0, 1, 2, 3, random.randrange(128)])
    at, data = random.choice(
        [
            (0, random.choice([bytes(16), random.randbytes(16)])),
            (16, random.choice([bytes(16), random.randbytes(16)])),
            (32, struct.pack("<Q", draft.lba())),
            (40, struct.pack("<Q", draft.lba())),
            (32, struct.pack("<QQ", draft.lba(), draft.lba())),
            (48, random.randbytes(8)),
            (
                56,
                random.choice([random.randbytes(72), "config-2".encode("utf-16-le").ljust(72, b"\0"), b"\0\xd8" * 36]),
            ),
        ]
    )
    for lba in (1, disk.size // size - 1)[: random.choice([1, 2, 2, 2])]:
        header = disk.read(lba * size, size) if lba > 0 else b""
        if header.startswith(MAGIC):
            entries = int.from_bytes(header[72:80], "little")
            disk.write(entries * size + number * 128 + at, data)


def _slot(draft: _Draft) -> None:
    random, size = draft.random, draft.case.sector_size
    records = [0, *(offset // size for offset, data in draft.disk.extents if data[510:512] == b"\x55\xaa"), draft.lba()]
    lba, number = random.choice(records), random.randrange(4)
    kind = random.choice([0, 5, 0x0F, 0x83, 0x83, 0x82, 0xEE, 0x85, 7])
    first, count = draft.lba(), random.choice([0, 1, 8, 2048, draft.lba(), 0xFFFFFFFF])
    packed = struct.pack(
        "<B3sB3sII",
        random.choice([0, 0, 0x80, 1]),
        b"\xfe\xff\xff",
        kind,
        b"\xfe\xff\xff",
        first % (1 << 32),
        count % (1 << 32),
    )
    draft.disk.write(lba * size + _SLOTS_AT + 16 * number, packed)
    if random.random() < 0.7:
        draft.disk.write(lba * size + 510, b"\x55\xaa")


def _bytes(draft: _Draft) -> None:
    if not draft.disk.extents:
        return
    number = draft.random.randrange(len(draft.disk.extents))
    offset, data = draft.disk.extents[number]
    draft.disk.extents[number] = Extent(offset, mutated(data, draft.random, draft.scramble, words=_WORDS, fixed=True))


def _moved(draft: _Draft) -> None:
    if draft.disk.extents:
        _, data = draft.random.choice(draft.disk.extents)
        draft.disk.write(draft.lba() * draft.case.sector_size, data[: draft.random.choice([512, 4096, 16 * KIB])])


def _resized(draft: _Draft) -> None:
    size = draft.case.sector_size
    more = draft.random.choice([1, -1, size, -size, 34 * size, MIB, -MIB, 16 * MIB, draft.disk.size])
    draft.disk.size = max(0, draft.disk.size + more) % _LARGEST


def _enlarged(draft: _Draft) -> None:
    draft.disk.size = min(draft.disk.size + draft.random.choice([1, 8, 300]) * MIB, _LARGEST - 1)


def _other_sectors(draft: _Draft) -> None:
    draft.case.sector_size = draft.random.choice([512, 512, 1024, 2048, 4096, 65536])


def _other_choice(draft: _Draft) -> None:
    draft.case.choice = draft.random.getrandbits(64)


_CHANGES: tuple[Callable[[_Draft], None], ...] = (
    *(_header, _header, _entry, _entry, _entry, _slot, _slot, _slot, _bytes, _bytes),
    *(_moved, _resized, _enlarged, _other_sectors, _other_choice, _other_choice),
)


def crossed_disks(one: DiskCase, other: DiskCase, random: Random) -> DiskCase:
    """Return a disk with some of one's bytes and some of the other's."""
    extents: Iterable[Extent] = [each for each in (*one.disk.extents, *other.disk.extents) if random.random() < 0.7]
    base = random.choice([one, other])
    return DiskCase(Disk(base.disk.size, extents), base.sector_size, other.choice).merged()
