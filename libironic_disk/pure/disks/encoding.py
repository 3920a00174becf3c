"""The bytes of a planned partition table, and what keeps a plan that somebody else wrote from having any."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from uuid import UUID

from libironic_disk.errors import TableLimit
from libironic_disk.pure.disks.planning import Action, Plan
from libironic_disk.pure.tables import gpt, mbr
from libironic_disk.pure.tables.model import Extent, TableKind

_SECTOR_SIZES: Final = frozenset(512 << power for power in range(8))
_MBR_ID: Final = re.compile("0x[0-9a-f]{8}")
_MBR_TYPE: Final = re.compile("0x[0-9a-f]{2}")


def problems_of(plan: Plan) -> Iterator[str]:
    """Yield why no table can be written by a plan, or why one that was written would be taken for another.

    A plan of this package's own has none. Identities have to be written as the kernel writes them, because what is read
    back from the disk is compared with them.
    """
    size, sector_size = plan.size, plan.topology.sector_size
    if sector_size not in _SECTOR_SIZES or size < sector_size:
        yield f"a disk of {size} bytes with sectors of {sector_size}"
        return
    spans = {f"partition {part.number}": part.span for part in plan.partitions}
    spans |= {f"the wiped range {number}": span for number, span in enumerate(plan.wipes)}
    for name, span in spans.items():
        if not 0 <= span.start < span.end <= size:
            yield f"{name} is from {span.start} to {span.end}, on a disk of {size} bytes"
    if plan.action is not Action.MAKE:
        return
    identities = tuple(_identity_defects(plan))
    yield from identities
    if not identities:
        yield from _table_defects(plan)


def _identity_defects(plan: Plan) -> Iterator[str]:
    if plan.table is TableKind.GPT:
        if not _is_guid(plan.disk_id):
            yield f"the disk's GUID is {plan.disk_id!r}"
        for part in plan.partitions:
            if not (_is_guid(part.type_id) and _is_guid(part.uuid)):
                yield f"partition {part.number} has the type {part.type_id!r} and the GUID {part.uuid!r}"
        return
    if not _MBR_ID.fullmatch(plan.disk_id):
        yield f"the disk's identifier is {plan.disk_id!r}"
    for part in plan.partitions:
        if not _MBR_TYPE.fullmatch(part.type_id) or part.uuid != f"{plan.disk_id[2:]}-{part.number:02x}":
            yield f"partition {part.number} has the type {part.type_id!r} and the identifier {part.uuid!r}"


def _is_guid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _table_defects(plan: Plan) -> Iterator[str]:
    try:
        encode_table(plan, b"")
    except TableLimit as error:
        yield error.limit
    except ValueError as error:
        yield str(error)


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
