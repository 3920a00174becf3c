"""A new partition table, laid out and written by libparted.

libparted has to accept exactly the starts and sizes that were planned: it is the second opinion on every table that
this package makes. It is never shown a table that somebody else made, because its assertions abort the whole process;
and it never tells the kernel, because its way of doing so waits for udev, which waits for our lock.

What it writes is written into memory. On the disk it would be a table that nobody planned, until ours took its place,
and on an MBR boot code of its own, in which a BIOS without an active partition hangs: a power cut may be at any moment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import parted
from oslo_concurrency import lockutils

from libironic_disk.errors import DeviceFailed
from libironic_disk.machine.disks import disk_io, loop
from libironic_disk.pure.disks.planning import Plan
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.pure.tables.reading import read_table

# libparted's own opinion of a plain file.
_SECTOR_OF_A_FILE: Final = 512
_LABELS: Final = {TableKind.GPT: "gpt", TableKind.MBR: "msdos"}


def check_layout(node: str, plan: Plan) -> None:
    """Let libparted lay out the plan's partitions in its memory; nothing is written.

    Raises:
        DeviceFailed: libparted refuses.
    """
    with _laid_out(node, plan):
        pass


def rehearse(node: str, plan: Plan) -> None:
    """Let libparted write the plan's table onto a disk in memory, of the same size and sectors, and read it back.

    Raises:
        DeviceFailed: libparted refuses, or there are other partitions then than were planned.
    """
    sector_size = plan.topology.sector_size
    with _disk_in_memory(plan.size, sector_size) as (fd, scratch):
        with _laid_out(scratch, plan) as disk:
            disk.commitToDevice()
        made = read_table(disk_io.reader(fd, scratch), device=scratch, disk_size=plan.size, sector_size=sector_size)
    laid_out = {(part.number, part.start, part.size) for part in made.partitions} if made else set()
    if laid_out != {(part.number, part.start, part.size) for part in plan.partitions}:
        reason = "libparted laid the partitions out otherwise than planned"
        raise DeviceFailed(device=node, action="partitioning", reason=reason)


@contextmanager
def _disk_in_memory(size: int, sector_size: int) -> Iterator[tuple[int, str]]:
    """Give a blank disk, open and as a path; only what is written of it takes memory."""
    fd = os.memfd_create("libironic_disk", os.MFD_CLOEXEC)
    try:
        os.truncate(fd, size)
        path = f"/proc/{os.getpid()}/fd/{fd}"
        if sector_size == _SECTOR_OF_A_FILE:
            yield fd, path
        else:
            with loop.attached(path, sector_size=sector_size) as node:
                yield fd, node
    finally:
        os.close(fd)


@contextmanager
def _laid_out(node: str, plan: Plan) -> Iterator[parted.Disk]:
    try:
        with _device(node) as device:
            disk = parted.freshDisk(device, _LABELS[plan.table])
            for kind, span in _in_order(plan):
                _add(disk, device, kind, span)
            yield disk
    except (
        parted.DiskException,
        parted.PartitionException,
        parted.IOException,
        parted.DeviceException,
        parted.GeometryException,
    ) as error:
        reason = f"libparted: {error}"
        raise DeviceFailed(device=node, action="writing a partition table to", reason=reason) from error


def _in_order(plan: Plan) -> Iterator[tuple[int, ByteRange]]:
    """Give the kind and the bytes of each partition; libparted numbers them in this order."""
    container = plan.extended
    for part in plan.partitions:
        if part.record is None:
            yield parted.PARTITION_NORMAL, part.span
            continue
        if container is not None:
            yield parted.PARTITION_EXTENDED, container
            container = None
        yield parted.PARTITION_LOGICAL, part.span


def _add(disk: parted.Disk, device: parted.Device, kind: int, span: ByteRange) -> None:
    sector = device.sectorSize
    # Not by its end: pyparted refuses one that is the start, as a partition of a single sector has it.
    geometry = parted.Geometry(device=device, start=span.start // sector, length=span.size // sector)
    partition = parted.Partition(disk=disk, type=kind, geometry=geometry)
    # Any other constraint lets libparted move the partition to where it would rather have it.
    disk.addPartition(partition=partition, constraint=parted.Constraint(exactGeom=geometry))


@contextmanager
def _device(node: str) -> Iterator[parted.Device]:
    # libparted keeps its devices and its exception handler in globals that no lock guards.
    with lockutils.lock("libironic_disk-libparted"):
        device = parted.getDevice(node)
        try:
            yield device
        finally:
            # It would give the next caller this size and sector size again, whatever disk has the name by then.
            device.removeFromCache()
