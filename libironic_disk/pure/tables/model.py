"""What GPT and MBR have in common, in bytes: the view of a table that planning, drawing and comparing work on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from libironic_disk.pure.ranges import ByteRange

Reader = Callable[[int, int], bytes]
"""``read(offset, length)`` of a disk, in bytes. Returns fewer bytes only at the end of the disk."""


class Extent(NamedTuple):
    """Bytes and where on the disk they go."""

    offset: int
    data: bytes


class TableKind(StrEnum):
    """The two kinds of partition table; the words are Ironic's ``disk_label``, which says ``msdos`` for MBR."""

    GPT = "gpt"
    MBR = "mbr"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPartition:
    """One partition of a table.

    ``number`` is the kernel's (1-based; logical partitions of an MBR start at 5). ``start`` and ``size`` are
    bytes. ``type_id`` is a lower-case GUID or, on MBR, ``0x83``. ``uuid`` is the PARTUUID as the kernel
    writes it: a lower-case GUID, or ``<disk id>-<number>`` in hexadecimal on MBR. ``name`` and ``attributes``
    are GPT's and empty on MBR; ``bootable`` is MBR's active flag.
    """

    number: int
    start: int
    size: int
    type_id: str
    uuid: str
    name: str = ""
    attributes: int = 0
    bootable: bool = False

    @property
    def end(self) -> int:
        """The first byte behind the partition."""
        return self.start + self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPartition:
    """A partition to be added to a table of either kind; ``name`` and ``guid`` are lost on an MBR."""

    span: ByteRange
    name: str
    type_guid: UUID
    guid: UUID
    mbr_type: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTable:
    """A table as it is on a disk.

    ``disk_id`` is the disk GUID, or ``0x1234abcd`` on MBR; empty where the table can't be read. ``problems``
    lists what is wrong with it in words (a copy with a bad checksum, overlapping partitions); a table with
    problems is never changed, only replaced. The extended partition of an MBR is a container and not among
    ``partitions``. ``regions`` are the sectors that were read to find all this, as ``(offset, length)`` in
    bytes.
    """

    kind: TableKind
    disk_id: str
    partitions: tuple[FoundPartition, ...]
    problems: tuple[str, ...] = ()
    regions: tuple[tuple[int, int], ...] = ()
