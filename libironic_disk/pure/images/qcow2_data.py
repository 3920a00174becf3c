"""What is at a place in a qcow2 file, as events: data, compressed clusters, zeros; and what isn't there any more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from libironic_disk.errors import ImageDamaged
from libironic_disk.pure.images.qcow2 import L1_ENTRY, Header
from libironic_disk.pure.images.qcow2_entries import SUBCLUSTERS, bit_runs
from libironic_disk.pure.images.qcow2_events import Compressed, Raw, Zeros
from libironic_disk.pure.images.qcow2_map import Extent, Kind
from libironic_disk.units import align_up

_SECTOR: Final = 512


def data_of(extent: Extent, data: memoryview, header: Header, image: str) -> Iterator[Raw]:
    """Give what is data in clusters that follow each other, or in the subclusters of one.

    Args:
        extent: of data, wholly or partially.
        data: its bytes; less of them where the file ends.
        header: of the image.
        image: its name in errors.

    Raises:
        ImageDamaged: the file ends within what the guest can see.
    """
    for offset, length in _runs(extent, header):
        end = min(offset + length, header.virtual_size - extent.guest)
        if end > len(data):
            raise truncated(image, "a data cluster", extent.start + end, extent.start + len(data))
        if offset < end:
            yield Raw(guest_offset=extent.guest + offset, data=data[offset:end])


def zeros_of(extent: Extent, header: Header) -> Iterator[Zeros]:
    """Give the same, for clusters that are all zeros."""
    for offset, length in _runs(extent, header):
        end = min(offset + length, header.virtual_size - extent.guest)
        if offset < end:
            yield Zeros(guest_offset=extent.guest + offset, length=end - offset)


def _runs(extent: Extent, header: Header) -> list[tuple[int, int]]:
    if extent.kind is not Kind.PARTIAL:
        return [(0, extent.detail * header.cluster_size)]
    subcluster = header.cluster_size // SUBCLUSTERS
    return [(first * subcluster, count * subcluster) for first, count in bit_runs(extent.detail)]


def compressed_of(extent: Extent, payload: memoryview, header: Header) -> Compressed:
    """Return a compressed cluster."""
    return Compressed(
        guest_offset=extent.guest,
        length=min(header.cluster_size, header.virtual_size - extent.guest),
        kind=header.compression,
        payload=payload,
        cluster_size=header.cluster_size,
        host_offset=extent.start,
        cut=len(payload) < extent.detail,
    )


def truncated(image: str, what: str, wanted: int, size: int) -> ImageDamaged:
    """Return the error for a file that ends too early."""
    reason = f"it is truncated: {what} reaches to byte {wanted}, the file has {size}"
    return ImageDamaged(image=image, reason=reason, offset=size)


def check_end(extent: Extent, file_size: int | None, header: Header, image: str) -> None:
    """Check that the file, where its size is known, has all of an extent that anybody reads.

    Raises:
        ImageDamaged: it has less.
    """
    if file_size is None or extent.kind is Kind.RESERVED:
        return
    limit, visible = file_size, header.virtual_size - extent.guest
    what, end = "an L2 table", extent.end(header.cluster_size)
    match extent.kind:
        case Kind.L1_TABLE:
            what = "its L1 table"
            end = header.l1_offset + header.l1_entries * L1_ENTRY
        case Kind.DATA:
            what, end = "a data cluster", extent.start + min(extent.detail * header.cluster_size, visible)
        case Kind.PARTIAL:
            length = extent.detail.bit_length() * (header.cluster_size // SUBCLUSTERS)
            what, end = "a data cluster", extent.start + min(length, visible)
        case Kind.COMPRESSED:
            what, limit = "a compressed cluster", align_up(file_size, _SECTOR)
    if end > limit:
        raise truncated(image, what, end, file_size)
