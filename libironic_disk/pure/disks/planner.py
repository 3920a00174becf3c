"""From a layout and the facts of a disk to a plan: a pure function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from libironic_disk.errors import DeviceReadOnly, LayoutDoesNotFit, LayoutInvalid, PreservationRefused, TableLimit
from libironic_disk.pure.disks import ids
from libironic_disk.pure.disks.alignment import Alignment, choose_alignment
from libironic_disk.pure.disks.facts import DiskFacts, Signature
from libironic_disk.pure.disks.layout import FileSystem, Layout, PartitionSpec, room_problems
from libironic_disk.pure.disks.losses import EDGE, old_metadata, table_spans
from libironic_disk.pure.disks.matching import adopted, is_as_planned, table_differences
from libironic_disk.pure.disks.placing import Place, Space, place
from libironic_disk.pure.disks.planning import Action, Existing, Plan, PlannedPartition
from libironic_disk.pure.ranges import ByteRange, edges, without
from libironic_disk.pure.roles import Role, attribute_mask, gpt_type, mbr_type
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.pure.tables.reading import usable
from libironic_disk.units import MIB, align_down, in_words

HEAD: Final = MIB
"""No partition begins before this byte: the table's first copy and all boot code lie before it."""

_BLOCK: Final = 4096


def make_plan(layout: Layout, facts: DiskFacts, *, seed: bytes, existing: Existing) -> Plan:
    """Decide everything about a disk.

    ``seed`` gives the identities where the layout has no seed of its own.

    Raises:
        LayoutInvalid: the layout contradicts itself, or leaves a file system too little room.
        LayoutDoesNotFit: the disk is too small.
        TableLimit: it would fit, but not in this kind of table.
        DeviceReadOnly: the disk can't be written.
        PreservationRefused: a partition to keep isn't there, exactly so.
    """
    layout.check()
    if facts.read_only:
        raise DeviceReadOnly(device=facts.path)
    alignment = choose_alignment(facts.topology)
    places, notes = _places(layout, facts, alignment)
    _check_room(layout.partitions, places)
    partitions, disk_id = _identified(layout, places, layout.seed or seed)
    draft = Plan(
        device=facts.path,
        kind=facts.kind,
        size=facts.size,
        topology=facts.topology,
        fingerprint=facts.fingerprint,
        action=Action.MAKE,
        table=layout.table,
        disk_id=disk_id,
        alignment=alignment,
        partitions=partitions,
        extended=_extended(partitions),
        replaces=facts.table,
        notes=notes,
    )
    return _with_losses(_decided(draft, layout, facts, existing), facts)


def _places(layout: Layout, facts: DiskFacts, alignment: Alignment) -> tuple[tuple[Place, ...], tuple[str, ...]]:
    first, end = usable(layout.table, facts.size, facts.topology.sector_size)
    space = Space(
        device=facts.path,
        first=max(first, HEAD),
        # The nodes of disk and partition have caches of their own: a page must not belong to a table and a partition.
        end=align_down(end, _BLOCK),
        sector_size=facts.topology.sector_size,
        alignment=alignment,
    )
    beyond = align_down(facts.size, facts.topology.sector_size) - end if layout.table is TableKind.MBR else 0
    try:
        places = place(layout.partitions, layout.table, space)
    except LayoutDoesNotFit as error:
        if not 0 < error.wanted - error.available <= beyond:
            raise
        limit = f"an MBR reaches only the first {in_words(end)} of its {in_words(facts.size)}; use gpt"
        raise TableLimit(device=facts.path, limit=limit) from error
    notes = (f"{in_words(beyond)} lie behind what an MBR can reach and stay unused",) if beyond > 0 else ()
    return places, notes


def _check_room(specs: Sequence[PartitionSpec], places: Sequence[Place]) -> None:
    found = (room_problems(spec, where.size) for spec, where in zip(specs, places, strict=True))
    problems = tuple(problem for each in found for problem in each)
    if problems:
        raise LayoutInvalid(problems=problems)


def _identified(layout: Layout, places: Sequence[Place], seed: bytes) -> tuple[tuple[PlannedPartition, ...], str]:
    if layout.table is TableKind.GPT:
        return tuple(
            _planned(layout, spec, where, str(ids.guid(seed, f"partition/{spec.name}")), seed)
            for spec, where in zip(layout.partitions, places, strict=True)
        ), str(ids.guid(seed, "disk"))
    signature = ids.mbr_signature(seed)
    partitions = tuple(
        _planned(layout, spec, where, f"{signature:08x}-{where.number:02x}", seed)
        for spec, where in zip(layout.partitions, places, strict=True)
    )
    return _activated(partitions), f"0x{signature:08x}"


