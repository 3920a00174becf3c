"""What is said about a file system image before anything in it is read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class VolumeKind(StrEnum):
    """The file systems of config drives, by the names that libblkid gives them."""

    ISO9660 = "iso9660"
    FAT = "vfat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A file system image.

    Attributes:
        kind: which file system.
        label: its label, without padding; empty if it has none.
        sector_size: bytes per sector it was made for. The kernel mounts it where the disk's sectors are not larger.
        size: bytes that the file system says it has.
    """

    kind: VolumeKind
    label: str
    sector_size: int
    size: int
