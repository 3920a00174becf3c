"""Arrays and volume groups made as planned, and stopped.

LVM is told the devices that it may see (``--devices``): a group elsewhere that has a name or an identity in common with
ours is none of its business.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from libironic_disk.errors import DeviceFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine import process
from libironic_disk.machine.disks import blkid, disk_io, sysfs
from libironic_disk.machine.disks.sysfs import BlockNode
from libironic_disk.machine.volumes import stacking
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.volumes.facts import Holder, HolderKind
from libironic_disk.pure.volumes.planner import OVERHEAD
from libironic_disk.pure.volumes.planning import PlannedArray, PlannedGroup, StoragePlan
from libironic_disk.pure.volumes.storage import ArrayMetadata
from libironic_disk.units import KIB

_TIMEOUT: Final = 300.0
_HIGHEST_ARRAY: Final = 127


def required_tools(plan: StoragePlan) -> Iterable[str]:
    """Return the programs that a plan needs."""
    kinds = {holder.kind for holder in plan.stops}
    if plan.is_empty:
        return ()
    wanted = set()
    if plan.arrays or HolderKind.ARRAY in kinds:
        wanted.add("mdadm")
    if plan.groups:
        wanted |= {"pvcreate", "vgcreate", "lvcreate", "dmsetup"}
    if HolderKind.VOLUME in kinds:
        wanted.add("dmsetup")
    return sorted(wanted)


def make_array(array: PlannedArray, nodes: Sequence[str], cancel: Cancellation) -> str:
    """Make an array of its members' nodes and return its own.

    Raises:
        ProgramError: mdadm failed.
        DeviceFailed: the kernel gives another size than was planned.
        Cancelled: the caller wished so.
    """
    node = _free_array()
    places = {
        ArrayMetadata.AT_THE_START: [f"--data-offset={OVERHEAD // KIB}K"],
        ArrayMetadata.AT_THE_END: [],
    }
    process.run(
        *("mdadm", "--create", node, "--run", "--level=1", f"--raid-devices={len(nodes)}"),
        *(f"--metadata={array.metadata}", f"--uuid={array.uuid}", f"--name={array.name}", "--homehost=any"),
        *("--bitmap=none", f"--size={array.size // KIB}", *places[array.metadata], *nodes),
        timeout=_TIMEOUT,
        cancel=cancel,
    )
    found = sysfs.size(sysfs.block_node(sysfs.block_device_number(node)))
    if found != array.size:
        reason = f"{array.name} has {found} bytes, {array.size} were planned"
        raise DeviceFailed(device=node, action="making an array on", reason=reason)
    return node


def _free_array() -> str:
    for number in range(_HIGHEST_ARRAY, -1, -1):
        name = f"md{number}"
        if not Path("/sys/block", name).exists() and not Path("/dev", name).exists():
            return f"/dev/{name}"
    raise DeviceFailed(device="/dev/md*", action="making an array on", reason="the machine has no number left for it")


def make_group(group: PlannedGroup, nodes: Sequence[str], cancel: Cancellation) -> dict[str, str]:
    """Make a group on its members' nodes and its volumes, and return their nodes by name.

    Raises:
        ProgramError: LVM failed.
        Cancelled: the caller wished so.
    """
    only = [word for node in nodes for word in ("--devices", node)]
    run = _Lvm(only, cancel)
    run("pvcreate", "--force", "--force", "--yes", "--zero", "y", "--dataalignment", f"{OVERHEAD}b", *nodes)
    run("vgcreate", "--yes", "--physicalextentsize", f"{group.extent_size}b", group.name, *nodes)
    made = {}
    for volume in group.volumes:
        extents = str(volume.size // group.extent_size)
        run("lvcreate", "--yes", "--wipesignatures", "y", "--name", volume.name, "--extents", extents, group.name)
        made[volume.name] = str(Path(f"/dev/mapper/{_mapped(group.name)}-{_mapped(volume.name)}").resolve())
    return made


class _Lvm:
    def __init__(self, only: Sequence[str], cancel: Cancellation) -> None:
        self._only = only
        self._cancel = cancel

    def __call__(self, program: str, *arguments: str) -> None:
        process.run(program, *self._only, *arguments, timeout=_TIMEOUT, cancel=self._cancel)


def _mapped(name: str) -> str:
    """Return a name as device mapper has it (lvm(8))."""
    return name.replace("-", "--")


def stop(holder: Holder) -> None:
    """Stop one device that nothing is built upon; what is on it stays.

    Raises:
        ProgramError: it can't be stopped.
    """
    if holder.kind is HolderKind.ARRAY:
        process.run("mdadm", "--stop", holder.node, timeout=_TIMEOUT)
    else:
        process.run("dmsetup", "remove", "--retry", holder.name, timeout=_TIMEOUT)


def stop_all(disks: Sequence[BlockNode]) -> None:
    """Stop every array and volume that runs upon some disks.

    Raises:
        ProgramError: one of them can't be stopped.
    """
    for holder in stacking.holders(disks):
        if holder.kind in (HolderKind.ARRAY, HolderKind.VOLUME):
            stop(holder)


def take_apart(holder: Holder) -> None:
    """Erase what is on a device that nothing is built upon, then stop it.

    Raises:
        DeviceFailed: it can't be written.
        ProgramError: it can't be stopped.
    """
    try:
        fd = os.open(holder.node, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise DeviceFailed(device=holder.node, action="opening", reason=error.strerror or str(error)) from error
    try:
        whole = ByteRange(0, os.lseek(fd, 0, os.SEEK_END))
        blkid.erase_signatures(fd, whole, device=holder.node, sector_size=sysfs.sector_size(fd))
        disk_io.flush(fd, holder.node)
    finally:
        os.close(fd)
    stop(holder)
