"""Where a BIOS finds GRUB's core image on a disk."""

from __future__ import annotations

from typing import Final, assert_never

from libironic_disk.errors import BootImpossible
from libironic_disk.pure.boot.grubembed import SECTOR
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import MIB

HEAD: Final = MIB
"""The first bytes of a disk, which are written last of all."""


def core_room(
    device: str, table: TableKind, sector_size: int, first_partition_start: int, bios_boot: ByteRange | None
) -> ByteRange:
    """Return where the core image may lie: all within the first MiB, or all behind it.

    Args:
        device: the disk, for messages.
        table: its kind of table.
        sector_size: of the disk, in bytes.
        first_partition_start: where its first partition begins, in bytes.
        bios_boot: the BIOS boot partition.

    Raises:
        BootImpossible: a BIOS can't boot from such a disk.
    """
    if sector_size != SECTOR:
        raise BootImpossible(
            device=device, reason=f"its sectors have {sector_size} bytes and a BIOS boots from {SECTOR}; use UEFI"
        )
    match table:
        case TableKind.MBR:
            return ByteRange(SECTOR, min(first_partition_start, HEAD))
        case TableKind.GPT:
            if bios_boot is None:
                raise BootImpossible(
                    device=device, reason="a BIOS and GPT need a BIOS boot partition, the layout has none"
                )
            return ByteRange(bios_boot.start, min(bios_boot.end, HEAD) if bios_boot.start < HEAD else bios_boot.end)
        case _:
            assert_never(table)
