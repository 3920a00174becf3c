"""Old metadata gone: every path that writes a disk anew goes through here, and the result is looked at again."""

from __future__ import annotations

from collections.abc import Iterable

from libironic_disk.events import Cancellation
from libironic_disk.machine.disks import blkid, disk_io
from libironic_disk.pure.disks.planning import Action, Plan
from libironic_disk.pure.ranges import ByteRange


def wipe(fd: int, device: str, plan: Plan, cancel: Cancellation) -> None:
    """Zero what the plan says, then erase whatever would still be recognised on the disk or in its partitions.

    Raises:
        DeviceFailed: the disk couldn't be written, or something would still be recognised.
        Cancelled: the caller wished so.
    """
    erase(fd, device, plan.wipes, _looked_at(plan), plan.topology.sector_size, cancel)


def erase(
    fd: int,
    device: str,
    wipes: Iterable[ByteRange],
    looked_at: Iterable[ByteRange],
    sector_size: int,
    cancel: Cancellation,
) -> None:
    """Zero some ranges, then erase whatever would still be recognised in others, each as a device of its own.

    Raises:
        DeviceFailed: the disk couldn't be written, or something would still be recognised.
        Cancelled: the caller wished so.
    """
    disk_io.zero(fd, device, wipes, cancel)
    disk_io.flush(fd, device)
    for span in looked_at:
        cancel.check("wiping")
        blkid.erase_signatures(fd, span, device=device, sector_size=sector_size)
    disk_io.flush(fd, device)


def _looked_at(plan: Plan) -> Iterable[ByteRange]:
    """Return where a file system would be recognised: the new partitions, and the disk if its table is new."""
    spans = tuple(part.span for part in plan.partitions if not part.keep)
    return (ByteRange(0, plan.size), *spans) if plan.action is Action.MAKE else spans
