"""Block devices as the kernel shows them in sysfs: found by device number, never by the shape of a name.

Source of the attributes: Documentation/ABI/stable/sysfs-block of the kernel. Sizes and starts there are counted in
units of 512 bytes on every disk.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libironic_disk.errors import DeviceFailed, NotABlockDevice, ProgramFailed
from libironic_disk.machine.disks import mapper, shortage
from libironic_disk.pure.disks.facts import Identity, Topology

LVM: Final = "LVM"
MULTIPATH: Final = "mpath"

_UNIT: Final = 512
_BLKSSZGET: Final = 0x1268
_KINDS: Final = (
    (stat.S_ISREG, "a plain file, which can be a disk when its sector size is given"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockNode:
    """A whole disk or a partition: its node, its device number and its directory in sysfs."""

    node: str
    devno: int
    directory: Path

    @property
    def name(self) -> str:
        """The kernel's name, as in ``loop0`` or ``nvme0n1p1``."""
        return self.directory.name


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelPartition:
    """A partition that the kernel knows, in bytes."""

    number: int
    start: int
    size: int
    block: BlockNode


def whole_disk(path: str) -> BlockNode:
    """Find the whole disk that a path names; symbolic links such as those of /dev/disk are followed.

    Raises:
        NotABlockDevice: it names nothing, something else, or a partition.
    """
    block = block_node(block_device_number(path))
    if (block.directory / "partition").exists():
        raise NotABlockDevice(device=path, found=f"is a partition of {block.directory.parent.name}, not the whole disk")
    if mapper.partition_of(block.directory):
        raise NotABlockDevice(device=path, found="is a partition of a mapped disk, not the whole disk")
    return block


def disk_of(block: BlockNode) -> BlockNode:
    """Return the whole disk that a partition, the kernel's or device mapper's, is on; any other device itself."""
    if mapper.partition_of(block.directory):
        # A logical partition may be built upon the extended one.
        lower = beneath(block)
        return disk_of(lower[0]) if lower else block
    if (block.directory / "partition").exists():
        return named(block.directory.parent.name) or block
    return block


def is_partition(directory: Path) -> bool:
    """Whether a device, by its directory, is a partition: the kernel's or device mapper's."""
    return (directory / "partition").exists() or mapper.partition_of(directory) is not None


def block_device_number(path: str) -> int:
    """Return the number of the block device that a path leads to.

    Raises:
        NotABlockDevice: it leads to nothing, or to something else.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise NotABlockDevice(device=path, found=f"can't be reached ({error.strerror})") from error
    if not stat.S_ISBLK(status.st_mode):
        kind = next((words for test, words in _KINDS if test(status.st_mode)), "something else")
        raise NotABlockDevice(device=path, found=f"is {kind}")
    return status.st_rdev


def sector_size(fd: int) -> int:
    """Return the logical sector size of an open block device (BLKSSZGET; ``linux/fs.h``), and 512 for a plain file."""
    try:
        return int(struct.unpack("=I", fcntl.ioctl(fd, _BLKSSZGET, bytes(4)))[0])
    except OSError:
        return _UNIT


def block_node(devno: int) -> BlockNode:
    """Return the block device with this number.

    Raises:
        NotABlockDevice: the kernel has none.
        DeviceFailed: it doesn't say.
    """
    link = Path(f"/sys/dev/block/{os.major(devno)}:{os.minor(devno)}")
    try:
        directory = link.resolve(strict=True)
        # The name in /dev may have a slash where sysfs has "!": only the uevent tells.
        words = dict(line.split("=", 1) for line in (directory / "uevent").read_text().splitlines() if "=" in line)
    except OSError as error:
        shortage.refuse(error, link)
        found = f"is nothing that the kernel knows ({error.strerror})"
        raise NotABlockDevice(device=str(link), found=found) from error
    return BlockNode(node=f"/dev/{words['DEVNAME']}", devno=devno, directory=directory)


def named(name: str) -> BlockNode | None:
    """Return the block device that the kernel calls so; None if there is none, or it went away meanwhile.

    Raises:
        DeviceFailed: the kernel doesn't say.
    """
    try:
        major, minor = (Path("/sys/class/block") / name / "dev").read_text().split(":")
        return block_node(os.makedev(int(major), int(minor)))
    except (OSError, ValueError, NotABlockDevice) as error:
        shortage.refuse(error, name)
        return None


def is_mapped(disk: BlockNode) -> bool:
    """Whether a disk is device mapper's: its partitions are mappings of their own, which somebody has to make."""
    return mapper.is_mapping(disk.directory)


def partitions(disk: BlockNode) -> tuple[KernelPartition, ...]:
    """Return the partitions of a disk that the kernel knows now, by number.

    Raises:
        DeviceFailed: the disk is gone.
        ToolMissing: it is device mapper's, it has partitions and dmsetup isn't installed.
        ProgramTimedOut: dmsetup doesn't answer.
    """
    found = _mapped_partitions(disk) if is_mapped(disk) else _partitions(disk)
    return tuple(sorted(found, key=lambda part: part.number))


def with_partitions(disk: BlockNode) -> tuple[BlockNode, ...]:
    """Return a disk and its partitions; sysfs alone tells.

    Raises:
        DeviceFailed: the disk is gone.
    """
    if is_mapped(disk):
        return (disk, *(block for _, block in sorted(_mappings(disk), key=lambda found: found[0])))
    return (disk, *(part.block for part in partitions(disk)))


