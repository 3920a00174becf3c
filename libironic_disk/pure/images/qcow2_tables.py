"""The tables of a qcow2 image that can be read anywhere: is all that they point at really there?

Source: QEMU, docs/interop/qcow2.rst, section "Cluster mapping". A file that was cut off, or whose tables point at its
header, at each other or twice at the same place, is found here, before anybody writes a byte of it anywhere.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterator
from typing import Final

from libironic_disk.errors import ImageRefused
from libironic_disk.pure.images.qcow2 import L1_ENTRY, Compression, Header
from libironic_disk.pure.tables.model import Reader
from libironic_disk.units import MIB, align_up

_OFFSET: Final = 0x00FF_FFFF_FFFF_FE00
_COPIED: Final = 1 << 63
_COMPRESSED: Final = 1 << 62
_ZERO: Final = 1
_SUBCLUSTERS: Final = 32
_SECTOR: Final = 512
_L1_PIECE: Final = MIB
# Two bits of memory per cluster of the file: 64 MiB at most. With clusters of 64 KiB that is a file of 16 TiB.
_MOST_CLUSTERS: Final = 1 << 28


def check_tables(header: Header, read: Reader, file_size: int, *, image: str) -> None:
    """Walk L1 and every L2 table, one table in memory at a time.

    Args:
        header: of the same image.
        read: reads from the image.
        file_size: how many bytes the image has.
        image: its name in errors.

    Raises:
        ImageRefused: something is missing, misplaced or used twice.
    """
    for defect in _Walk(header, read, file_size).defects():
        raise ImageRefused(image=image, reason=defect)


class _Claims:
    """Which clusters of the file are taken: one bit each, in memory that stays untouched where nothing is."""

    __slots__ = ("_bits",)

    def __init__(self, clusters: int) -> None:
        self._bits = bytearray(clusters // 8 + 1)

    def taken(self, cluster: int) -> bool:
        return bool(self._bits[cluster >> 3] & 1 << (cluster & 7))

    def take(self, cluster: int) -> bool:
        """Take a cluster; return False if it was taken before."""
        bit = 1 << (cluster & 7)
        if self._bits[cluster >> 3] & bit:
            return False
        self._bits[cluster >> 3] |= bit
        return True


class _Walk:
    def __init__(self, header: Header, read: Reader, file_size: int) -> None:
        self._header = header
        self._read = read
        self._size = file_size
        clusters = (file_size >> header.cluster_bits) + 2
        self._too_many = clusters > _MOST_CLUSTERS
        # Compressed clusters share host clusters among themselves, but with nothing else.
        self._whole = _Claims(0 if self._too_many else clusters)
        self._shared = _Claims(0 if self._too_many else clusters)
        self._l2_reserved = (
            0x3F00_0000_0000_01FE if header.version == 3 else 0x3F00_0000_0000_01FF
        ) | header.extended_l2

    def defects(self) -> Iterator[str]:
        if self._too_many:
            yield f"its file has more than {_MOST_CLUSTERS} clusters"
            return
        header = self._header
        yield from self._claim(0, header.cluster_size, "its header")
        yield from self._claim(header.l1_offset, header.l1_entries * L1_ENTRY, "its L1 table")
        yield from self._claim(header.refcount_table_offset, header.refcount_table_size, "its refcount table")
        for guest, entry in self._l1():
            if entry & ~(_OFFSET | _COPIED):
                yield f"reserved bits are set in its L1 entry {entry:#018x}"
            offset = entry & _OFFSET
            if offset:
                yield from self._claim(offset, header.cluster_size, "an L2 table")
                yield from self._l2(offset, guest)

    def _l1(self) -> Iterator[tuple[int, int]]:
        header = self._header
        length = header.l1_entries * L1_ENTRY
        guest = 0
        for start in range(0, length, _L1_PIECE):
            for entry in _big_endian(self._read(header.l1_offset + start, min(_L1_PIECE, length - start))):
                yield guest, entry
                guest += header.l2_covers

    def _claim(self, offset: int, length: int, what: str) -> Iterator[str]:
        """Check that a table lies in the file, at a cluster's start and where nothing else is."""
        if offset & (self._header.cluster_size - 1):
            yield f"{what} is at byte {offset}, not at the start of a cluster"
        if offset + length > self._size:
            yield _truncated(what, offset + length, self._size)
            return
        for cluster in range(
            offset >> self._header.cluster_bits, (offset + length - 1 >> self._header.cluster_bits) + 1
        ):
            if not self._whole.take(cluster) or self._shared.taken(cluster):
                yield f"{what} is at byte {offset}, where something else is"

    def _l2(self, offset: int, guest: int) -> Iterator[str]:
        header = self._header
        words = _big_endian(self._read(offset, header.cluster_size))
        # What maps bytes behind the disk's end can't be read by anybody.
        used = -(-min(header.l2_covers, header.virtual_size - guest) // header.cluster_size)
        if header.extended_l2:
            entries, bitmaps = words[0 : 2 * used : 2], words[1 : 2 * used : 2]
        else:
            entries, bitmaps = words[:used], None
        for index, entry in enumerate(entries):
            if entry & _COMPRESSED:
                yield from self._compressed(entry)
                continue
            bitmap = bitmaps[index] if bitmaps is not None else None
            if entry or bitmap:
                visible = min(header.cluster_size, header.virtual_size - guest - index * header.cluster_size)
                yield from self._standard(entry, bitmap, visible)

    def _standard(self, entry: int, bitmap: int | None, visible: int) -> Iterator[str]:
        if entry & self._l2_reserved:
            yield f"reserved bits are set in its L2 entry {entry:#018x}"
        offset = entry & _OFFSET
        needed = 0 if entry & _ZERO else visible
        if bitmap is not None:
            allocated, zero = bitmap & 0xFFFF_FFFF, bitmap >> _SUBCLUSTERS
            if allocated & zero:
                yield f"subclusters are both allocated and zero in its L2 bitmap {bitmap:#018x}"
            if allocated and not offset:
                yield f"subclusters without a place in its L2 bitmap {bitmap:#018x}"
            needed = min(visible, allocated.bit_length() * (self._header.cluster_size // _SUBCLUSTERS))
        if not offset:
            return
        if offset & (self._header.cluster_size - 1):
            yield f"a data cluster is at byte {offset}, not at the start of a cluster"
        if needed and offset + needed > self._size:
            yield _truncated("a data cluster", offset + needed, self._size)
        cluster = offset >> self._header.cluster_bits
        # A cluster that only reads as zeros may have been reserved behind the end of the file.
        if offset < self._size and (not self._whole.take(cluster) or self._shared.taken(cluster)):
            yield f"a data cluster is at byte {offset}, where something else is"

    def _compressed(self, entry: int) -> Iterator[str]:
        bits = self._header.cluster_bits
        sectors_at = 62 - (bits - 8)
        offset = entry & (1 << sectors_at) - 1
        sectors = (entry & _COMPRESSED - 1) >> sectors_at
        end = offset - offset % _SECTOR + (sectors + 1) * _SECTOR
        if end > align_up(self._size, _SECTOR):
            yield _truncated("a compressed cluster", end, self._size)
            return
        for cluster in range(offset >> bits, (end - 1 >> bits) + 1):
            self._shared.take(cluster)
            if self._whole.taken(cluster):
                yield f"a compressed cluster is at byte {offset}, where something else is"
        if end > self._size and not self._inflates(offset):
            yield _truncated("a compressed cluster", end, self._size)

    def _inflates(self, offset: int) -> bool:
        """Whether the last cluster of the file is whole.

        Its length is known in sectors only, so a file that was cut off within the last sector looks complete. QEMU
        would read zeros there, and deflate has no checksum that would tell. Zstandard's frames can't be mistaken so.
        """
        if self._header.compression is not Compression.ZLIB:
            return True
        try:
            inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(
                self._read(offset, self._size - offset), self._header.cluster_size
            )
        except zlib.error:
            return False
        return len(inflated) == self._header.cluster_size


def _big_endian(data: bytes) -> array[int]:
    words = array("Q", data)
    if sys.byteorder == "little":
        words.byteswap()
    return words


def _truncated(what: str, wanted: int, size: int) -> str:
    return f"it is truncated: {what} reaches to byte {wanted}, the file has {size}"
