"""What an image's disk holds: the file system in it, or a partition table, by its first bytes."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import Final

from libironic_disk.errors import DeviceFailed, SourceFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine.disks import blkid
from libironic_disk.machine.images import qemu_img
from libironic_disk.machine.images.qemu_img import DEFAULT_LIMITS, Place, QemuLimits
from libironic_disk.machine.images.sources.file import LocalFile
from libironic_disk.pure.disks.facts import Signature
from libironic_disk.pure.images.inspection import ImageFormat
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.tables.reading import read_table
from libironic_disk.units import MIB, TIB

# What a small image of a disk has; a GPT of larger sectors still has its protective MBR in the first 512 bytes.
_SECTOR_SIZE: Final = 512
_HEAD: Final = 2 * MIB
# Superblocks are judged by the size of their disk, but no file on ext4 can have more than 16 TiB.
_LARGEST_STAND_IN: Final = TIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What was found on an image's disk.

    Attributes:
        signatures: the superblocks that begin in its first 2 MiB. What lies at its end is left out, because on a
            larger partition it isn't found there.
        has_table: there is a partition table. A boot sector can look like one: this counts only where there is no
            superblock.
    """

    signatures: tuple[Signature, ...]
    has_table: bool


def contents_of_raw(file: LocalFile) -> Contents:
    """Look at a raw image in a file.

    Raises:
        SourceFailed: it can't be read, or isn't the file any more that was inspected.
    """
    with file.opened() as opened:
        found = _contents(opened.descriptor, file.size, file.name)
        opened.check_unchanged()
    return found


def contents_of_qcow2(
    file: LocalFile, virtual_size: int, *, limits: QemuLimits = DEFAULT_LIMITS, cancel: Cancellation | None = None
) -> Contents:
    """Look at the disk of a qcow2 image in a file, of which qemu-img decodes the first 2 MiB.

    Raises:
        ToolMissing: qemu-img isn't installed.
        SourceFailed: the image can't be read, or there is no room for its head.
        ProgramFailed: qemu-img failed for another reason.
        ProgramTimedOut: qemu-img took too long.
        Cancelled: the caller wished so.
    """
    try:
        with file.opened() as opened, tempfile.TemporaryFile(buffering=0) as head:
            source, target = Place.of(opened.descriptor, file.name), Place.of(head.fileno(), file.name)
            qemu_img.copy_head(source, ImageFormat.QCOW2, target, _HEAD, limits=limits, cancel=cancel)
            opened.check_unchanged()
            size = min(virtual_size, _LARGEST_STAND_IN)
            head.truncate(size)
            return _contents(head.fileno(), size, file.name)
    except OSError as error:
        reason = f"its first bytes can't be kept in {tempfile.gettempdir()}: {error.strerror or error}"
        raise SourceFailed(source=file.name, reason=reason) from error


def _contents(descriptor: int, size: int, name: str) -> Contents:
    def read(offset: int, length: int) -> bytes:
        return os.pread(descriptor, length, offset)

    try:
        found = blkid.signatures(descriptor, ByteRange(0, size), device=name, sector_size=_SECTOR_SIZE)
        table = read_table(read, device=name, disk_size=size, sector_size=_SECTOR_SIZE)
    except (DeviceFailed, OSError) as error:
        reason = error.reason if isinstance(error, DeviceFailed) else error.strerror or str(error)
        raise SourceFailed(source=name, reason=reason) from error
    return Contents(signatures=tuple(each for each in found if each.offset < _HEAD), has_table=table is not None)
