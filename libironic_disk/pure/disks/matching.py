"""Whether a disk already is what was planned: differences in words, and identities taken over from what is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from libironic_disk.pure.disks.facts import DiskFacts, Signature
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.disks.planning import Plan, PlannedPartition
from libironic_disk.pure.tables.model import FoundPartition, FoundTable, TableKind
from libironic_disk.units import in_words


def table_differences(
    kind: TableKind, planned: Sequence[PlannedPartition], found: FoundTable | None
) -> tuple[str, ...]:
    """Return how the table on the disk differs from the planned one in kind, numbers, starts, sizes and types."""
    return tuple(_table_differences(kind, planned, found))


def _table_differences(kind: TableKind, planned: Sequence[PlannedPartition], found: FoundTable | None) -> Iterator[str]:
    if found is None:
        yield "the disk has no partition table"
        return
    if found.kind is not kind:
        yield f"the table is {found.kind}, not {kind}"
        return
    yield from found.problems
    there = {part.number: part for part in found.partitions}
    for part in planned:
        if part.number not in there:
            yield f"partition {part.number} ({part.name}) is not there"
        else:
            yield from _partition_differences(part, there.pop(part.number))
    for number, extra in there.items():
        yield f"partition {number} of {in_words(extra.size)} at byte {extra.start} is there and not in the layout"


def _partition_differences(part: PlannedPartition, found: FoundPartition) -> Iterator[str]:
    who = f"partition {part.number} ({part.name})"
    if found.start != part.start:
        yield f"{who} starts at byte {found.start}, not {part.start}"
    if found.size != part.size:
        yield f"{who} has {found.size} bytes, not {part.size}"
    if found.type_id != part.type_id:
        yield f"{who} has the type {found.type_id}, not {part.type_id}"


def adopted(planned: Sequence[PlannedPartition], facts: DiskFacts) -> tuple[PlannedPartition, ...]:
    """Return the partitions with the identities that those on the disk have, of the partition and of what is in it."""
    there = {part.number: part for part in facts.table.partitions} if facts.table else {}
    return tuple(_adopted(part, there[part.number], facts) if part.number in there else part for part in planned)


def _adopted(part: PlannedPartition, found: FoundPartition, facts: DiskFacts) -> PlannedPartition:
    inside = facts.signatures_of(part.number)
    filesystem_uuid = inside[0].uuid if part.filesystem is not None and inside else part.filesystem_uuid
    return replace(part, uuid=found.uuid, filesystem_uuid=filesystem_uuid)


def is_as_planned(plan: Plan, facts: DiskFacts) -> bool:
    """Whether nothing is left to do: the table, its identities and names, and every file system with its label."""
    found = facts.table
    if found is None or table_differences(plan.table, plan.partitions, found) or found.disk_id != plan.disk_id:
        return False
    there = {part.number: part for part in found.partitions}
    return all(
        _named_alike(plan.table, part, there[part.number]) and _holds_its_filesystem(part, facts)
        for part in plan.partitions
    )


def _named_alike(kind: TableKind, part: PlannedPartition, found: FoundPartition) -> bool:
    if found.uuid != part.uuid:
        return False
    if kind is TableKind.MBR:
        return found.bootable == part.bootable
    return (found.name, found.attributes) == (part.name, part.attributes)


def _holds_its_filesystem(part: PlannedPartition, facts: DiskFacts) -> bool:
    if part.filesystem is None or part.keep:
        return True
    return holds_alone(facts.signatures_of(part.number), part.filesystem, part.label, part.filesystem_uuid)


def holds_alone(found: Sequence[Signature], filesystem: FileSystem, label: str, uuid: str) -> bool:
    """Whether what was found in one place is this file system and nothing beside it."""
    return [(each.kind, each.label, each.uuid) for each in found] == [(filesystem, label, uuid)]
