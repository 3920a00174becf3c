"""Layouts and disks of every kind, for hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from libironic_disk.pure.disks.facts import Topology
from libironic_disk.pure.disks.layout import LABEL_BYTES, SMALLEST, FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.sizes import Exact, Percent, Remaining, Size
from libironic_disk.pure.roles import Architecture, Attribute, Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import KIB, MIB

_ONCE = (Role.ESP, Role.PREP, Role.MULTIBOOT, Role.CONFIG_DRIVE, Role.ROOT)
_OFTEN = (Role.EPHEMERAL, Role.SWAP, Role.DATA)
_LABELS = "ABCXYZ abcxyz 019 _-#@~!$%&'(){}^`"


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """What disks report, and what they had better not."""
    sector = 512 << draw(st.integers(0, 3) | st.integers(0, 7))
    physical = sector << draw(st.integers(0, 3))
    optimal = st.sampled_from([0, physical, 64 * KIB, 768 * KIB, MIB, 3 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, 33553920])
    return Topology(
        sector_size=sector,
        physical_sector_size=physical,
        optimal_io=draw(optimal | st.integers(0, 20 * MIB)),
        alignment_offset=draw(st.sampled_from([0, 0, sector, 7 * 512, MIB, 33]) | st.integers(0, MIB)),
    )


@st.composite
def sizes(draw: st.DrawFn, largest: int, least: int) -> Size:
    """A size of at least ``least`` bytes where it says how many, of the order of ``largest``."""
    match draw(st.sampled_from([Exact, Exact, Percent, Remaining])):
        case kind if kind is Exact:
            return Exact(size=draw(st.integers(least, max(largest // 4, least))))
        case kind if kind is Percent:
            return Percent(share=draw(st.floats(0.1, 40) | st.integers(1, 60)))
        case _:
            minimum = draw(st.integers(least, max(largest // 8, least)))
            maximum = draw(st.none() | st.integers(minimum, max(largest, minimum)))
            return Remaining(minimum=minimum, maximum=maximum)


def _usable(label: str) -> str:
    """Take away what a label must not begin or end with, until nothing of it is left: dashes may hide white space."""
    bare = label.strip().lstrip("-")
    return label if bare == label else _usable(bare)


@st.composite
def partitions(
    draw: st.DrawFn, role: Role, table: TableKind, kinds: Sequence[FileSystem], largest: int
) -> PartitionSpec:
    """A partition of one role, valid by itself."""
    filesystem = {
        Role.ESP: st.just(FileSystem.VFAT),
        Role.SWAP: st.just(FileSystem.SWAP),
        Role.PREP: st.none(),
        Role.BIOS_BOOT: st.none(),
    }.get(role, st.none() | st.sampled_from(kinds))
    chosen = draw(filesystem)
    label = draw(st.text(_LABELS, max_size=LABEL_BYTES[chosen]).map(str.strip)) if chosen else ""
    return PartitionSpec(
        role=role,
        size=draw(sizes(largest, SMALLEST[chosen] if chosen else 1)),
        filesystem=chosen,
        label=_usable(label),
        attributes=draw(st.frozensets(st.sampled_from(Attribute))) if table is TableKind.GPT else frozenset(),
    )


@st.composite
def layouts(
    draw: st.DrawFn,
    *,
    largest: int,
    most: int = 8,
    table: TableKind | None = None,
    kinds: Sequence[FileSystem] = (FileSystem.EXT2, FileSystem.EXT4, FileSystem.VFAT, FileSystem.XFS, FileSystem.BTRFS),
) -> Layout:
    """A layout without contradictions, for a disk of about ``largest`` bytes; whether it fits is another question."""
    kind = table or draw(st.sampled_from(TableKind))
    once = draw(st.sets(st.sampled_from((*_ONCE, Role.BIOS_BOOT) if kind is TableKind.GPT else _ONCE), max_size=most))
    often = draw(st.lists(st.sampled_from(_OFTEN), min_size=0 if once else 1, max_size=most))
    roles = draw(st.permutations([*sorted(once), *often]))[:most]
    specs = [draw(partitions(role, kind, kinds, largest)) for role in roles]
    growing = sum(isinstance(spec.size, Remaining) for spec in specs)
    named = []
    for at, spec in enumerate(specs):
        size = spec.size
        if isinstance(size, Remaining) and (growing > 1 or draw(st.booleans())):
            size = replace(size, weight=draw(st.integers(1, 9)))
        mount_point = draw(st.sampled_from([None, "/home", "/srv", "/var/lib"])) if spec.role is Role.DATA else None
        mount_point = f"{mount_point}/{at}" if mount_point and at else mount_point
        named.append(replace(spec, name=f"{spec.role}{at}", size=size, mount_point=mount_point))
    return Layout(
        table=kind,
        partitions=tuple(named),
        architecture=draw(st.sampled_from(Architecture)),
        seed=draw(st.none() | st.binary(min_size=1, max_size=40)),
    )
