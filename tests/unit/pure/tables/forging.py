"""Tables that no honest program writes."""

from __future__ import annotations

import struct
import zlib

from libironic_disk.units import KIB
from tests.unit.pure.tables.disks import Disk

HEADER_FIELDS: dict[str, tuple[int, str]] = {
    "revision": (8, "<I"),
    "header_size": (12, "<I"),
    "my_lba": (24, "<Q"),
    "alternate_lba": (32, "<Q"),
    "first_usable": (40, "<Q"),
    "last_usable": (48, "<Q"),
    "disk_guid": (56, "16s"),
    "entries_lba": (72, "<Q"),
    "slots": (80, "<I"),
    "entry_size": (84, "<I"),
    "entries_crc": (88, "<I"),
}


def forge_header(disk: Disk, lba: int, sector_size: int = 512, **values: int | bytes) -> None:
    """Change fields of a header and make its checksum fit, as an attacker would."""
    header = bytearray(disk.read(lba * sector_size, sector_size))
    for name, value in values.items():
        at, form = HEADER_FIELDS[name]
        struct.pack_into(form, header, at, value)
    header[16:20] = bytes(4)
    size = struct.unpack_from("<I", header, 12)[0]
    header[16:20] = zlib.crc32(header[:size]).to_bytes(4, "little")
    disk.write(lba * sector_size, bytes(header))


def forge_entry(disk: Disk, number: int, at: int, data: bytes) -> None:
    """Change bytes of an entry in both copies, checksums included."""
    last = disk.size // 512 - 1
    for header, entries in ((1, 2), (last, last - 32)):
        disk.write(entries * 512 + (number - 1) * 128 + at, data)
        forge_header(disk, header, entries_crc=zlib.crc32(disk.read(entries * 512, 16 * KIB)))


def slot(type_id: int, first_lba: int, sectors: int) -> bytes:
    return struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", type_id, b"\xfe\xff\xff", first_lba, sectors)


def a_record(*slots: bytes) -> bytes:
    return bytes(446) + b"".join(slots).ljust(64, b"\0") + b"\x55\xaa"
