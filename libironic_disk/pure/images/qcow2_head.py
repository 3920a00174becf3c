"""The first bytes of a qcow2 image's disk, from as much of its file as is at hand."""

from __future__ import annotations

from collections.abc import Iterator

from libironic_disk.errors import ImageDamaged
from libironic_disk.pure.images.qcow2 import L1_ENTRY, Header
from libironic_disk.pure.images.qcow2_data import compressed_of, data_of
from libironic_disk.pure.images.qcow2_entries import Hole, TableReader
from libironic_disk.pure.images.qcow2_events import Raw
from libironic_disk.pure.images.qcow2_inflate import inflate
from libironic_disk.pure.images.qcow2_map import Extent, Kind
from libironic_disk.pure.tables.model import Reader


def disk_head(header: Header, read: Reader, length: int, *, image: str) -> bytes:
    """Return the first ``length`` bytes of the disk, or all of a smaller one.

    Args:
        header: of the image.
        read: gives bytes of the image's file, fewer where there are no more at hand.
        length: how many bytes.
        image: its name in errors.

    Raises:
        ImageRefused: an entry of a table is impossible.
        ImageDamaged: a part of them is missing, or can't be unpacked.
    """
    disk = bytearray(min(length, header.virtual_size))
    for extent in _extents(header, read, len(disk), image):
        for data in _data(extent, header, read, image):
            # Of a cluster that has gaps, some parts may begin behind what is wanted.
            wanted = data.data[: max(0, len(disk) - data.guest_offset)]
            disk[data.guest_offset : data.guest_offset + len(wanted)] = wanted
    return bytes(disk)


def _extents(header: Header, read: Reader, length: int, image: str) -> Iterator[Extent]:
    """Yield what has data in the first ``length`` bytes of the disk, whole clusters of it and no more."""
    tables = TableReader(header, image=image)
    entries = -(-length // header.l2_covers)
    for table in tables.l1(_exactly(read, header.l1_offset, entries * L1_ENTRY, image), 0):
        if isinstance(table, Hole):
            continue
        for extent in tables.l2(_exactly(read, table.start, header.cluster_size, image), table.guest):
            if isinstance(extent, Hole) or extent.kind is Kind.RESERVED:
                continue
            if extent.guest >= length:
                break
            if extent.kind is Kind.DATA:
                wanted = -(-(length - extent.guest) // header.cluster_size)
                yield extent._replace(detail=min(extent.detail, wanted))
            else:
                yield extent


def _data(extent: Extent, header: Header, read: Reader, image: str) -> Iterator[Raw]:
    data = memoryview(read(extent.start, extent.end(header.cluster_size) - extent.start))
    if extent.kind is Kind.COMPRESSED:
        # Fewer bytes than the entry says are enough at the end of the file, where its last sector isn't whole.
        unpacked = inflate(compressed_of(extent, data, header), image=image)
        yield Raw(guest_offset=extent.guest, data=memoryview(unpacked))
    else:
        yield from data_of(extent, data, header, image)


def _exactly(read: Reader, offset: int, length: int, image: str) -> bytes:
    found = read(offset, length)
    if len(found) < length:
        raise ImageDamaged(image=image, reason="a table is missing", offset=offset)
    return found