def _planned(layout: Layout, spec: PartitionSpec, where: Place, uuid: str, seed: bytes) -> PlannedPartition:
    gpt = layout.table is TableKind.GPT
    type_id = str(gpt_type(spec.role, layout.architecture, spec.mount_point)) if gpt else f"0x{mbr_type(spec.role):02x}"
    return PlannedPartition(
        number=where.number,
        name=spec.name,
        role=spec.role,
        start=where.start,
        size=where.size,
        type_id=type_id,
        uuid=uuid,
        attributes=attribute_mask(spec.attributes),
        filesystem=spec.filesystem,
        label=spec.label,
        filesystem_uuid=filesystem_uuid(spec.filesystem, seed, spec.name),
        mount_point=spec.mount_point,
        keep=spec.keep,
        record=where.record,
    )


def filesystem_uuid(filesystem: FileSystem | None, seed: bytes, name: str) -> str:
    """Return the identity of what will be made at the place of this name, as blkid writes it; empty for nothing."""
    if filesystem is None:
        return ""
    uuid = ids.guid(seed, f"filesystem/{name}")
    return ids.fat_volume_id(uuid) if filesystem is FileSystem.VFAT else str(uuid)


def _activated(partitions: tuple[PlannedPartition, ...]) -> tuple[PlannedPartition, ...]:
    """Set MBR's active flag, without which some BIOSes don't start a disk; GRUB itself never looks at it.

    A machine that starts from an ESP or a PReP partition wants it there or not at all.
    """
    roles = {part.role: part for part in partitions}
    if Role.ESP in roles:
        return partitions
    wanted = roles.get(Role.PREP) or roles.get(Role.ROOT)
    # The flag of a logical partition is one that no BIOS finds.
    target = wanted if wanted is not None and wanted.record is None else partitions[0]
    return tuple(replace(part, bootable=part is target) for part in partitions)


def _extended(partitions: Sequence[PlannedPartition]) -> ByteRange | None:
    logical = [part for part in partitions if part.record is not None]
    if not logical:
        return None
    return ByteRange(min(part.record or 0 for part in logical), logical[-1].end)


def _decided(draft: Plan, layout: Layout, facts: DiskFacts, existing: Existing) -> Plan:
    """Settle whether a table is made, kept, or nothing is done at all."""
    keeps = any(part.keep for part in draft.partitions)
    differences = table_differences(draft.table, draft.partitions, facts.table)
    if keeps and differences:
        raise PreservationRefused(device=facts.path, differences=differences)
    if facts.table is None or differences:
        return draft
    current = draft
    if keeps or layout.seed is None:
        current = replace(draft, disk_id=facts.table.disk_id, partitions=adopted(draft.partitions, facts))
    if existing is Existing.MATCH and is_as_planned(current, facts):
        return replace(current, action=Action.NOTHING)
    if keeps:
        return replace(current, action=Action.KEEP, partitions=_with_fresh_contents(current, draft))
    return draft


def _with_fresh_contents(current: Plan, draft: Plan) -> tuple[PlannedPartition, ...]:
    """Return the disk's partitions with new file system UUIDs wherever a new file system is made."""
    return tuple(
        part if part.keep else replace(part, filesystem_uuid=new.filesystem_uuid)
        for part, new in zip(current.partitions, draft.partitions, strict=True)
    )


def _with_losses(plan: Plan, facts: DiskFacts) -> Plan:
    if plan.action is Action.NOTHING:
        return plan
    kept = [part for part in plan.partitions if part.keep]
    numbers = {part.number for part in kept}
    destroys = tuple(found for found in facts.signatures if found.partition not in numbers)
    untouched = [part.span for part in kept]
    if plan.action is Action.KEEP:
        untouched += table_spans(facts)
    return replace(plan, destroys=destroys, wipes=without(_losses(plan, facts, destroys), untouched))


def _losses(plan: Plan, facts: DiskFacts, destroys: Sequence[Signature]) -> Iterator[ByteRange]:
    """Name what is zeroed: what the disk had, and both ends of every new partition."""
    yield from old_metadata(facts, destroys)
    for part in plan.partitions:
        yield from edges(part.span, EDGE)
