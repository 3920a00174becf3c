"""Arrays and volume groups, as mdadm and LVM tell them."""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from libironic_disk.errors import NotABlockDevice, ToolMissing
from libironic_disk.machine import process
from libironic_disk.machine.disks import observing, sysfs
from libironic_disk.machine.disks.sysfs import BlockNode
from libironic_disk.machine.volumes import stacking
from libironic_disk.pure.disks.facts import DiskFacts
from libironic_disk.pure.volumes.facts import FoundArray, FoundGroup, FoundVolume, Holder, HolderKind, Member

_TIMEOUT: Final = 120.0
_MISSING: Final = "a missing device"
_MEMBER: Final = "linux_raid_member"
_PHYSICAL: Final = "LVM2_member"
# All devices, whatever the machine's list of those that LVM works with says, and the groups that other machines own or
# share: what this machine doesn't work with may be robbed as well.
_JSON: Final = (
    *("--reportformat", "json", "--units", "b", "--nosuffix", "--foreign", "--shared"),
    *("--config", "devices/use_devicesfile=0"),
)
_COLUMNS: Final = "pv_major,pv_minor,vg_name,vg_uuid,vg_extent_size"
_VOLUME_COLUMNS: Final = "vg_uuid,lv_name,lv_size,lv_kernel_major,lv_kernel_minor"


def members_of(disks: Sequence[tuple[DiskFacts, BlockNode]]) -> dict[int, Member]:
    """Return the partitions that the kernel knows of some disks, and the disks as number 0, by their device numbers."""
    wholes = {block.devno: Member(facts.path, 0) for facts, block in disks}
    return wholes | {
        part.block.devno: Member(facts.path, part.number) for facts, block in disks for part in sysfs.partitions(block)
    }


def arrays(
    disks: Sequence[tuple[DiskFacts, BlockNode]], holders: Sequence[Holder], members: Mapping[int, Member]
) -> tuple[FoundArray, ...]:
    """Return the arrays of which a member is on these disks.

    Raises:
        ToolMissing: there are some and mdadm isn't installed.
        ProgramError: mdadm failed.
    """
    marked = {
        Member(facts.path, found.partition) for facts, _ in disks for found in facts.signatures if found.kind == _MEMBER
    }
    by_uuid: dict[str, tuple[dict[str, str], dict[Member, str]]] = {}
    for devno, member in members.items():
        if member in marked:
            node = sysfs.block_node(devno).node
            words = _examined(node)
            by_uuid.setdefault(words.get("MD_UUID", ""), (words, {}))[1][member] = node
    return tuple(_array(words, found, holders, members) for words, found in by_uuid.values())


def _examined(node: str) -> dict[str, str]:
    # Superblocks that are torn or of another kind give no words, and an error that says nothing of the disk.
    said = process.run("mdadm", "--examine", "--export", node, timeout=_TIMEOUT, ok=(0, 1)).stdout
    return dict(line.split("=", 1) for line in said.decode(errors="replace").splitlines() if "=" in line)


def _spares(nodes: Iterable[str]) -> int:
    # In the words for programs there is nothing of them.
    said = process.run("mdadm", "--examine", "--brief", *nodes, timeout=_TIMEOUT, ok=(0, 1)).stdout
    return sum(int(word.removeprefix(b"spares=")) for word in said.split() if word.startswith(b"spares="))


def _array(
    words: Mapping[str, str], found: Mapping[Member, str], holders: Sequence[Holder], members: Mapping[int, Member]
) -> FoundArray:
    running = next(
        (
            holder
            for holder in holders
            if holder.kind is HolderKind.ARRAY
            and found.keys() & {members.get(sysfs.block_device_number(node)) for node in holder.upon}
        ),
        None,
    )
    block = sysfs.block_node(sysfs.block_device_number(running.node)) if running else None
    return FoundArray(
        name=words.get("MD_NAME", "").rpartition(":")[2],
        uuid=words.get("MD_UUID", ""),
        level=words.get("MD_LEVEL", ""),
        metadata=sysfs.word(block, "md/metadata_version") if block else "",
        devices=int(words.get("MD_DEVICES", "0")),
        members=tuple(sorted(found)),
        spares=_spares(found.values()),
        node=block.node if block else "",
        size=sysfs.size(block) if block else 0,
        lost=(stacking.lost(block) or "") if block else "",
        signatures=running.signatures if running else (),
    )


