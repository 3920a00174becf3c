"""Arrays and volume groups made as planned, and stopped.

LVM is told the devices that it may see (``--devices``): a group elsewhere that has a name or an identity in common with
ours is none of its business.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from libironic_disk.errors import DeviceBusy, DeviceFailed, ProgramError
from libironic_disk.events import Cancellation
from libironic_disk.machine import process
from libironic_disk.machine.disks import blkid, claims, disk_io, mapper, sysfs, users
from libironic_disk.machine.disks.sysfs import BlockNode
from libironic_disk.machine.volumes import locking, naming, stacking
from libironic_disk.pure.ranges import ByteRange, edges
from libironic_disk.pure.volumes.facts import Holder, HolderKind
from libironic_disk.pure.volumes.planner import OVERHEAD
from libironic_disk.pure.volumes.planning import PlannedArray, PlannedGroup, StoragePlan, mapped_name, unmapped_name
from libironic_disk.pure.volumes.storage import ArrayMetadata
from libironic_disk.units import KIB

_TIMEOUT: Final = 300.0
_HIGHEST_ARRAY: Final = 127
# What lvm.conf says otherwise moves the first extent, and the last: a member has 1 MiB of overhead, no more.
_METADATA: Final = "metadata/pvmetadatasize=0 metadata/pvmetadatacopies=1 devices/md_chunk_alignment=0"
_LOOKS: Final = 20
_PAUSE: Final = 0.1


def required_tools(plan: StoragePlan) -> Iterable[str]:
    """Return the programs that a plan needs."""
    kinds = {holder.kind for holder in plan.stops}
    if plan.is_empty:
        return ()
    wanted = set()
    if plan.arrays or HolderKind.ARRAY in kinds:
        wanted.add("mdadm")
    if plan.groups:
        wanted |= {"pvs", "pvcreate", "vgcreate", "lvcreate", "dmsetup"}
    if HolderKind.VOLUME in kinds:
        wanted.add("dmsetup")
    return sorted(wanted)


def make_array(array: PlannedArray, nodes: Sequence[str], cancel: Cancellation) -> str:
    """Make an array of its members' nodes and return its own.

    Raises:
        ProgramError: mdadm failed.
        DeviceFailed: the kernel gives another size than was planned.
        DeviceLocked: somebody else was making an array for a minute.
        Cancelled: the caller wished so.
    """
    offset = OVERHEAD if array.metadata is ArrayMetadata.AT_THE_START else 0
    for member in nodes:
        _blank_ends(member, ByteRange(offset, offset + array.size))
    # What begins where its members do takes no such option.
    placed = [f"--data-offset={offset // KIB}K"] if offset else []
    with locking.numbers_locked(cancel):
        node = _free_array()
        process.run(
            *("mdadm", "--create", node, "--run", "--level=1", f"--raid-devices={len(nodes)}"),
            *(f"--metadata={array.metadata}", f"--uuid={array.uuid}", f"--name={array.name}", "--homehost=any"),
            *("--bitmap=none", f"--size={array.size // KIB}", *placed, *nodes),
            timeout=_TIMEOUT,
            cancel=cancel,
        )
    found = sysfs.size(sysfs.block_node(sysfs.block_device_number(node)))
    if found != array.size:
        reason = f"{array.name} has {found} bytes, {array.size} were planned"
        raise DeviceFailed(device=node, action="making an array on", reason=reason)
    return node


def check_whole(name: str, node: str) -> None:
    """Prove that all members of an array have all that was written to it.

    Raises:
        DeviceFailed: one hasn't, or the kernel doesn't say.
    """
    lost = stacking.lost(sysfs.block_node(sysfs.block_device_number(node)))
    if lost is None:
        raise DeviceFailed(device=node, action="looking at the members of", reason=f"{name} isn't a mirror that runs")
    if lost:
        raise DeviceFailed(device=node, action="mirroring on", reason=f"{name} lost {lost}")


def _blank_ends(node: str, data: ByteRange) -> None:
    """Zero both ends of what will be an array's data: what an older array had there must not be recognised on it."""
    with disk_io.opened(node, os.O_RDWR) as fd:
        disk_io.zero(fd, node, edges(data, OVERHEAD))
        disk_io.flush(fd, node)


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

    def run(program: str, *arguments: str) -> None:
        process.run(program, *only, *arguments, timeout=_TIMEOUT, cancel=cancel)

    placed = ("--config", _METADATA, "--dataalignment", f"{OVERHEAD}b", "--dataalignmentoffset", "0")
    run("pvcreate", "--force", "--force", "--yes", "--zero", "y", "--metadatacopies", "1", *placed, *nodes)
    # Such as an earlier boot of a machine without udevd, or a process that was killed, may have left.
    naming.forget_links(group.name)
    run("vgcreate", "--yes", "--physicalextentsize", f"{group.extent_size}b", group.name, *nodes)
    made = {}
    for volume in group.volumes:
        extents = str(volume.size // group.extent_size)
        run("lvcreate", "--yes", "--wipesignatures", "y", "--name", volume.name, "--extents", extents, group.name)
        made[volume.name] = str(Path("/dev/mapper", mapped_name(group.name, volume.name)).resolve())
    return made


def stop(kind: HolderKind, node: str, name: str) -> None:
    """Stop an array or a volume that nothing is built upon; what is on it stays.

    Raises:
        ProgramError: it can't be stopped.
    """
    if kind is HolderKind.ARRAY:
        process.run("mdadm", "--stop", node, timeout=_TIMEOUT)
    else:
        process.run("dmsetup", "remove", "--retry", name, timeout=_TIMEOUT)
        group, _ = unmapped_name(name)
        if kind is HolderKind.VOLUME and group:
            naming.forget_links(group)


def stop_all(disks: Sequence[BlockNode]) -> None:
    """Stop every array and volume that runs upon some disks, without reading any: the disks may be failing.

    Raises:
        ProgramError: one of them can't be stopped; all others were tried.
    """
    failed: list[ProgramError] = []
    for block in stacking.running(disks):
        kind, name = stacking.kind_of(block)
        if kind in (HolderKind.ARRAY, HolderKind.VOLUME):
            try:
                stop(kind, block.node, name)
            except ProgramError as error:
                failed.append(error)
    if failed:
        raise failed[0]


def check_idle(holders: Sequence[Holder], device: str) -> None:
    """Prove that nobody uses some of what runs: no mount in whatever namespace, and no program.

    Of an array the kernel doesn't say whether a program has it open: that is seen of programs in our own namespace of
    processes.

    Raises:
        DeviceBusy: somebody does; all of them are named.
        DeviceFailed: one of them can't be opened.
        ProgramError: device mapper doesn't answer.
    """
    beneath = {node for holder in holders for node in holder.upon}
    found = tuple(user for holder in holders for user in _users(holder, beneath))
    if found:
        raise DeviceBusy(device=device, users=found)


def _users(holder: Holder, beneath: Container[str]) -> Iterator[str]:
    if holder.users:
        yield from holder.users
        return
    # What something else is built upon is in use by that, and nobody else can have claimed it.
    blocks = sysfs.with_partitions(sysfs.block_node(sysfs.block_device_number(holder.node)))
    is_uppermost = not any(block.node in beneath for block in blocks)
    # udevd and its like look for a moment.
    for _ in range(_LOOKS):
        found = tuple(_uses(holder, blocks, is_uppermost=is_uppermost))
        if not found:
            return
        time.sleep(_PAUSE)
    yield from found


def _uses(holder: Holder, blocks: Sequence[BlockNode], *, is_uppermost: bool) -> Iterator[str]:
    if holder.kind is HolderKind.ARRAY:
        yield from (f"{holder} is open in {program}" for program in users.openers(blocks))
    is_open = holder.kind is HolderKind.VOLUME and mapper.is_open(holder.name)
    if is_uppermost and (is_open or claims.is_claimed(holder.node)):
        yield f"{holder} is in use"


def take_apart(holder: Holder) -> None:
    """Erase what is on a device that nothing is built upon, then stop it.

    Raises:
        DeviceBusy: somebody uses it.
        DeviceFailed: it can't be written.
        ProgramError: it can't be stopped.
    """
    try:
        fd = os.open(holder.node, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise DeviceBusy(device=holder.node, users=(f"{holder} is in use",)) from error
        raise DeviceFailed(device=holder.node, action="opening", reason=error.strerror or str(error)) from error
    try:
        whole = ByteRange(0, os.lseek(fd, 0, os.SEEK_END))
        # Of an array that waits for its other members there is nothing to be seen yet, and a flush of it fails.
        if whole.size:
            blkid.erase_signatures(fd, whole, device=holder.node, sector_size=sysfs.sector_size(fd))
            disk_io.flush(fd, holder.node)
    finally:
        os.close(fd)
    stop(holder.kind, holder.node, holder.name)
