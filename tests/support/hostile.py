"""Disks whose tables were written to do harm: valid checksums over overlaps, cycles and places that don't exist."""

from __future__ import annotations

import random
import struct
import zlib

from libironic_disk.units import MIB
from tests.unit.pure.tables.disks import Disk

SIZE = 16 * MIB
# Where the magic of a file system or volume lies in what holds it, and what it is.
MAGICS = (
    (1080, b"\x53\xef"),
    (4086, b"SWAPSPACE2"),
    (0, b"XFSB"),
    (65600, b"_BHRfS_M"),
    (512, b"LABELONE"),
    (3, b"NTFS    "),
)


def hostile_disk(chance: random.Random, sector: int) -> Disk:
    """A disk of 16 MiB with a GPT, an MBR, both or neither, superblocks anywhere, and bytes that were hit by chance."""
    disk = Disk(SIZE)
    if chance.random() < 0.5:
        _write_mbr(disk, sector, chance)
    if chance.random() < 0.6:
        _write_gpt(disk, sector, chance)
    for _ in range(chance.randrange(6)):
        inside, magic = chance.choice(MAGICS)
        place = chance.choice([0, 34 * sector, MIB, chance.randrange(SIZE)])
        disk.write(min(place + inside, SIZE - 16), magic)
    for _ in range(chance.randrange(4)):
        edge = chance.randrange(8 * sector)
        disk.write(chance.choice([edge, SIZE - 1 - edge]), chance.randbytes(1))
    if chance.random() < 0.1:
        disk.write(0, chance.randbytes(8 * sector))
    if chance.random() < 0.2:
        disk.size = chance.choice([0, 1, 511, 512, 4096, 34 * sector, 2 * MIB, SIZE - 512, chance.randrange(SIZE)])
    return disk


def _lba(chance: random.Random, sector: int) -> int:
    sectors = SIZE // sector
    near = [0, 1, 2, 34, 40, 63, 2048, sectors // 2, sectors - 34, sectors - 1, sectors, sectors + 1, 2**32 - 1]
    return chance.choice([*near, chance.randrange(sectors), chance.randrange(sectors)])


def _write_gpt(disk: Disk, sector: int, chance: random.Random) -> None:
    """Both copies as UEFI 2.10, section 5.3.2 has them, except for what is changed by chance."""
    entries = b"".join(_entry(chance, sector) for _ in range(chance.randrange(8))).ljust(128 * 128, b"\0")
    last = SIZE // sector - 1
    reserved = -(-len(entries) // sector)
    guid = chance.randbytes(16)
    for mine, other, at in ((1, last, 2), (last, 1, last - reserved)):
        fields = [mine, other, 2 + reserved, last - 1 - reserved, at, 128, 128]
        if chance.random() < 0.3:
            fields[chance.randrange(7)] = _lba(chance, sector)
        here, there, first, end, place, count, size = fields
        crc = zlib.crc32(entries)
        header = struct.pack("<QQQQ16sQIII", here, there, first, end, guid, place, count % 2**32, size % 2**32, crc)
        start = struct.pack("<8sIIII", b"EFI PART", 0x10000, 92, 0, 0)
        checksum = struct.pack("<I", zlib.crc32(start + header))
        disk.write(mine * sector, start[:16] + checksum + start[20:] + header)
        disk.write(at * sector, entries)
    if chance.random() < 0.8:
        disk.write(446, _slot(0xEE, 1, last) + bytes(48) + b"\x55\xaa")


def _entry(chance: random.Random, sector: int) -> bytes:
    kind = chance.choice([bytes(16), b"\xaf" * 16, chance.randbytes(16)])
    name = chance.choice([b"root".decode().encode("utf-16-le"), chance.randbytes(72), b"\x00\xd8" * 36])
    return struct.pack(
        "<16s16sQQQ72s",
        kind,
        chance.choice([b"\x01" * 16, chance.randbytes(16)]),
        _lba(chance, sector),
        _lba(chance, sector),
        chance.getrandbits(64),
        name,
    )


def _slot(kind: int, first: int, count: int, indicator: int = 0) -> bytes:
    return struct.pack("<B3sB3sII", indicator, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", first % 2**32, count % 2**32)


def _write_mbr(disk: Disk, sector: int, chance: random.Random) -> None:
    """A boot record, and others behind it whose links may lead anywhere, back to themselves included."""
    for lba in (0, *(chance.choice([1, 2, 63, 64, 2048, chance.randrange(SIZE // sector)]) for _ in range(8))):
        slots = b"".join(
            _slot(
                chance.choice([0, 5, 5, 0x0F, 0x83, 0x82, 0xEE, 0xFF]),
                chance.choice([_lba(chance, sector), 0, 63, 64]),
                _lba(chance, sector),
                chance.choices([0, 0x80, 1], weights=[30, 5, 1])[0],
            )
            for _ in range(4)
        )
        disk.write(lba * sector + 440, chance.randbytes(6) + slots + b"\x55\xaa")
