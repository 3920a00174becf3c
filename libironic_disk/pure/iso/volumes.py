"""Volume descriptors: ECMA-119 (4th edition) chapter 8, Joliet's supplementary ones, El Torito's boot record.

An image can have several sets of them. One is at sector 16. xorriso puts another one 16 sectors into the partition that
holds the tree, so that it can be mounted from there; all addresses in that one count from the partition's start.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from libironic_disk.errors import IsoInvalid, IsoUnsupported
from libironic_disk.pure.drives import iso9660
from libironic_disk.pure.ropes import Base

SECTOR: Final = iso9660.SECTOR
SYSTEM_AREA: Final = 16 * SECTOR  # 7.2.1
LABEL_SIZE: Final = 32
APPLICATION_USE_AT: Final = 883  # 8.4.32
APPLICATION_USE_SIZE: Final = 512

_MOST_DESCRIPTORS: Final = 32
_MAGIC: Final = b"CD001"
_BOOT, _PRIMARY, _SUPPLEMENTARY, _TERMINATOR = 0, 1, 2, 255  # 8.1.1
_EL_TORITO: Final = b"EL TORITO SPECIFICATION"
_CATALOG_AT: Final = 71
_LABEL_AT: Final = 40  # 8.4.7
_SPACE_AT: Final = 80  # 8.4.8
_ESCAPES: Final = slice(88, 120)  # 8.5.6
_BLOCK_SIZE_AT: Final = 128  # 8.4.12
_TABLE_SIZE_AT: Final = 132  # 8.4.13
_TABLES_AT: Final = 140  # 8.4.14 to 8.4.17: two little-endian ones, of which one is optional, then two big-endian ones
_ROOT: Final = slice(156, 190)  # 8.4.18
_JOLIET: Final = (b"%/@", b"%/C", b"%/E")  # Joliet specification, "Escape Sequences"
_UDF: Final = (b"NSR02", b"NSR03")  # ECMA-167 3/9.1; sectors of the same shape, behind those of ISO 9660


class VolumeKind(StrEnum):
    """What kind of names a descriptor's tree has."""

    PRIMARY = "primary"
    JOLIET = "joliet"
    ENHANCED = "enhanced"


def both16(value: int) -> bytes:
    """Return 16 bits in both byte orders (7.2.3)."""
    return struct.pack("<H", value) + struct.pack(">H", value)


