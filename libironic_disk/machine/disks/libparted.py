"""A new partition table, laid out and written by libparted.

libparted has to accept exactly the starts and sizes that were planned: it is the second opinion on every table that
this package makes. It is never shown a table that somebody else made, because its assertions abort the whole process;
and it never tells the kernel, because its way of doing so waits for udev, which waits for our lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import parted
from oslo_concurrency import lockutils

from libironic_disk.errors import DeviceFailed
from libironic_disk.pure.disks.planning import Plan
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.tables.model import TableKind

_LABELS: Final = {TableKind.GPT: "gpt", TableKind.MBR: "msdos"}


def check_layout(node: str, plan: Plan) -> None:
    """Let libparted lay out the plan's partitions in its memory; nothing is written.

    Raises:
        DeviceFailed: libparted refuses.
    """
    with _laid_out(node, plan):
        pass


def write_table(node: str, plan: Plan) -> None:
    """Write a new table with the plan's partitions onto a block device; the kernel isn't told.

    Types, names and identities are libparted's own afterwards: it can't set them all.

    Raises:
        DeviceFailed: libparted refuses, or couldn't write.
    """
    with _laid_out(node, plan) as disk:
        disk.commitToDevice()


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
