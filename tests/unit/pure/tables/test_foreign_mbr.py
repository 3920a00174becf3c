"""Chains of boot records as no tool of today makes them: a record that describes nothing is kept from harm too."""

from __future__ import annotations

import pytest

from libironic_disk.errors import ImageRefused, TableInvalid
from libironic_disk.pure.disks import ids
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.roles import Role, mbr_type
from libironic_disk.pure.tables import mbr
from libironic_disk.pure.tables.bootrecord import Slot, boot_record
from libironic_disk.pure.tables.foreign_mbr import ForeignMbr
from libironic_disk.pure.tables.model import NewPartition
from libironic_disk.units import MIB

SECTORS_OF_A_MIB = MIB // 512

NEW = NewPartition(
    span=ByteRange(45 * MIB, 46 * MIB),
    name="",
    type_guid=ids.guid(b"", ""),
    guid=ids.guid(b"", ""),
    mbr_type=mbr_type(Role.CONFIG_DRIVE),
)


def slot(type_id: int, start: float, size: float) -> Slot:
    """Return an entry whose place is in MiB."""
    chs = mbr.NO_CHS
    return Slot(0, chs, type_id, chs, int(start * SECTORS_OF_A_MIB), int(size * SECTORS_OF_A_MIB))


def read(records: dict[int, list[Slot]]) -> ForeignMbr:
    """Read a disk of 48 MiB by its boot records, by MiB."""
    disk = bytearray(48 * MIB)
    for at, slots in records.items():
        disk[at * MIB : at * MIB + 512] = boot_record(slots, 512, 0xABCD)

    def reader(offset: int, length: int) -> bytes:
        return bytes(disk[offset : offset + length])

    return ForeignMbr.read(reader, device="disk", disk_size=len(disk), sector_size=512)


def primaries() -> list[Slot]:
    return [*(slot(0x83, at, 1) for at in (1, 2, 3)), slot(0x0F, 4, 36)]


def test_a_partition_grows_up_to_a_record_without_a_partition() -> None:
    table = read({0: primaries(), 4: [slot(0x83, 1, 20), slot(0x05, 30, 2)], 34: []})
    assert table.room_behind(5) == 34 * MIB


def test_a_partition_is_not_added_over_a_record_without_a_partition() -> None:
    table = read({0: primaries(), 4: [slot(0x83, 1, 20), slot(0x05, 30, 2)], 34: []})
    assert all(not room.start <= 34 * MIB < room.end for room in table.rooms)
    added, number = table.with_partition(NEW)
    assert (number, [part.start // MIB for part in added.partitions]) == (6, [1, 2, 3, 5, 45])
    assert 34 * MIB in {extent.offset for extent in added.extents()}


def test_a_record_inside_a_partition_is_refused() -> None:
    with pytest.raises(TableInvalid, match="the boot record at sector 16384 overlaps partition 5"):
        read({0: primaries(), 4: [slot(0x83, 1, 20), slot(0x05, 4, 2)], 8: []})


def test_rests_of_other_partitions_do_not_come_to_life() -> None:
    """The kernel passes over the third entry of a record where it lies outside the extended partition."""
    table = read({0: primaries(), 4: [slot(0x83, 1, 20), Slot(0, b"\0" * 3, 0, b"\0" * 3, 0, 0), slot(0x83, 38, 1)]})
    assert [part.number for part in table.partitions] == [1, 2, 3, 5]
    with pytest.raises(ImageRefused, match="would come to life"):
        table.with_partition(NEW)
