"""Recognise and read a FAT12, FAT16 or FAT32 image that somebody else made.

The reader exists because the image is a tenant's: no program that runs as root should have to parse it, and a host's
kernel may lack vfat. It follows no cluster twice where that could go on for ever, and reads no more than it was allowed
to. The layout is that of the FAT specification (ECMA-107, and Microsoft's "FAT: General Overview of On-Disk
Format" 1.03 for FAT32 and long names); where they leave a choice, this does as Linux does (fs/fat/inode.c, dir.c).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from libironic_disk.errors import ConfigDriveInvalid
from libironic_disk.pure.drives.filetree import Harvest
from libironic_disk.pure.drives.volume import Volume, VolumeKind

SECTOR_SIZES: Final = frozenset({512, 1024, 2048, 4096})
MOST_CLUSTERS_FAT12: Final = 4084
MOST_CLUSTERS_FAT16: Final = 65524
BOOT_SECTOR: Final = 512
ENTRY: Final = 32
LARGEST_DIRECTORY: Final = 65536 * ENTRY

_BPB: Final = struct.Struct("<HBHBHHBH")  # from byte 11: sector size up to the 16-bit size of a FAT
_READ_ONLY, _HIDDEN, _SYSTEM, _LABEL, _DIRECTORY = 0x01, 0x02, 0x04, 0x08, 0x10
_LONG_NAME: Final = _READ_ONLY | _HIDDEN | _SYSTEM | _LABEL
_END, _DELETED, _STANDS_FOR_DELETED = 0x00, 0xE5, 0x05
_LOWER_STEM, _LOWER_EXTENSION = 0x08, 0x10
END_OF_CHAIN: Final = {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFFFFF8}


class Source(Protocol):
    """Where the bytes of a file system are: bytes in memory, or what reads them from a device."""

    def __getitem__(self, key: slice, /) -> bytes:
        """Return the bytes from ``key.start`` up to ``key.stop``."""


class _BootSector(NamedTuple):
    """The BIOS parameter block, in the specification's order and units."""

    sector: int
    per_cluster: int
    reserved: int
    tables: int
    root_entries: int
    total16: int
    media: int
    table16: int
    total32: int
    table32: int
    root_cluster: int

    @classmethod
    def read(cls, data: bytes) -> _BootSector:
        totals = struct.unpack_from("<II", data, 32)
        return cls(*_BPB.unpack_from(data, 11), *totals, *struct.unpack_from("<I", data, 44))

    @property
    def plausible(self) -> bool:
        return (
            self.sector in SECTOR_SIZES
            and self.per_cluster.bit_count() == 1
            and self.reserved > 0
            and self.tables > 0
            and (self.media >= 0xF8 or self.media == 0xF0)
            and self.root_entries * ENTRY % self.sector == 0
            and (self.table16 or self.table32) > 0
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Where things are in the image, in bytes from its start; ``width`` is the bits of an entry in the FAT.

    ``tables`` copies of the FAT, of ``table_size`` bytes each, follow one another.
    """

    width: int
    sector_size: int
    cluster_size: int
    table_start: int
    table_size: int
    tables: int
    root_start: int
    root_cluster: int
    data_start: int
    clusters: int
    size: int

    def place(self, cluster: int) -> int:
        """Return where a cluster is."""
        return self.data_start + (cluster - 2) * self.cluster_size


def geometry(data: bytes) -> Geometry | None:
    """Read the boot sector; None if it isn't one that Linux would mount."""
    if len(data) < BOOT_SECTOR or data[510:512] != b"\x55\xaa":
        return None
    boot = _BootSector.read(data)
    if not boot.plausible:
        return None
    table_size = (boot.table16 or boot.table32) * boot.sector
    root_start = boot.reserved * boot.sector + boot.tables * table_size
    data_start = root_start + boot.root_entries * ENTRY
    size = (boot.total16 or boot.total32) * boot.sector
    clusters = (size - data_start) // (boot.per_cluster * boot.sector)
    width = 32 if not boot.table16 else 12 if clusters <= MOST_CLUSTERS_FAT12 else 16
    # As Linux does: clusters that the FAT has no entry for don't exist.
    clusters = min(clusters, table_size * 8 // width - 2)
    if clusters < 1:
        return None
    return Geometry(
        width=width,
        sector_size=boot.sector,
        cluster_size=boot.per_cluster * boot.sector,
        table_start=boot.reserved * boot.sector,
        table_size=table_size,
        tables=boot.tables,
        root_start=root_start,
        root_cluster=boot.root_cluster,
        data_start=data_start,
        clusters=clusters,
        size=size,
    )


def recognise(data: bytes) -> Volume | None:
    """Return what boot sector and root directory say, or None if ``data`` isn't FAT.

    Raises:
        ConfigDriveInvalid: it is FAT, but its root directory can't be read.
    """
    found = geometry(data)
    if found is None:
        return None
    # Truncation is the caller's finding, by the size: the label of such an image doesn't matter.
    label = Reader(data, found).label() if len(data) >= found.size else ""
    return Volume(kind=VolumeKind.FAT, label=label, sector_size=found.sector_size, size=found.size)


def read_files(data: bytes, *, limit: int) -> dict[str, bytes]:
    """Return every file of the image by its path; empty directories are left out.

    Raises:
        ConfigDriveInvalid: the image is damaged, or a name in it isn't a plain file name.
        ConfigDriveTooLarge: the files have more than ``limit`` bytes together.
    """
    found = geometry(data)
    if found is None or len(data) < found.size:
        raise ConfigDriveInvalid(reason="its FAT file system is truncated or has no valid boot sector")
    reader = Reader(data, found)
    harvest = Harvest(limit)
    waiting: list[tuple[str, int | None]] = [("", None)]
    while waiting:
        parent, first = waiting.pop()
        for entry in reader.entries(first):
            if entry.name is None:
                raise ConfigDriveInvalid(reason="a file name in it is written in an unknown code page")
            path = harvest.path(parent, entry.name)
            if entry.is_directory:
                waiting.append((path, entry.first))
            else:
                harvest.claim(entry.size)
                harvest.files[path] = reader.content(entry)
    return harvest.files


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file or directory: its name, None where that is in an unknown code page, its first cluster, its bytes.

    ``at`` is where its entry is in the image.
    """

    name: str | None
    first: int
    size: int
    is_directory: bool
    at: int


class Reader:
    """Reads directories, each of them once, and files; all errors are :class:`ConfigDriveInvalid`, or the source's.

    No cluster of a directory may come twice, so that a circle has an end.
    """

    __slots__ = ("_data", "_geometry", "_seen")

    def __init__(self, data: Source, found: Geometry) -> None:
        self._data = data
        self._geometry = found
        self._seen: set[int] = set()

    def label(self) -> str:
        """The volume label in the root directory, the only one that libblkid reports as LABEL."""
        for _, raw in self._raw_entries(None):
            if raw[11] & _LABEL and raw[11] != _LONG_NAME:
                return raw[:11].decode("ascii", "replace").rstrip(" ")
        return ""

    def entries(self, first: int | None) -> Iterator[Entry]:
        """The files and directories of a directory; None is the root."""
        long_name = _LongName()
        for at, raw in self._raw_entries(first):
            if raw[11] & _LONG_NAME == _LONG_NAME:
                long_name.add(raw)
                continue
            name = long_name.take(raw)
            dots = raw[:11].rstrip(b" ") in {b".", b".."} and first is not None
            if raw[11] & _LABEL or dots:
                continue
            high, low = struct.unpack_from("<H", raw, 20)[0], struct.unpack_from("<H", raw, 26)[0]
            yield Entry(
                name=name if name is not None else _short_name(raw),
                first=low | (high << 16 if self._geometry.width == 32 else 0),
                size=struct.unpack_from("<I", raw, 28)[0],
                is_directory=bool(raw[11] & _DIRECTORY),
                at=at,
            )

    def content(self, entry: Entry) -> bytes:
        """The bytes of a file: as many clusters as its size needs, never the chain to its end.

        The size may be any number: it is for the caller to compare it with what is allowed.
        """
        parts: list[bytes] = []
        cluster = entry.first
        for _ in range(-(-entry.size // self._geometry.cluster_size)):
            parts.append(self._cluster(cluster))
            cluster = self._next(cluster)
        return b"".join(parts)[: entry.size]

    def _raw_entries(self, first: int | None) -> Iterator[tuple[int, bytes]]:
        for start, block in self._directory(first):
            for at in range(0, len(block), ENTRY):
                if block[at] == _END:
                    return
                if block[at] != _DELETED:
                    yield start + at, block[at : at + ENTRY]

    def _directory(self, first: int | None) -> Iterator[tuple[int, bytes]]:
        found = self._geometry
        if first is None and found.width != 32:
            yield found.root_start, self._data[found.root_start : found.data_start]
            return
        cluster = found.root_cluster if first is None else first
        size = 0
        while cluster < END_OF_CHAIN[found.width]:
            size += found.cluster_size
            if size > LARGEST_DIRECTORY:
                raise ConfigDriveInvalid(reason="a directory of its FAT file system is larger than FAT allows")
            if cluster in self._seen:
                raise ConfigDriveInvalid(reason="two directories of its FAT file system share a cluster")
            self._seen.add(cluster)
            yield found.place(cluster), self._cluster(cluster)
            cluster = self._next(cluster)

    def _cluster(self, number: int) -> bytes:
        found = self._geometry
        if not 2 <= number < found.clusters + 2:
            raise ConfigDriveInvalid(reason="a chain of its FAT file system leads outside of it")
        start = found.place(number)
        return self._data[start : start + found.cluster_size]

    def _next(self, cluster: int) -> int:
        match self._geometry.width:
            case 12:
                pair = self._number(cluster + cluster // 2, 2)
                return pair >> 4 if cluster % 2 else pair & 0xFFF
            case 16:
                return self._number(cluster * 2, 2)
            case _:
                return self._number(cluster * 4, 4) & 0x0FFFFFFF

    def _number(self, at: int, size: int) -> int:
        start = self._geometry.table_start + at
        return int.from_bytes(self._data[start : start + size], "little")


class _LongName:
    """Puts a long name together; its parts precede the short entry, the last part first, 13 UTF-16 units each."""

    __slots__ = ("_checksum", "_expected", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._expected = 0
        self._checksum = 0

    def add(self, raw: bytes) -> None:
        order = raw[0]
        if order & 0x40:
            self._parts, self._expected, self._checksum = [], order & 0x3F, raw[13]
        if (order & 0x3F) != self._expected or raw[13] != self._checksum:
            self._parts, self._expected = [], 0
            return
        self._parts.insert(0, raw[1:11] + raw[14:26] + raw[28:32])
        self._expected -= 1

    def take(self, raw: bytes) -> str | None:
        """The name for this short entry, or None if the parts aren't complete or belong to another."""
        parts, complete = self._parts, self._expected == 0
        self._parts, self._expected = [], 0
        if not parts or not complete or self._checksum != _checksum(raw[:11]):
            return None
        units = b"".join(parts).decode("utf-16-le", "surrogatepass")
        return units.split("\0", 1)[0]


def _checksum(short: bytes) -> int:
    total = 0
    for byte in short:
        total = ((total & 1) << 7) + (total >> 1) + byte & 0xFF
    return total


def _short_name(raw: bytes) -> str | None:
    if not raw[:11].isascii() or raw[0] == _STANDS_FOR_DELETED:
        # Linux would take code page 437, mtools 850, Windows its user's: each sees another name.
        return None
    stem = raw[:8].decode("ascii").rstrip(" ")
    extension = raw[8:11].decode("ascii").rstrip(" ")
    if raw[12] & _LOWER_STEM:
        stem = stem.lower()
    if raw[12] & _LOWER_EXTENSION:
        extension = extension.lower()
    return f"{stem}.{extension}" if extension else stem
