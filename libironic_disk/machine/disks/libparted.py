"""A new partition table, laid out and written by libparted.

libparted has to accept exactly the starts and sizes that were planned: it is the second opinion on every table that
this package makes. It is never shown a table that somebody else made, because its assertions abort the whole process;
and it never tells the kernel, because its way of doing so waits for udev, which waits for our lock.

It is used by pyparted's lower half. The objects of the upper one refer to each other in circles, so that they would
live on when their device is given back; and without that each device that was ever looked at stays in memory.

It sees a disk in memory, never ours. What it writes would be a table that nobody planned, until ours took its place,
and on an MBR boot code of its own, in which a BIOS without an active partition hangs: a power cut may be at any moment.
And of a disk that it opens it opens all partitions as well, to flush them; one that can't be flushed stays open for as
long as the process lives.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import _ped
from oslo_concurrency import lockutils

from libironic_disk.errors import DeviceFailed
from libironic_disk.machine.disks import disk_io, loop
from libironic_disk.pure.disks.planning import Plan
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.pure.tables.reading import read_table

# libparted's own opinion of a plain file.
_SECTOR_OF_A_FILE: Final = 512
# With the interpreter's lock: what libparted has to say it says to pyparted.
_libparted: Final = ctypes.PyDLL(_ped.__file__)
_libparted.ped_device_get.argtypes, _libparted.ped_device_get.restype = [ctypes.c_char_p], ctypes.c_void_p
_libparted.ped_device_destroy.argtypes, _libparted.ped_device_destroy.restype = [ctypes.c_void_p], None
_REFUSALS: Final = (
    _ped.DiskException,
    _ped.PartitionException,
    _ped.IOException,
    _ped.DeviceException,
    _ped.GeometryException,
)
_LABELS: Final = {TableKind.GPT: "gpt", TableKind.MBR: "msdos"}


def rehearse(node: str, plan: Plan) -> None:
    """Let libparted write the plan's table onto a disk in memory, of the same size and sectors, and read it back.

    Raises:
        DeviceFailed: libparted refuses, or there are other partitions then than were planned.
    """
    sector_size = plan.topology.sector_size
    with _disk_in_memory(plan.size, sector_size, instead_of=node) as (fd, scratch):
        _lay_out(scratch, plan, instead_of=node)
        made = read_table(disk_io.reader(fd, scratch), device=scratch, disk_size=plan.size, sector_size=sector_size)
    laid_out = {(part.number, part.start, part.size) for part in made.partitions} if made else set()
    if laid_out != {(part.number, part.start, part.size) for part in plan.partitions}:
        reason = "libparted laid the partitions out otherwise than planned"
        raise DeviceFailed(device=node, action="partitioning", reason=reason)


@contextmanager
def _disk_in_memory(size: int, sector_size: int, *, instead_of: str) -> Iterator[tuple[int, str]]:
    """Give a blank disk, open and as a path; only what is written of it takes memory.

    Raises:
        DeviceFailed: the kernel gives no such file, or no loop device, which sectors of other sizes need.
    """
    with disk_io.in_memory(size, instead_of=instead_of) as fd:
        path = f"/proc/{os.getpid()}/fd/{fd}"
        if sector_size == _SECTOR_OF_A_FILE:
            yield fd, path
        else:
            with loop.attached(path, sector_size=sector_size) as node:
                yield fd, node


def _lay_out(scratch: str, plan: Plan, *, instead_of: str) -> None:
    """Write the plan's table onto a blank device.

    Raises:
        DeviceFailed: libparted refuses.
    """
    refused = ""
    # libparted keeps its devices and its exception handler in globals that no lock guards.
    with lockutils.lock("libironic_disk-libparted"):
        try:
            device = _ped.device_get(scratch)
        except _REFUSALS as error:
            raise _refused(instead_of, str(error)) from error
        try:
            _fill(device, plan)
        except _REFUSALS as error:
            refused = str(error)
        except BaseException:
            # Its frames have the disk, whose end needs the device: that can only be forgotten.
            device.cache_remove()
            raise
        # Else it would give the next caller this size again, whatever disk has the name by then.
        known = _libparted.ped_device_get(os.fsencode(scratch))
        if known:
            _libparted.ped_device_destroy(known)
    if refused:
        raise _refused(instead_of, refused)


def _refused(node: str, reason: str) -> DeviceFailed:
    return DeviceFailed(device=node, action="writing a partition table to", reason=f"libparted: {reason}")


def _fill(device: _ped.Device, plan: Plan) -> None:
    """Do it; all that libparted made is gone with this frame, but for the device."""
    disk = _ped.disk_new_fresh(device, _ped.disk_type_get(_LABELS[plan.table]))
    sector = device.sector_size
    for kind, span in _in_order(plan):
        geometry = _ped.Geometry(device, span.start // sector, span.size // sector)
        partition = _ped.Partition(disk, kind, geometry.start, geometry.end)
        # Any other constraint lets libparted move the partition to where it would rather have it.
        disk.add_partition(partition, _ped.constraint_exact(geometry))
    disk.commit_to_dev()


def _in_order(plan: Plan) -> Iterator[tuple[int, ByteRange]]:
    """Give the kind and the bytes of each partition; libparted numbers them in this order."""
    container = plan.extended
    for part in plan.partitions:
        if part.record is None:
            yield _ped.PARTITION_NORMAL, part.span
            continue
        if container is not None:
            yield _ped.PARTITION_EXTENDED, container
            container = None
        yield _ped.PARTITION_LOGICAL, part.span
