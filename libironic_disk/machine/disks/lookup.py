"""The disk that somebody means by a name, a serial number or another of its marks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from libironic_disk.errors import DeviceError, DiskNotFound
from libironic_disk.machine.disks import observing, shortage, sysfs
from libironic_disk.machine.disks.sysfs import BlockNode
from libironic_disk.pure.multiboot.description import DiskIdKind


def find(kind: DiskIdKind, value: str) -> str:
    """Return the node of the one disk with this mark.

    Args:
        kind: what ``value`` is. A size is in bytes here.
        value: compared as a whole; WWNs without their ``0x`` or ``naa.``, and without regard to case.

    Raises:
        DiskNotFound: no disk has it, or several have.
    """
    present = disks()
    matching = tuple(disk.node for disk in present if _matches(disk, kind, value))
    if len(matching) == 1:
        return matching[0]
    raise DiskNotFound(wanted=f"{kind} {value}", matching=matching, present=tuple(disk.node for disk in present))


def file_systems_elsewhere(ours: Iterable[str]) -> frozenset[str]:
    """Return the UUIDs of what lies on all other disks of this machine and their partitions, as far as it can be read.

    Args:
        ours: the nodes of disks, partitions and volumes that don't count.
    """
    known = {sysfs.block_device_number(node) for node in ours}
    found: set[str] = set()
    for disk in disks():
        if disk.devno in known:
            continue
        blocks: tuple[BlockNode, ...] = ()
        # A slot without a medium, a disk that is dying or gone: whatever it is, it is not ours.
        with _as_far_as_it_goes():
            blocks = sysfs.with_partitions(disk)
        for block in blocks:
            with _as_far_as_it_goes():
                if block.devno not in known:
                    found.update(signature.uuid for signature in observing.signatures_on(block.node))
    return frozenset(found - {""})


@contextmanager
def _as_far_as_it_goes() -> Iterator[None]:
    """Pass over what is wrong with a device; what this machine is short of is no fault of the device's."""
    try:
        yield
    except DeviceError as error:
        if shortage.is_one(error.__cause__):
            raise


def disks() -> tuple[BlockNode, ...]:
    """Return the disks of this machine that can have partitions and aren't empty slots, by name."""
    return tuple(sorted(_disks(), key=lambda disk: disk.node))


def _disks() -> Iterator[BlockNode]:
    for entry in Path("/sys/class/block").iterdir():
        disk = None if sysfs.is_partition(entry) else sysfs.named(entry.name)
        if disk is not None and sysfs.size(disk):
            yield disk


def _matches(disk: BlockNode, kind: DiskIdKind, value: str) -> bool:
    match kind:
        case DiskIdKind.NAME:
            return disk.node == f"/dev/{value.removeprefix('/dev/')}"
        case DiskIdKind.PATH:
            path = Path("/dev", value.removeprefix("/dev/"))
            return path.exists() and path.resolve() == Path(disk.node).resolve()
        case DiskIdKind.SCSI:
            return (disk.directory / "device").resolve().name == value
        case DiskIdKind.SERIAL:
            return value.strip() != "" and sysfs.identity(disk).serial == value.strip()
        case DiskIdKind.WWN:
            return _bare(value) != "" and _bare(sysfs.identity(disk).wwn) == _bare(value)
        case DiskIdKind.SIZE:
            return str(sysfs.size(disk)) == value


def _bare(wwn: str) -> str:
    return wwn.strip().lower().removeprefix("naa.").removeprefix("eui.").removeprefix("0x")
