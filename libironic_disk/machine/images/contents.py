"""What an image's disk holds: the file system in it, or a partition table, by its first bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import FileIO
from typing import Final

from libironic_disk.errors import DeviceFailed, ImageDamaged, SourceFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine.disks import blkid
from libironic_disk.machine.images import qemu_img
from libironic_disk.machine.images.detection import HEAD
from libironic_disk.machine.images.heads import first_bytes, unpacked
from libironic_disk.machine.images.inspection import InspectedImage
from libironic_disk.machine.images.qemu_img import Place, QemuLimits
from libironic_disk.machine.images.sources.file import LocalFile
from libironic_disk.pure.disks.facts import Signature
from libironic_disk.pure.images.inspection import FOREIGN
from libironic_disk.pure.images.qcow2_head import disk_head
from libironic_disk.pure.images.superblocks import NEEDED, file_system_size
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.tables.reading import read_table
from libironic_disk.units import MIB, TIB

LOOKED_AT: Final = 2 * MIB
"""How many first bytes of a disk are looked at."""

# What a small image of a disk has; a GPT of larger sectors still has its protective MBR in the first 512 bytes.
_SECTOR_SIZE: Final = 512
# Superblocks are judged by the size of their disk, but no file in memory can have more than 8 EiB, nor needs to.
_LARGEST_STAND_IN: Final = TIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What was found on an image's disk.

    Attributes:
        signatures: the superblocks that begin in its first 2 MiB. What lies at its end is left out, because on a
            larger partition it isn't found there.
        has_table: there is a partition table. A boot sector can look like one: this counts only where there is no
            superblock.
        file_system_size: how many bytes its file system says that it takes; None where it doesn't.
    """

    signatures: tuple[Signature, ...]
    has_table: bool
    file_system_size: int | None = None


def head_of(image: InspectedImage, length: int, *, limits: QemuLimits, cancel: Cancellation | None) -> bytes | None:
    """Return the first ``length`` bytes of an image's disk, at most :data:`LOOKED_AT`, or all of a smaller one.

    Returns:
        None where they can't be had without reading the image, which can be read once only or from its start.

    Raises:
        SourceFailed: it can't be read, or changed since it was inspected.
        ImageDamaged: it is a qcow2 image in a file, and they can't be unpacked.
        ProgramFailed, ProgramTimedOut: qemu-img, which reads what is in another format than ours.
        Cancelled: the caller wished so.
    """
    if image.format in FOREIGN:
        return _head_by_qemu_img(image, length, limits, cancel)
    if isinstance(image.source, LocalFile) and image.header is not None and image.compression is None:
        with image.source.opened() as opened:
            return disk_head(image.header, opened.pread, length, image=image.name)
    packed = first_bytes(image.source)
    head = packed if image.compression is None else unpacked(packed, image.compression, image=image.name)
    if image.header is None:
        return head[:length] if len(head) >= length or len(packed) < HEAD else None
    try:
        return disk_head(image.header, lambda at, size: head[at : at + size], length, image=image.name)
    except ImageDamaged:
        # Nearly always because the image goes on behind what is at hand; decoding all of it tells.
        return None


def contents_of(head: bytes, size: int | None, *, name: str) -> Contents:
    """Look at the first bytes of a disk of ``size`` bytes, None where that isn't known.

    Raises:
        SourceFailed: there is no memory to look at them.
    """
    try:
        with _memory() as stand_in:
            size = min(size or _LARGEST_STAND_IN, _LARGEST_STAND_IN)
            os.pwrite(stand_in.fileno(), head[:size], 0)
            stand_in.truncate(size)
            return _contents(stand_in.fileno(), size, name)
    except OSError as error:
        raise SourceFailed(source=name, reason=error.strerror or str(error)) from error


def _head_by_qemu_img(
    image: InspectedImage, length: int, limits: QemuLimits, cancel: Cancellation | None
) -> bytes | None:
    if not isinstance(image.source, LocalFile) or image.compression is not None:
        return None
    with image.source.opened() as opened, _memory() as head:
        source, target = Place.of(opened.descriptor, image.name), Place.of(head.fileno(), image.name)
        qemu_img.copy_head(source, image.format, target, LOOKED_AT, limits=limits, cancel=cancel)
        opened.check_unchanged()
        return os.pread(head.fileno(), length, 0)


def _memory() -> FileIO:
    return FileIO(os.memfd_create("libironic_disk-head"), "r+b")


def _contents(descriptor: int, size: int, name: str) -> Contents:
    def read(offset: int, length: int) -> bytes:
        return os.pread(descriptor, length, offset)

    try:
        found = blkid.signatures(descriptor, ByteRange(0, size), device=name, sector_size=_SECTOR_SIZE)
        table = read_table(read, device=name, disk_size=size, sector_size=_SECTOR_SIZE)
    except DeviceFailed as error:
        raise SourceFailed(source=name, reason=error.reason) from error
    return Contents(
        signatures=tuple(each for each in found if each.offset < LOOKED_AT),
        has_table=table is not None,
        file_system_size=file_system_size(read(0, NEEDED)) if found else None,
    )