def groups(
    disks: Sequence[tuple[DiskFacts, BlockNode]], members: Mapping[int, Member], found_arrays: Sequence[FoundArray]
) -> tuple[FoundGroup, ...]:
    """Return every volume group that the machine has, with the volumes of those that are on these disks.

    Raises:
        ToolMissing: a member of one is on these disks, and LVM isn't installed.
        ProgramError: LVM failed.
    """
    of_arrays = {sysfs.block_device_number(array.node): array.name for array in found_arrays if array.node}
    try:
        bare = {group.uuid: group for group in _groups([block for _, block in disks], members, of_arrays)}
    except ToolMissing:
        found = [each for facts, _ in disks for each in facts.signatures]
        if any(each.kind == _PHYSICAL for each in (*found, *(s for array in found_arrays for s in array.signatures))):
            raise
        return ()
    # What is on other disks is nobody's business here: reading a volume there may fail, or hang.
    here = {uuid for uuid, group in bare.items() if group.is_here}
    volumes = list(_volumes(here)) if here else []
    return tuple(
        replace(group, volumes=tuple(volume for whose, volume in volumes if whose == uuid))
        for uuid, group in bare.items()
    )


def group_names(disks: Sequence[BlockNode]) -> tuple[FoundGroup, ...]:
    """Return every volume group that the machine has, without its volumes; ``foreign`` are disks beside these.

    Raises:
        ToolMissing, ProgramError: LVM isn't installed, or failed.
    """
    return tuple(_groups(disks, {}, {}))


def _groups(
    disks: Sequence[BlockNode], members: Mapping[int, Member], of_arrays: Mapping[int, str]
) -> Iterator[FoundGroup]:
    ours = {block.devno for block in disks}
    named: dict[str, list[Mapping[str, str]]] = {}
    for row in _report("pvs", "pv", _COLUMNS):
        if row["vg_name"]:
            named.setdefault(row["vg_uuid"], []).append(row)
    for rows in named.values():
        yield _group(rows, ours, members, of_arrays)


def _group(
    rows: Sequence[Mapping[str, str]], ours: set[int], members: Mapping[int, Member], of_arrays: Mapping[int, str]
) -> FoundGroup:
    # A missing one has -1 or 0 for its number.
    beneath = [os.makedev(int(row["pv_major"]), int(row["pv_minor"])) for row in rows if int(row["pv_major"]) > 0]
    strangers = [_strangers(devno, ours) for devno in beneath]
    missing = [_MISSING] * (len(beneath) < len(rows))
    return FoundGroup(
        name=rows[0]["vg_name"],
        uuid=rows[0]["vg_uuid"],
        extent_size=int(rows[0]["vg_extent_size"]),
        members=tuple(sorted(members[devno] for devno in beneath if devno in members)),
        arrays=tuple(of_arrays[devno] for devno in beneath if devno in of_arrays),
        is_here=() in strangers,
        foreign=tuple(dict.fromkeys([*(node for nodes in strangers for node in nodes), *missing])),
    )


def _strangers(devno: int, ours: set[int]) -> tuple[str, ...]:
    try:
        return stacking.foreign(sysfs.block_node(devno), ours)
    except NotABlockDevice:
        # Somebody has just taken it away, such as who deploys onto another disk.
        return (_MISSING,)


def _volumes(groups: Container[str]) -> Iterator[tuple[str, FoundVolume]]:
    for row in _report("lvs", "lv", _VOLUME_COLUMNS):
        if row["vg_uuid"] not in groups:
            continue
        node = ""
        if int(row["lv_kernel_major"]) >= 0:
            with suppress(NotABlockDevice):
                node = sysfs.block_node(os.makedev(int(row["lv_kernel_major"]), int(row["lv_kernel_minor"]))).node
        found = observing.signatures_on(node) if node else ()
        yield row["vg_uuid"], FoundVolume(name=row["lv_name"], size=int(row["lv_size"]), node=node, signatures=found)


def _report(program: str, kind: str, columns: str) -> list[dict[str, str]]:
    said = process.run(program, *_JSON, "--options", columns, timeout=_TIMEOUT).stdout
    rows: list[dict[str, str]] = json.loads(said)["report"][0][kind]
    return rows
