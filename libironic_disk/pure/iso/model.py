"""What an ISO 9660 image is made of, as values.

All offsets and sizes are bytes; offsets count from the image's start.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from libironic_disk.pure.roles import Firmware
from libironic_disk.pure.ropes import Range


class TreeKind(StrEnum):
    """Which names a tree of directories has."""

    ROCK_RIDGE = "rock-ridge"
    JOLIET = "joliet"
    PLAIN = "plain"


class PartitionTable(StrEnum):
    """Whose partition a partition is; one image can have all three tables at once."""

    GPT = "gpt"
    MBR = "mbr"
    APPLE = "apple"


@dataclass(frozen=True, slots=True, kw_only=True)
class IsoFile:
    """A file, directory or symbolic link.

    Attributes:
        path: from the root, as ``/boot/grub/grub.cfg``; the root itself is ``/``.
        offset: where its contents begin; meaningless if there are none.
        size: bytes of its contents.
        is_dir: whether it is a directory.
        target: where a symbolic link leads to, None for all others.
        extents: where its contents are; files of 4 GiB and more have several.
        compressed: whether what is stored is zisofs, which Linux undoes as it reads.
    """

    path: str
    offset: int
    size: int
    is_dir: bool = False
    target: str | None = None
    extents: tuple[Range, ...] = ()
    compressed: bool = False

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return self.target is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class BootImage:
    """What a firmware loads from the image, or an EFI system partition that it would find on it as a disk.

    Attributes:
        firmware: whose.
        bootable: whether the catalog says so; true for a mere partition.
        emulated: whether it is a floppy disk or hard disk that the BIOS emulates.
        offset: where it begins.
        size: its file's or its partition's, and otherwise what the catalog says.
        path: of the same file in the tree, None if there is none.
        catalog_offset: where its entry in the El Torito boot catalog is, None for a mere partition.
        load_size: how much the firmware loads by the catalog, 0 for a mere partition.
    """

    firmware: Firmware
    bootable: bool
    emulated: bool
    offset: int
    size: int
    path: str | None
    catalog_offset: int | None
    load_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IsoPartition:
    """A partition of one of the tables.

    Attributes:
        table: which one's.
        number: in that table, from 1 on.
        start: its first byte.
        size: bytes.
        type_id: a lower-case GUID, ``0xef``, or Apple's word.
    """

    table: PartitionTable
    number: int
    start: int
    size: int
    type_id: str

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.start + self.size
