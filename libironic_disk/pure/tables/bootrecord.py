"""A boot record as bytes: sector 0 of a disk, and each sector that describes a logical partition.

Addresses as cylinder, head and sector are three opaque bytes here: they end at 8 GB, and sector numbers are
always there.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

RECORD_SIZE: Final = 512
"""Bytes of a boot record; where sectors are larger the rest of the sector is zero."""
BOOT_CODE_SIZE: Final = 440
NO_SYSTEM: Final = b"\xcd\x18\xf4\xeb\xfd".ljust(BOOT_CODE_SIZE, b"\0")
"""Boot code for a disk that has a table and isn't to boot: interrupt 18h has the BIOS go on to its next device.

A BIOS jumps to whatever is in a first sector that ends with 55 AA. From zeros, and from the code that libparted writes,
which looks for an active partition, there is no way back: the machine hangs. (BIOS Boot
Specification 1.01 has interrupt 18h for a boot that failed.)
"""
SLOTS: Final = 4
PROTECTIVE: Final = 0xEE
"""The partition type by which an MBR says that the disk has a GPT (UEFI 2.10, section 5.2.3)."""
ACTIVE: Final = 0x80

_EXTENDED: Final = frozenset({0x05, 0x0F, 0x85})
_SLOTS_AT: Final = 446
_SLOT: Final = struct.Struct("<B3sB3sII")
_MARK: Final = b"\x55\xaa"


def is_marked(sector: bytes) -> bool:
    """Whether a BIOS takes a sector for one with boot code."""
    return sector[RECORD_SIZE - len(_MARK) : RECORD_SIZE] == _MARK


class Slot(NamedTuple):
    """One of the four entries of a boot record; an entry with no sectors is unused."""

    indicator: int
    first_chs: bytes
    type_id: int
    last_chs: bytes
    first_lba: int
    sectors: int

    @property
    def plausible(self) -> bool:
        """Whether the boot indicator is one that a partition table can have; other bytes are code or text."""
        return self.indicator in (0, ACTIVE)


def is_extended(type_id: int) -> bool:
    """Whether a type means an extended partition or, in its records, the link to the next one."""
    return type_id in _EXTENDED


def with_boot_code(record: bytes, boot_code: bytes) -> bytes:
    """Return the first sector of a disk with ``boot_code`` in its first 440 bytes and the rest as it is.

    Raises:
        ValueError: the code is longer, and would overwrite the disk signature.
    """
    if len(boot_code) > BOOT_CODE_SIZE:
        raise ValueError(f"boot code of {len(boot_code)} bytes, an MBR has room for {BOOT_CODE_SIZE}")
    return boot_code.ljust(BOOT_CODE_SIZE, b"\0") + record[BOOT_CODE_SIZE:]


def boot_record(slots: Sequence[Slot | None], sector_size: int, signature: int = 0) -> bytes:
    """Return one sector with a boot record: at most four slots, None for an unused one."""
    packed = b"".join(bytes(_SLOT.size) if slot is None else _SLOT.pack(*slot) for slot in slots)
    head = bytes(BOOT_CODE_SIZE) + struct.pack("<IH", signature, 0)
    record = (head + packed).ljust(RECORD_SIZE - len(_MARK), b"\0") + _MARK
    return record.ljust(sector_size, b"\0")


def with_slot(record: bytes, at: int, slot: Slot) -> bytes:
    """Return a boot record with another entry in one of its four places, counted from 0, and all else as it is."""
    start = _SLOTS_AT + at * _SLOT.size
    return record[:start] + _SLOT.pack(*slot) + record[start + _SLOT.size :]


def slots_of(record: bytes) -> tuple[Slot, ...] | None:
    """Return the four entries of a boot record, or None where the bytes end without the mark of one."""
    if record[RECORD_SIZE - len(_MARK) : RECORD_SIZE] != _MARK:
        return None
    return tuple(Slot._make(_SLOT.unpack_from(record, _SLOTS_AT + at * _SLOT.size)) for at in range(SLOTS))


def signature_of(record: bytes) -> int:
    """Return the disk signature in a boot record, 0 for none."""
    return int.from_bytes(record[BOOT_CODE_SIZE : BOOT_CODE_SIZE + 4], "little")
