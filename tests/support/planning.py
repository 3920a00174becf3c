"""Facts by hand, and what a disk would be after a plan was applied to it, without any disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from libironic_disk.pure.disks import planner
from libironic_disk.pure.disks.encoding import encode_table
from libironic_disk.pure.disks.facts import DiskFacts, DiskKind, Identity, Signature, Topology
from libironic_disk.pure.disks.layout import Layout
from libironic_disk.pure.disks.planning import Existing, Plan
from libironic_disk.pure.tables.model import FoundTable
from libironic_disk.pure.tables.reading import read_table
from tests.unit.pure.tables.disks import DEVICE, Disk

SEED = b"the seed of a test"


def blank(size: int, topology: Topology | None = None, *, read_only: bool = False) -> DiskFacts:
    """The facts of a disk with nothing on it."""
    return DiskFacts(
        path=DEVICE,
        kind=DiskKind.BLOCK_DEVICE,
        size=size,
        topology=topology or Topology(sector_size=512, physical_sector_size=512),
        read_only=read_only,
        identity=Identity(serial="S1"),
        table=None,
        signatures=(),
        table_digest="",
    )


def plan_for(layout: Layout, facts: DiskFacts, *, existing: Existing = Existing.MATCH, seed: bytes = SEED) -> Plan:
    """Plan with a seed of the test's own."""
    return planner.make_plan(layout, facts, seed=seed, existing=existing)


def written(plan: Plan) -> Disk:
    """A disk with the plan's table and nothing else."""
    return Disk(plan.size, encode_table(plan, b""))


def found_on(disk: Disk, sector_size: int) -> FoundTable | None:
    """What is read from it."""
    return read_table(disk.read, device=DEVICE, disk_size=disk.size, sector_size=sector_size)


def made(plan: Plan) -> tuple[Signature, ...]:
    """Every file system that applying the plan makes, as it would be found."""
    return tuple(
        Signature(
            kind=part.filesystem,
            offset=part.start + 1080,
            partition=part.number,
            label=part.label,
            uuid=part.filesystem_uuid,
        )
        for part in plan.partitions
        if part.filesystem is not None
    )


def applied(plan: Plan, facts: DiskFacts, signatures: Sequence[Signature] | None = None) -> DiskFacts:
    """The facts of the disk after the plan was applied."""
    return replace(
        facts,
        table=found_on(written(plan), facts.topology.sector_size),
        signatures=made(plan) if signatures is None else tuple(signatures),
    )
