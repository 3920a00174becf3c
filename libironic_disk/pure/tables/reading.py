"""What table is on a disk, whichever kind it is, and which bytes say so.

The answer is the kernel's wherever it has one (block/partitions/msdos.c and efi.c). Where it sees nothing but
a person would see a table, such as a GPT whose protective MBR was overwritten, the table is reported with
that as its problem.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final
from uuid import UUID

from libironic_disk.errors import TableInvalid
from libironic_disk.pure.ranges import ByteRange, merged
from libironic_disk.pure.tables import gpt, mbr
from libironic_disk.pure.tables.bootrecord import PROTECTIVE, RECORD_SIZE, signature_of, slots_of
from libironic_disk.pure.tables.gptcopy import GptReader
from libironic_disk.pure.tables.model import FoundTable, Reader, TableKind
from libironic_disk.units import align_down, align_up

_MOST_PROBLEMS: Final = 20
_POWERS_OF_TWO: Final = tuple(bytes([1 << power]) for power in range(8))
_NO_GUID: Final = UUID(int=0)


def read_table(read: Reader, *, device: str, disk_size: int, sector_size: int) -> FoundTable | None:
    """Return the table on a disk, or None where there is none.

    Total over bytes: a damaged table is a table without partitions and with problems. File system boot
    sectors, which end like an MBR, are no tables. ``disk_size`` and ``sector_size`` are bytes.
    """
    consulted: list[tuple[int, int]] = []

    def noting(offset: int, length: int) -> bytes:
        consulted.append((offset, length))
        return read(offset, length)

    disk = GptReader(read=noting, sector_size=sector_size, sectors=disk_size // sector_size)
    kind = _kind(noting(0, RECORD_SIZE), disk)
    if kind is None:
        return None
    try:
        table = _gpt_table(disk, device) if kind is TableKind.GPT else _mbr_table(disk, device)
    except TableInvalid as error:
        table = FoundTable(kind=kind, disk_id="", partitions=(), problems=error.problems)
    problems = table.problems
    if len(problems) > _MOST_PROBLEMS:
        problems = (*problems[:_MOST_PROBLEMS], f"and {len(problems) - _MOST_PROBLEMS} more")
    return replace(table, problems=problems, regions=_whole_sectors(consulted, sector_size, disk_size))


def kind_of_table(read: Reader, *, disk_size: int, sector_size: int) -> TableKind | None:
    """Return which kind of table a disk has, whatever may be wrong with it; None where there is none."""
    disk = GptReader(read=read, sector_size=sector_size, sectors=disk_size // sector_size)
    return _kind(read(0, RECORD_SIZE), disk)


def regions(table: FoundTable | None, disk_size: int, sector_size: int) -> tuple[tuple[int, int], ...]:
    """Return the ``(offset, length)`` ranges, in bytes, whose contents decide what :func:`read_table` finds.

    They are the sectors it read and, where it found nothing, those in which it would have noticed a table. As
    long as they and the size of the disk are the same, so is its answer.
    """
    last = (disk_size // sector_size - 1) * sector_size
    read = ((max(last, 0), sector_size),) if table is None else table.regions
    return _whole_sectors(((0, 2 * sector_size), *read), sector_size, disk_size)


def _whole_sectors(ranges: Iterable[tuple[int, int]], sector_size: int, disk_size: int) -> tuple[tuple[int, int], ...]:
    spans = (
        ByteRange(align_down(offset, sector_size), min(align_up(offset + length, sector_size), disk_size))
        for offset, length in ranges
    )
    return tuple((span.start, span.size) for span in merged(spans))


def usable(kind: TableKind, disk_size: int, sector_size: int) -> tuple[int, int]:
    """Return the first byte that partitions of a new table may use and the first one behind them.

    On a GPT the rest belongs to both copies of the table (UEFI 2.10, section 5.3.1), on an MBR to sector 0
    and to what 32 bits can't count. Where a disk has no room at all, the second is not larger than the first.
    """
    if kind is TableKind.GPT:
        table = gpt.GptTable.new(disk_size=disk_size, sector_size=sector_size, disk_guid=_NO_GUID)
        return table.first_usable * sector_size, (table.last_usable + 1) * sector_size
    return sector_size, min(disk_size // sector_size, mbr.SECTOR_LIMIT) * sector_size


def _kind(record: bytes, disk: GptReader) -> TableKind | None:
    slots = slots_of(record) or ()
    # Text and code end in these bytes too: an indicator that no table has makes the sector a boot sector, as
    # in msdos.c.
    plausible = all(slot.plausible for slot in slots)
    if any(slot.type_id == PROTECTIVE and (plausible or slot.first_lba == 1) for slot in slots):
        return TableKind.GPT
    file_system = is_file_system(record)
    # mkfs.fat may write a partition over its own boot sector, for systems that insist on a table (--mbr).
    if plausible and any(slot.sectors and (slot.first_lba or not file_system) for slot in slots):
        return TableKind.MBR
    if disk.has_magic(1) or disk.has_magic(disk.sectors - 1):
        return TableKind.GPT
    return TableKind.MBR if slots and plausible and signature_of(record) and not file_system else None


def is_file_system(record: bytes) -> bool:
    """Whether a boot sector belongs to FAT (the tests of Linux, fs/fat/inode.c), exFAT or NTFS."""
    if record[3:11] in (b"NTFS    ", b"EXFAT   "):
        return True
    sector_size = int.from_bytes(record[11:13], "little")
    cluster, media = record[13:14], record[21:22]
    return (
        sector_size in (512, 1024, 2048, 4096)
        and cluster in _POWERS_OF_TWO
        and record[14:16] != bytes(2)
        and record[16:17] != bytes(1)
        and (media == b"\xf0" or media >= b"\xf8")
    )


def _gpt_table(disk: GptReader, device: str) -> FoundTable:
    size = disk.sector_size
    table, problems = gpt.decode(disk.read, device=device, disk_size=disk.sectors * size, sector_size=size)
    partitions = tuple(entry.found(size) for entry in table.entries)
    return FoundTable(kind=TableKind.GPT, disk_id=str(table.disk_guid), partitions=partitions, problems=problems)


def _mbr_table(disk: GptReader, device: str) -> FoundTable:
    size = disk.sector_size
    table, problems = mbr.decode(disk.read, device=device, disk_size=disk.sectors * size, sector_size=size)
    # Linux ignores a partition that begins behind the disk (block/partitions/core.c).
    partitions = (
        entry.found(size, table.signature, disk.sectors) for entry in table.entries if entry.first_lba < disk.sectors
    )
    if disk.has_magic(1):
        problems = (*problems, "sector 1 holds the remains of a GPT")
    return FoundTable(
        kind=TableKind.MBR,
        disk_id=f"{table.signature:#010x}",
        partitions=tuple(partitions),
        problems=problems,
    )
