"""What is written outside of partitions, and in which order.

1. :func:`withhold` comes first: boot code and ESP, or the whole first MiB, are gone before anything else is touched.
2. :mod:`~libironic_disk.machine.disks.wiping` zeroes the rest of what the plan says.
3. Partitions are filled, while the disk holds no table.
4. :func:`commit` writes our table with everything but the first sector, and then that sector.
5. :func:`blank` undoes the start of a disk that wasn't committed.

Each step ends with a flush, because a disk may write in any order what lies between two of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from libironic_disk.errors import DeviceFailed
from libironic_disk.machine.disks import disk_io
from libironic_disk.machine.disks.ends import blank_head
from libironic_disk.pure.disks.encoding import encode_table
from libironic_disk.pure.disks.losses import EDGE
from libironic_disk.pure.disks.matching import table_differences
from libironic_disk.pure.disks.planner import HEAD
from libironic_disk.pure.disks.planning import Action, Plan
from libironic_disk.pure.ranges import ByteRange, edges
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.bootrecord import NO_SYSTEM, is_marked, with_boot_code
from libironic_disk.pure.tables.geometry import ISO_DESCRIPTOR, ISO_MAGIC
from libironic_disk.pure.tables.model import Extent
from libironic_disk.pure.tables.reading import read_table
from libironic_disk.pure.wholedisks.roots import is_esp


def withhold(fd: int, device: str, plan: Plan) -> None:
    """Take away what a firmware starts from: where the table is kept the boot code and the EFI system partition.

    Else that is the whole first MiB.

    Raises:
        DeviceFailed: it couldn't be written, or reads back otherwise.
    """
    if plan.action is Action.KEEP:
        # Without its first sector a FAT is none. Its files would start a system of which a part is gone already.
        size = plan.topology.sector_size
        esps = [Extent(part.start, bytes(size)) for part in plan.partitions if part.role is Role.ESP and not part.keep]
        disk_io.write_and_check(fd, device, [Extent(0, NO_SYSTEM), *esps])
    else:
        blank_head(fd, device, min(HEAD, plan.size), plan.topology.sector_size)


def disarm(fd: int, device: str, *, size: int, sector_size: int) -> None:
    """Take away what a firmware starts from a disk whose old table stays for now: boot code, and ESPs' first sectors.

    For a disk that isn't wiped yet, since something runs upon it or another one comes first, of which what it starts is
    about to be erased.

    Raises:
        DeviceFailed: it couldn't be read or written, or reads back otherwise.
    """
    read = disk_io.reader(fd, device)
    table = read_table(read, device=device, disk_size=size, sector_size=sector_size)
    starts = {part.start for part in table.partitions if is_esp(table, part)} if table is not None else set()
    # The old table may say anything: where there is no sector there is no file system, and the first is no partition's.
    esps = sorted(start for start in starts if sector_size <= start <= size - sector_size)
    # Without the mark there is no boot code, and the sector may be somebody else's, as of an md superblock.
    code = [Extent(0, NO_SYSTEM)] if is_marked(read(0, sector_size)) else []
    # UEFI starts an ISO image that has no table, too.
    iso = [ISO_DESCRIPTOR] if read(ISO_DESCRIPTOR + 1, len(ISO_MAGIC)) == ISO_MAGIC else []
    disk_io.write_and_check(fd, device, [*code, *(Extent(start, bytes(sector_size)) for start in (*esps, *iso))])


def commit(fd: int, device: str, plan: Plan, head: Sequence[Extent]) -> None:
    """Write the table and ``head``, the first sector last of all, and read it back.

    Raises:
        DeviceFailed: something couldn't be written, or reads back otherwise.
    """
    boot_code = b"".join(extent.data for extent in head if extent.offset == 0)
    if not boot_code and plan.partition(Role.ESP) is None:
        # A BIOS may try a disk that has no boot loader, as the second one of a system, before the one that has.
        boot_code = NO_SYSTEM
    gap = [extent for extent in head if extent.offset > 0]
    sector_size = plan.topology.sector_size
    # Reading ahead may have brought a page that a partition's end shares with the table, from before it was filled.
    disk_io.forget(fd)
    read = disk_io.reader(fd, device)
    others: list[Extent] = []
    if plan.action is Action.KEEP:
        first = Extent(0, with_boot_code(read(0, sector_size), boot_code))
    else:
        *others, first = encode_table(plan, boot_code)
    # The first sector decides whether there is a table at all, and a disk writes one sector whole or not at all.
    disk_io.write(fd, device, [*others, *gap])
    disk_io.flush(fd, device)
    disk_io.write(fd, device, [first])
    disk_io.flush(fd, device)
    found = read_table(read, device=device, disk_size=plan.size, sector_size=sector_size)
    differences = table_differences(plan.table, plan.partitions, found)
    if differences or found is None or found.disk_id != plan.disk_id or read(0, len(first.data)) != first.data:
        reason = "; ".join(differences) or "other bytes than were written"
        raise DeviceFailed(device=device, action="reading the new table back from", reason=reason)


def blank(fd: int, device: str, plan: Plan) -> None:
    """Leave nothing that boots: no table in either place, or, beside a kept partition, no boot code and no contents.

    Raises:
        DeviceFailed: it couldn't be written, or reads back otherwise.
    """
    withhold(fd, device, plan)
    if plan.action is Action.KEEP:
        spans = [edge for part in plan.partitions if not part.keep for edge in edges(part.span, EDGE)]
    else:
        spans = [ByteRange(extent.offset, extent.offset + len(extent.data)) for extent in encode_table(plan, b"")]
    disk_io.blank(fd, device, spans)
