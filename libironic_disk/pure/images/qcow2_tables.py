"""The tables of a qcow2 image that can be read anywhere: is all that they point at really there?

Source: QEMU, docs/interop/qcow2.rst, section "Cluster mapping". A file that was cut off, or whose tables point at its
header, at each other or twice at the same place, is found here, before anybody writes a byte of it anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from libironic_disk.errors import ImageRefused
from libironic_disk.pure.images.qcow2 import L1_ENTRY, Header
from libironic_disk.pure.images.qcow2_data import check_end, compressed_of, truncated
from libironic_disk.pure.images.qcow2_entries import Hole, TableReader
from libironic_disk.pure.images.qcow2_inflate import inflate
from libironic_disk.pure.images.qcow2_map import Extent, Kind
from libironic_disk.pure.tables.model import Reader
from libironic_disk.units import MIB

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
        ImageRefused: something is impossible, misplaced or used twice.
        ImageDamaged: something is missing.
    """
    clusters = (file_size >> header.cluster_bits) + 2
    if clusters > _MOST_CLUSTERS:
        raise ImageRefused(image=image, reason=f"its file has more than {_MOST_CLUSTERS} clusters")
    if header.refcount_table_offset + header.refcount_table_size > file_size:
        # Nobody reads it here, and a file that lacks it was cut off all the same.
        end = header.refcount_table_offset + header.refcount_table_size
        raise truncated(image, "its refcount table", end, file_size)
    places = _Places(header, read, file_size, image)
    for extent in _extents(header, read, image):
        places.take(extent)


def _extents(header: Header, read: Reader, image: str) -> Iterator[Extent]:
    """Yield everything that has a place in the file."""
    cluster, l1_size = header.cluster_size, header.l1_entries * L1_ENTRY
    yield Extent(0, 0, Kind.RESERVED, 1)
    yield Extent(header.l1_offset, 0, Kind.L1_TABLE, -(-l1_size // cluster))
    yield Extent(header.refcount_table_offset, 0, Kind.RESERVED, header.refcount_table_size // cluster)
    tables = TableReader(header, image=image)
    for start in range(0, l1_size, _L1_PIECE):
        piece = read(header.l1_offset + start, min(_L1_PIECE, l1_size - start))
        for table in tables.l1(piece, start // L1_ENTRY * header.l2_covers):
            if isinstance(table, Hole):
                continue
            yield table
            for each in tables.l2(read(table.start, cluster), table.guest):
                if not isinstance(each, Hole):
                    yield each


class _Places:
    """What is taken of the file. Compressed clusters share host clusters among themselves, and with nothing else."""

    def __init__(self, header: Header, read: Reader, file_size: int, image: str) -> None:
        self._header = header
        self._read = read
        self._size = file_size
        self._image = image
        # One bit for each cluster, in memory that stays untouched where nothing is.
        room = (file_size >> header.cluster_bits) // 8 + 1
        self._whole, self._shared = bytearray(room), bytearray(room)

    def take(self, extent: Extent) -> None:
        check_end(extent, self._size, self._header, self._image)
        if extent.kind is Kind.COMPRESSED:
            self._take_shared(extent)
            return
        first, end = self._clusters(extent)
        for cluster in range(first, end):
            at, bit = cluster >> 3, 1 << (cluster & 7)
            if (self._whole[at] | self._shared[at]) & bit:
                raise self._overlap(cluster << self._header.cluster_bits)
            self._whole[at] |= bit

    def _take_shared(self, extent: Extent) -> None:
        first, end = self._clusters(extent)
        for cluster in range(first, end):
            at, bit = cluster >> 3, 1 << (cluster & 7)
            if self._whole[at] & bit:
                raise self._overlap(extent.start)
            self._shared[at] |= bit
        if extent.end(self._header.cluster_size) > self._size:
            # Its length is known in sectors only: a file that was cut off within the last one looks complete.
            payload = memoryview(self._read(extent.start, self._size - extent.start))
            inflate(compressed_of(extent, payload, self._header), image=self._image)

    def _clusters(self, extent: Extent) -> tuple[int, int]:
        """Return which clusters of the file an extent takes; one that nobody reads may lie behind the file's end."""
        bits = self._header.cluster_bits
        end = min(extent.end(self._header.cluster_size), self._size)
        return extent.start >> bits, max(extent.start, end) + self._header.cluster_size - 1 >> bits

    def _overlap(self, offset: int) -> ImageRefused:
        return ImageRefused(image=self._image, reason=f"two of its tables or clusters are at byte {offset}")
