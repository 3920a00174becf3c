"""A disk or a plain file, seen: the only reading that planning rests upon. Everything here opens read-only."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from typing import Final

import pyudev

from libironic_disk.errors import DeviceFailed, NotABlockDevice
from libironic_disk.machine.disks import blkid, claims, disk_io, sysfs
from libironic_disk.machine.disks.sysfs import BlockNode
from libironic_disk.pure.disks.facts import DiskFacts, DiskKind, Identity, Signature, Topology
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.tables.model import FoundTable, Reader
from libironic_disk.pure.tables.reading import read_table, regions
from libironic_disk.units import KIB, align_down

_SECTOR_SIZES: Final = tuple(512 << power for power in range(8))


def observe_disk(disk: BlockNode, path: str) -> DiskFacts:
    """Return the facts of a whole disk, under the name ``path``.

    Raises:
        DeviceFailed: it can't be read.
    """
    with disk_io.opened(disk.node, os.O_RDONLY) as fd:
        return facts_of(
            fd,
            path=path,
            kind=DiskKind.BLOCK_DEVICE,
            size=sysfs.size(disk),
            topology=sysfs.topology(disk),
            read_only=sysfs.is_read_only(disk),
            identity=_identity(disk),
        )


def observe_file(path: str, *, sector_size: int) -> DiskFacts:
    """Return the facts of a plain file that is to be a disk with sectors of ``sector_size`` bytes.

    Raises:
        NotABlockDevice: it is neither a file nor there.
        DeviceFailed: it can't be read, or no disk has such sectors.
    """
    if sector_size not in _SECTOR_SIZES:
        reason = f"sectors have a power of two of bytes, from 512 to {_SECTOR_SIZES[-1] // KIB} KiB, not {sector_size}"
        raise DeviceFailed(device=path, action="observing", reason=reason)
    try:
        status = os.stat(path)
    except OSError as error:
        raise NotABlockDevice(device=path, found=f"can't be reached ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):
        raise NotABlockDevice(device=path, found="is no plain file")
    with disk_io.opened(path, os.O_RDONLY) as fd:
        return facts_of(
            fd,
            path=path,
            kind=DiskKind.PLAIN_FILE,
            size=status.st_size,
            topology=Topology(sector_size=sector_size, physical_sector_size=sector_size),
            read_only=not os.access(path, os.W_OK),
            identity=Identity(serial=f"{status.st_dev}:{status.st_ino}"),
        )


def facts_of(
    fd: int,
    *,
    path: str,
    kind: DiskKind,
    size: int,
    topology: Topology,
    read_only: bool,
    identity: Identity,
) -> DiskFacts:
    """Return the facts of what is open as ``fd``: its table, every superblock on it and in its partitions.

    Raises:
        DeviceFailed: it can't be read.
    """
    # Somebody may have written through a partition's node, whose pages aren't the whole disk's.
    disk_io.forget(fd)
    read = disk_io.reader(fd, path)
    # Half a sector at the end of a file or loop device is none: the kernel refuses to read it.
    size = align_down(size, topology.sector_size)
    table = read_table(read, device=path, disk_size=size, sector_size=topology.sector_size)
    return DiskFacts(
        path=path,
        kind=kind,
        size=size,
        topology=topology,
        read_only=read_only,
        identity=identity,
        table=table,
        signatures=tuple(_signatures(fd, path, size, topology.sector_size, table)),
        table_digest=_digest(read, table, size, topology.sector_size),
    )


def signatures_on(node: str) -> tuple[Signature, ...]:
    """Return every superblock on a device of any kind, as if it were a whole one.

    Raises:
        DeviceFailed: it can't be read.
    """
    with disk_io.opened(node, os.O_RDONLY) as fd:
        disk_io.forget(fd)
        whole = ByteRange(0, os.lseek(fd, 0, os.SEEK_END))
        return blkid.signatures(fd, whole, device=node, sector_size=sysfs.sector_size(fd))


def _signatures(fd: int, path: str, size: int, sector_size: int, table: FoundTable | None) -> Iterator[Signature]:
    inside: list[Signature] = []
    for part in table.partitions if table else ():
        span = ByteRange(max(part.start, 0), min(part.end, size))
        if span.size > 0:
            found = blkid.signatures(fd, span, device=path, sector_size=sector_size, partition=part.number)
            inside.extend(found)
    # A superblock near the end of the last partition can be taken for the whole disk's as well.
    places = {signature.offset for signature in inside}
    whole = ByteRange(0, size)
    if whole.size > 0:
        outside = blkid.signatures(fd, whole, device=path, sector_size=sector_size)
        yield from (signature for signature in outside if signature.offset not in places)
    yield from inside


def _digest(read: Reader, table: FoundTable | None, size: int, sector_size: int) -> str:
    digest = hashlib.sha256()
    for offset, length in regions(table, size, sector_size):
        digest.update(f"{offset}:{length}\n".encode())
        digest.update(read(offset, length))
    return digest.hexdigest()


def _identity(disk: BlockNode) -> Identity:
    """Return who the disk is: udev's answer where there is one, as sysfs doesn't show a SCSI disk's serial number."""
    from_kernel = sysfs.identity(disk)
    # Without the daemon there is nothing to ask, and loading libudev costs more than all the rest of observing.
    if not claims.is_udevd_there():
        return from_kernel
    try:
        properties = pyudev.Devices.from_device_number(pyudev.Context(), "block", disk.devno).properties
        serial = properties.get("ID_SERIAL_SHORT") or properties.get("ID_SERIAL") or from_kernel.serial
        wwn = properties.get("ID_WWN_WITH_EXTENSION") or properties.get("ID_WWN") or from_kernel.wwn
    except (pyudev.DeviceNotFoundError, OSError):
        return from_kernel
    return Identity(model=from_kernel.model, serial=serial, wwn=wwn, sequence=from_kernel.sequence)
