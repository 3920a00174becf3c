"""The bytes of a planned partition table."""

from __future__ import annotations

from uuid import UUID

from libironic_disk.pure.disks.planning import Plan
from libironic_disk.pure.tables import gpt, mbr
from libironic_disk.pure.tables.model import Extent, TableKind


def encode_table(plan: Plan, boot_code: bytes) -> tuple[Extent, ...]:
    """Return what has to be written for the plan's table, in this order: the first sector is the last extent.

    Raises:
        TableLimit: the table can't express the plan.
    """
    extents = _gpt(plan, boot_code) if plan.table is TableKind.GPT else _mbr(plan, boot_code)
    return tuple(sorted(extents, key=lambda extent: extent.offset, reverse=True))


def _gpt(plan: Plan, boot_code: bytes) -> tuple[Extent, ...]:
    sector_size = plan.topology.sector_size
    entries = (
        gpt.GptEntry.at(
            number=part.number,
            start=part.start,
            size=part.size,
            sector_size=sector_size,
            type_guid=UUID(part.type_id),
            guid=UUID(part.uuid),
            name=part.name,
            attributes=part.attributes,
        )
        for part in plan.partitions
    )
    table = gpt.GptTable.new(
        disk_size=plan.size, sector_size=sector_size, disk_guid=UUID(plan.disk_id), entries=entries
    )
    return gpt.encode(table, device=plan.device, boot_code=boot_code)


def _mbr(plan: Plan, boot_code: bytes) -> tuple[Extent, ...]:
    sector_size = plan.topology.sector_size
    entries = (
        mbr.MbrEntry.at(
            number=part.number,
            start=part.start,
            size=part.size,
            sector_size=sector_size,
            type_id=int(part.type_id, 16),
            bootable=part.bootable,
            record=part.record,
        )
        for part in plan.partitions
    )
    table = mbr.MbrTable.new(
        disk_size=plan.size, sector_size=sector_size, signature=int(plan.disk_id, 16), entries=entries
    )
    return mbr.encode(table, device=plan.device, boot_code=boot_code)
