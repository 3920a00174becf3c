"""Path tables: ECMA-119 (4th edition), 6.9 and 9.4.

They list all directories, level by level. Linux never looks at them; boot loaders and firmware may.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

from libironic_disk.errors import IsoUnsupported
from libironic_disk.pure.iso.directories import Directory
from libironic_disk.pure.iso.records import SELF

_MOST: Final = 0xFFFF
"""A directory's parent is named by a number of 16 bits."""


def path_tables(
    root: Directory,
    *,
    children: Callable[[Directory], Sequence[Directory]],
    sector: Callable[[Directory], int],
    name: str,
) -> tuple[bytes, bytes]:
    """Return the little-endian and the big-endian table of a tree.

    Args:
        root: its root.
        children: returns the directories in a directory, in the order of its records.
        sector: returns where a directory is.
        name: the image's in errors.

    Raises:
        IsoUnsupported: there are more directories than a table can have.
    """
    little, big = bytearray(), bytearray()
    level = [(root, 1)]
    number = 0
    while level:
        below: list[tuple[Directory, int]] = []
        for directory, parent in level:
            number += 1
            if number > _MOST:
                raise IsoUnsupported(iso=name, reason=f"it would have more than {_MOST} directories")
            identifier = SELF if directory is root else directory.record.identifier
            padded = identifier + bytes(len(identifier) % 2)
            little += struct.pack("<BBIH", len(identifier), 0, sector(directory), parent) + padded
            big += struct.pack(">BBIH", len(identifier), 0, sector(directory), parent) + padded
            below += [(child, number) for child in children(directory)]
        level = below
    return bytes(little), bytes(big)