def both32(value: int) -> bytes:
    """Return 32 bits in both byte orders (7.3.3)."""
    return struct.pack("<I", value) + struct.pack(">I", value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A descriptor that has a tree.

    Attributes:
        at: where it is.
        origin: what its addresses count from: 0, or the start of a partition.
        kind: what names its tree has.
        data: its 2048 bytes.
    """

    at: int
    origin: int
    kind: VolumeKind
    data: bytes

    @property
    def label(self) -> str:
        """Its volume identifier."""
        field = self.data[_LABEL_AT : _LABEL_AT + LABEL_SIZE]
        if self.kind is VolumeKind.JOLIET:
            return field.decode("utf-16-be", "replace").rstrip(" \0")
        return field.decode("ascii", "replace").rstrip(" \0")

    @property
    def end(self) -> int:
        """Where what it describes ends."""
        return self.origin + self._number(_SPACE_AT) * SECTOR

    @property
    def table_size(self) -> int:
        """Bytes of each of its path tables."""
        return self._number(_TABLE_SIZE_AT)

    @property
    def tables(self) -> tuple[int, int, int, int]:
        """The sectors of the path tables: little-endian, its copy, big-endian, its copy; 0 for none."""
        little: tuple[int, int] = struct.unpack_from("<II", self.data, _TABLES_AT)
        big: tuple[int, int] = struct.unpack_from(">II", self.data, _TABLES_AT + 8)
        return *little, *big

    @property
    def root(self) -> bytes:
        """The root's directory record."""
        return self.data[_ROOT]

    def _number(self, at: int) -> int:
        number: int = struct.unpack_from("<I", self.data, at)[0]
        return number

    def label_edit(self, label: str) -> tuple[int, bytes]:
        """Return where which bytes go for another label, which is ASCII and not too long; Joliet has half of it."""
        if self.kind is VolumeKind.JOLIET:
            packed = label[: LABEL_SIZE // 2].ljust(LABEL_SIZE // 2).encode("utf-16-be")
        else:
            packed = label.ljust(LABEL_SIZE).encode("ascii")
        return self.at + _LABEL_AT, packed

    def end_edit(self, end: int) -> tuple[int, bytes]:
        """Return where which bytes go if what it describes ends elsewhere."""
        return self.at + _SPACE_AT, both32((end - self.origin) // SECTOR)

    def tables_edit(self, size: int, tables: tuple[int, int, int, int]) -> tuple[int, bytes]:
        """Return where which bytes go for other path tables."""
        places = struct.pack("<II", *tables[:2]) + struct.pack(">II", *tables[2:])
        return self.at + _TABLE_SIZE_AT, both32(size) + places

    def root_edit(self, record: bytes) -> tuple[int, bytes]:
        """Return where which bytes go for another record of the root."""
        return self.at + _ROOT.start, record


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptorSet:
    """The descriptors that are together.

    Attributes:
        origin: what their addresses count from.
        volumes: the primary one and those beside it.
        catalog: where El Torito's boot catalog is, None without one.
        udf: whether there are descriptors of UDF as well.
        end: the first byte behind them.
    """

    origin: int
    volumes: tuple[Volume, ...]
    catalog: int | None
    udf: bool
    end: int


def read_descriptors(base: Base, *, size: int, origin: int, name: str) -> DescriptorSet | None:
    """Read the descriptors that are 16 sectors behind ``origin``; None if there is no primary one.

    Args:
        base: the image's bytes.
        size: how many of them are the image's.
        origin: where to look.
        name: the image's in errors.

    Raises:
        IsoInvalid: the descriptors have no end.
        IsoUnsupported: there are sectors of another size than 2048, or UDF and nothing else.
    """
    volumes: list[Volume] = []
    catalog = None
    at = start = origin + SYSTEM_AREA
    for at, data in _sectors(base, size, start):
        if data[1:6] != _MAGIC or data[0] == _TERMINATOR:
            break
        if data[0] == _BOOT and data[7:].startswith(_EL_TORITO) and catalog is None:
            catalog = origin + int.from_bytes(data[_CATALOG_AT : _CATALOG_AT + 4], "little") * SECTOR
        kind = _kind(data)
        if kind is not None:
            if struct.unpack_from("<H", data, _BLOCK_SIZE_AT)[0] != SECTOR:
                raise IsoUnsupported(iso=name, reason="its logical blocks haven't 2048 bytes")
            volumes.append(Volume(at=at, origin=origin, kind=kind, data=data))
    else:
        if volumes:
            raise IsoInvalid(iso=name, problems=(f"its volume descriptors from byte {start} have no end",))
    udf = any(data[1:6] in _UDF for _, data in _sectors(base, size, at))
    if not any(volume.kind is VolumeKind.PRIMARY for volume in volumes):
        if udf:
            raise IsoUnsupported(iso=name, reason="it is UDF, and no ISO 9660 beside it")
        return None
    return DescriptorSet(origin=origin, volumes=tuple(volumes), catalog=catalog, udf=udf, end=at + SECTOR)


def _sectors(base: Base, size: int, start: int) -> Iterator[tuple[int, bytes]]:
    room = base.read_at(start, max(0, min(_MOST_DESCRIPTORS * SECTOR, size - start)))
    for at in range(0, len(room) // SECTOR * SECTOR, SECTOR):
        yield start + at, room[at : at + SECTOR]


def _kind(data: bytes) -> VolumeKind | None:
    if data[0] == _PRIMARY:
        return VolumeKind.PRIMARY
    if data[0] != _SUPPLEMENTARY:
        return None
    joliet = any(data[_ESCAPES].startswith(escape) for escape in _JOLIET)
    return VolumeKind.JOLIET if joliet and data[6] == 1 else VolumeKind.ENHANCED