def _mappings(disk: BlockNode) -> Iterator[tuple[int, BlockNode]]:
    """Yield the partitions of a mapped disk with their numbers, each behind what it is built upon.

    A logical partition may be built upon the extended one and not upon the disk.
    """
    uuid = mapper.disk_uuid(disk.directory, disk.devno)
    beneath = [disk]
    for block in beneath:
        for holder in map(named, holders(block)):
            found = mapper.partition_of(holder.directory) if holder else None
            if holder and found and found[1] == uuid:
                beneath.append(holder)
                yield found[0], holder


def _mapped_partitions(disk: BlockNode) -> Iterator[KernelPartition]:
    starts = {disk.devno: 0}
    for number, block in _mappings(disk):
        try:
            lower, offset = mapper.origin(block.devno) or (0, 0)
        except ProgramFailed:
            # It went away while it was looked at.
            continue
        if lower in starts:
            starts[block.devno] = starts[lower] + offset
            yield KernelPartition(number=number, start=starts[block.devno], size=size(block), block=block)


def _partitions(disk: BlockNode) -> Iterator[KernelPartition]:
    try:
        entries = list(disk.directory.iterdir())
    except OSError as error:
        reason = error.strerror or str(error)
        raise DeviceFailed(device=disk.node, action="looking for partitions of", reason=reason) from error
    for entry in entries:
        # The kernel names a partition's directory after its disk; what it is, its attributes say.
        if not entry.name.startswith(disk.name):
            continue
        try:
            number = int((entry / "partition").read_text())
            start = int((entry / "start").read_text()) * _UNIT
            size = int((entry / "size").read_text()) * _UNIT
            major, minor = (entry / "dev").read_text().split(":")
            block = block_node(os.makedev(int(major), int(minor)))
        except (OSError, NotABlockDevice) as error:
            shortage.refuse(error, entry)
            # Not a partition, or one that went away while it was looked at.
            continue
        yield KernelPartition(number=number, start=start, size=size, block=block)


def is_lent(path: str) -> bool:
    """Whether a disk is probably here only to be prepared for another machine.

    A loop or network block device, one on USB or iSCSI, or one with removable media: this machine's firmware has no
    business with it.
    """
    disk = whole_disk(path)
    buses = {part.rstrip("0123456789") for part in disk.directory.parts}
    return disk.name.startswith(("loop", "nbd")) or bool(buses & {"usb", "session"}) or _number(disk, "removable") != 0


def can_have_partitions(disk: BlockNode) -> bool:
    """Whether the kernel has numbers for partitions of this device (``ext_range``); zram and the like have none.

    Nor has device mapper, but there a partition is a mapping.
    """
    return is_mapped(disk) or _number(disk, "ext_range") > 1


def size(disk: BlockNode) -> int:
    """Return the bytes of a disk."""
    return _number(disk, "size") * _UNIT


def is_read_only(disk: BlockNode) -> bool:
    """Whether the kernel refuses writes to the disk."""
    return _number(disk, "ro") != 0


def topology(disk: BlockNode) -> Topology:
    """Return the sector sizes and the preferred sizes that the disk reports."""
    return Topology(
        sector_size=_number(disk, "queue/logical_block_size"),
        physical_sector_size=_number(disk, "queue/physical_block_size"),
        optimal_io=_number(disk, "queue/optimal_io_size"),
        alignment_offset=max(_number(disk, "alignment_offset"), 0),
    )


def identity(disk: BlockNode) -> Identity:
    """Return what the kernel itself knows of who the disk is; the drivers keep it in different places."""
    return Identity(
        model=word(disk, "device/model"),
        serial=word(disk, "device/serial") or word(disk, "serial") or word(disk, "dm/uuid"),
        wwn=word(disk, "wwid") or word(disk, "device/wwid"),
        sequence=word(disk, "diskseq"),
    )


def holders(block: BlockNode) -> tuple[str, ...]:
    """Return the names of the devices built upon this one: device mapper, md, bcache."""
    return _names_in(block.directory / "holders")


def beneath(block: BlockNode) -> tuple[BlockNode, ...]:
    """Return what a device is built upon, right beneath it."""
    found = map(named, _names_in(block.directory / "slaves"))
    return tuple(lower for lower in found if lower is not None)


def _names_in(directory: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(entry.name for entry in directory.iterdir()))
    except OSError as error:
        shortage.refuse(error, directory)
        return ()


def mapping(directory: Path) -> tuple[str, str] | None:
    """Return who made a device with device mapper, and its name; None for any other device.

    The maker is what device mapper's UUIDs begin with: :data:`LVM`, :data:`MULTIPATH`, ``CRYPT`` and others.
    """
    try:
        uuid = (directory / "dm/uuid").read_text().strip()
        name = (directory / "dm/name").read_text().strip()
    except OSError as error:
        shortage.refuse(error, directory)
        return None
    return uuid.split("-", 1)[0], name


def _number(disk: BlockNode, attribute: str) -> int:
    return int(word(disk, attribute) or 0)


def word(disk: BlockNode, attribute: str) -> str:
    """Return an attribute's text; empty if there is none, or the device is gone.

    Raises:
        DeviceFailed: the kernel doesn't say.
    """
    try:
        return (disk.directory / attribute).read_text(errors="replace").strip()
    except OSError as error:
        shortage.refuse(error, disk.node)
        return ""
