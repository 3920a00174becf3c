"""Replace a file inside an image of a FAT file system, whose size stays what it is.

As in :mod:`libironic_disk.pure.drives.fat`, the layout is that of ECMA-107 and of Microsoft's "FAT: General Overview of
On-Disk Format" 1.03. The file keeps its name, its times and, as far as they reach, its clusters.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from libironic_disk.errors import ConfigDriveInvalid, FatImageRefused
from libironic_disk.pure.drives import fat
from libironic_disk.pure.drives.fat import BOOT_SECTOR, Entry, Geometry, Reader, Source

LARGEST_FILE: Final = (1 << 32) - 1

_BLOCK: Final = 512
_FLAGS, _INFORMATION = 40, 48
"""Bytes into the boot sector of FAT32: which FAT counts, and in which sector the number of free clusters is."""
_FREE_COUNT: Final = 488
"""Bytes into that sector."""
_ONE_TABLE_COUNTS: Final = 0x80
_ONES: Final = {12: 0xFFF, 16: 0xFFFF, 32: 0x0FFFFFFF}
_UNKNOWN_COUNT: Final = 0xFFFFFFFF


def with_file(image: bytes, path: str, content: bytes) -> bytes:
    """Return the image with other contents of one of its files; see :func:`edits_of_file`."""
    changed = bytearray(image)
    for start, data in edits_of_file(image, len(image), path, content).items():
        changed[start : start + len(data)] = data
    return bytes(changed)


def edits_of_file(image: Source, size: int, path: str, content: bytes) -> dict[int, bytes]:
    """Return what has to be written into an image, by its place in bytes, so that a file has other contents.

    Args:
        image: of a FAT12, FAT16 or FAT32 file system.
        size: of the image, in bytes.
        path: of a file that is there, from the root; the case of letters doesn't matter, as nowhere in FAT.
        content: what it is to have.

    Raises:
        FatImageRefused: it isn't such an image, is damaged or full, or has no such file.
    """
    start = image[0:BOOT_SECTOR]
    found = fat.geometry(start)
    if found is None or size < found.size:
        raise FatImageRefused(path=path, reason="it is truncated, or is no FAT file system")
    if len(content) > LARGEST_FILE:
        raise FatImageRefused(path=path, reason=f"a file has up to {LARGEST_FILE} bytes, and this has {len(content)}")
    if found.width == 32 and start[_FLAGS] & _ONE_TABLE_COUNTS:
        raise FatImageRefused(path=path, reason="only one copy of its table counts, and which is not for us to follow")
    try:
        entry = _find(Reader(image, found), path)
    except ConfigDriveInvalid as error:
        raise FatImageRefused(path=path, reason=error.reason) from error
    overlay = _Overlay(image)
    _Changing(overlay, found, path).write(entry, content)
    return overlay.edits()


def _find(reader: Reader, path: str) -> Entry:
    parts = [part.upper() for part in path.split("/") if part]
    directory: int | None = None
    for number, part in enumerate(parts, 1):
        entry = next((entry for entry in reader.entries(directory) if (entry.name or "").upper() == part), None)
        if entry is None or entry.is_directory != (number < len(parts)):
            break
        if not entry.is_directory:
            return entry
        directory = entry.first
    raise FatImageRefused(path=path, reason="there is no such file")


class _Overlay:
    """An image and the blocks of it that were written, 512 bytes each."""

    __slots__ = ("_blocks", "_image")

    def __init__(self, image: Source) -> None:
        self._image = image
        self._blocks: dict[int, bytearray] = {}

    def read(self, start: int, size: int) -> bytes:
        first = start // _BLOCK
        blocks = (self._block(number) for number in range(first, (start + size - 1) // _BLOCK + 1))
        return b"".join(blocks)[start - first * _BLOCK :][:size]

    def write(self, start: int, data: bytes) -> None:
        position = 0
        while position < len(data):
            number, within = divmod(start + position, _BLOCK)
            piece = data[position : position + _BLOCK - within]
            if number not in self._blocks:
                self._blocks[number] = bytearray(self._block(number))
            self._blocks[number][within : within + len(piece)] = piece
            position += len(piece)

    def edits(self) -> dict[int, bytes]:
        """Return what was written, blocks that follow one another as one, without those that are as they were."""
        merged: dict[int, bytearray] = {}
        end = -1
        start = 0
        for number in sorted(self._blocks):
            block = self._blocks[number]
            place = number * _BLOCK
            if block == self._image[place : place + _BLOCK]:
                continue
            if place != end:
                start = place
                merged[start] = bytearray()
            merged[start] += block
            end = place + len(block)
        return {place: bytes(data) for place, data in merged.items()}

    def _block(self, number: int) -> bytes | bytearray:
        return self._blocks.get(number) or self._image[number * _BLOCK : (number + 1) * _BLOCK]


class _Changing:
    """The image while it is being changed."""

    __slots__ = ("_geometry", "_image", "_path")

    def __init__(self, image: _Overlay, found: Geometry, path: str) -> None:
        self._image = image
        self._geometry = found
        self._path = path

    def write(self, entry: Entry, content: bytes) -> None:
        old = self._chain(entry)
        count = -(-len(content) // self._geometry.cluster_size)
        chain = old[:count] + self._free(count - len(old))
        for cluster in old[count:]:
            self._set(cluster, 0)
        for cluster, following in zip(chain, (*chain[1:], _ONES[self._geometry.width]), strict=False):
            self._set(cluster, following)
        self._fill(chain, content)
        self._write_entry(entry, chain[0] if chain else 0, len(content))
        self._count_free(len(old) - len(chain))

    def _chain(self, entry: Entry) -> list[int]:
        """Return all clusters of a file, those beyond its size too."""
        chain: list[int] = []
        cluster = entry.first
        while cluster and cluster < fat.END_OF_CHAIN[self._geometry.width]:
            if not 2 <= cluster < self._geometry.clusters + 2 or len(chain) == self._geometry.clusters:
                raise FatImageRefused(path=self._path, reason="its chain of clusters leads outside or in a circle")
            chain.append(cluster)
            cluster = self._get(cluster)
            if not cluster:
                raise FatImageRefused(path=self._path, reason="its chain of clusters has no end")
        if len(chain) * self._geometry.cluster_size < entry.size:
            raise FatImageRefused(path=self._path, reason="its chain of clusters is shorter than it says")
        return chain

    def _free(self, count: int) -> list[int]:
        free: list[int] = []
        for cluster in range(2, self._geometry.clusters + 2):
            if len(free) >= count:
                return free
            if not self._get(cluster):
                free.append(cluster)
        if len(free) < count:
            missing = (count - len(free)) * self._geometry.cluster_size
            raise FatImageRefused(path=self._path, reason=f"the image is full: {missing} bytes are missing")
        return free

    def _fill(self, chain: Sequence[int], content: bytes) -> None:
        size = self._geometry.cluster_size
        for number, cluster in enumerate(chain):
            piece = content[number * size : (number + 1) * size].ljust(size, b"\0")
            self._image.write(self._geometry.place(cluster), piece)

    def _write_entry(self, entry: Entry, first: int, size: int) -> None:
        if self._geometry.width == 32:
            self._image.write(entry.at + 20, struct.pack("<H", first >> 16))
        self._image.write(entry.at + 26, struct.pack("<HI", first & 0xFFFF, size))

    def _count_free(self, more: int) -> None:
        """Correct the number of free clusters, which FAT32 has in a sector of its own and others nowhere."""
        if self._geometry.width != 32:
            return
        (sector,) = struct.unpack("<H", self._image.read(_INFORMATION, 2))
        start = sector * self._geometry.sector_size
        # The values 0 and FFFF say that there is no such sector.
        if not 0 < start < self._geometry.table_start or self._image.read(start, 4) != b"RRaA":
            return
        (count,) = struct.unpack("<I", self._image.read(start + _FREE_COUNT, 4))
        if count != _UNKNOWN_COUNT:
            corrected = min(max(count + more, 0), self._geometry.clusters)
            self._image.write(start + _FREE_COUNT, struct.pack("<I", corrected))

    def _get(self, cluster: int) -> int:
        start, size, shift = self._position(cluster)
        value = int.from_bytes(self._image.read(start, size), "little") >> shift
        return value & _ONES[self._geometry.width]

    def _set(self, cluster: int, value: int) -> None:
        start, size, shift = self._position(cluster)
        # The other half of a byte that FAT12 shares, and the upper four bits of FAT32, belong to somebody else.
        mask = _ONES[self._geometry.width] << shift
        for at in self._copies(start):
            before = int.from_bytes(self._image.read(at, size), "little")
            self._image.write(at, (before & ~mask | value << shift).to_bytes(size, "little"))

    def _position(self, cluster: int) -> tuple[int, int, int]:
        """Return where a cluster's entry begins in the first table, how many bytes it is in, and from which bit on."""
        match self._geometry.width:
            case 12:
                start, size, shift = cluster + cluster // 2, 2, cluster % 2 * 4
            case 16:
                start, size, shift = cluster * 2, 2, 0
            case _:
                start, size, shift = cluster * 4, 4, 0
        return self._geometry.table_start + start, size, shift

    def _copies(self, start: int) -> Iterator[int]:
        return (start + number * self._geometry.table_size for number in range(self._geometry.tables))
