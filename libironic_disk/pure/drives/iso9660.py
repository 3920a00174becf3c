"""Recognise an ISO 9660 image (ECMA-119) by its primary volume descriptor.

Sections are those of ECMA-119, 4th edition.
"""

from __future__ import annotations

import struct
from typing import Final

from libironic_disk.pure.drives.volume import Volume, VolumeKind

SECTOR: Final = 2048
_FIRST_DESCRIPTOR: Final = 16 * SECTOR  # 7.2.1: the sectors before belong to whoever boots from the image
_MOST_DESCRIPTORS: Final = 16
_PRIMARY: Final = b"\x01CD001"  # 8.4.1, 8.4.2
_TERMINATOR: Final = b"\xffCD001"  # 8.3
_LABEL: Final = slice(40, 72)  # 8.4.7 volume identifier
_SPACE_SIZE_AT: Final = 80  # 8.4.8, in logical blocks, little-endian first
_BLOCK_SIZE_AT: Final = 128  # 8.4.12
_BLOCK_SIZES: Final = frozenset({512, 1024, 2048})


def recognise(data: bytes) -> Volume | None:
    """Return what the primary volume descriptor says, or None if ``data`` isn't ISO 9660."""
    for number in range(_MOST_DESCRIPTORS):
        start = _FIRST_DESCRIPTOR + number * SECTOR
        descriptor = data[start : start + SECTOR]
        if len(descriptor) < SECTOR or descriptor.startswith(_TERMINATOR):
            return None
        if descriptor.startswith(_PRIMARY):
            return _primary(descriptor)
    return None


def _primary(descriptor: bytes) -> Volume | None:
    (blocks,) = struct.unpack_from("<I", descriptor, _SPACE_SIZE_AT)
    (block_size,) = struct.unpack_from("<H", descriptor, _BLOCK_SIZE_AT)
    if block_size not in _BLOCK_SIZES:
        return None
    return Volume(
        kind=VolumeKind.ISO9660,
        label=descriptor[_LABEL].decode("ascii", "replace").rstrip(" \0"),
        sector_size=block_size,
        size=blocks * block_size,
    )
