"""From a description of several disks and their facts to a plan: a pure function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from libironic_disk.errors import DeviceBusy, LayoutInvalid, NameTaken, VolumesDoNotFit
from libironic_disk.pure.disks import ids, planner
from libironic_disk.pure.disks.layout import SMALLEST
from libironic_disk.pure.disks.matching import holds_alone
from libironic_disk.pure.disks.placing import grown
from libironic_disk.pure.disks.planning import Existing, Plan, PlannedPartition
from libironic_disk.pure.disks.sizes import Exact, Percent, Remaining
from libironic_disk.pure.volumes.facts import FoundArray, FoundGroup, FoundVolume, HolderKind, Member, StorageFacts
from libironic_disk.pure.volumes.planning import Contents, PlannedArray, PlannedGroup, PlannedVolume, StoragePlan
from libironic_disk.pure.volumes.storage import ArraySpec, GroupSpec, Storage, VolumeSpec
from libironic_disk.units import MIB, align_down, align_up, in_words

OVERHEAD: Final = MIB
"""Bytes of a member that aren't its data: an array's superblock and bitmap, or a group's metadata."""

_MIRROR: Final = "raid1"
_STOPPABLE: Final = frozenset({HolderKind.VOLUME, HolderKind.ARRAY})


def make_plan(
    storage: Storage, facts: StorageFacts, *, seed: bytes, existing: Existing, take_apart: bool
) -> StoragePlan:
    """Decide everything about several disks.

    Raises:
        LayoutInvalid: the description contradicts itself, or the disks.
        LayoutDoesNotFit, VolumesDoNotFit: a disk or a group is too small.
        NameTaken: another group on the machine has the name of one of these.
        DeviceBusy: something runs upon the disks and isn't to be taken apart, or can't be.
        DeviceError, RequestError: what planning one disk raises.
    """
    storage.check()
    _check_disks(storage, facts)
    seed = storage.seed or seed
    disks = _disks(storage, facts, seed, Existing.REPLACE)
    arrays = tuple(_array(spec, storage, disks, seed) for spec in storage.arrays)
    groups = tuple(_group(spec, storage, disks, arrays, seed) for spec in storage.groups)
    _check_sectors(disks, arrays, groups)
    check_names(groups, facts.groups)
    if existing is Existing.MATCH:
        kept = _disks(storage, facts, seed, Existing.MATCH)
        found_arrays = tuple(_adopted_array(array, facts, storage) for array in arrays)
        found_groups = tuple(_adopted_group(group, facts, storage) for group in groups)
        if all(disk.is_empty for disk in kept) and None not in (*found_arrays, *found_groups):
            return StoragePlan(
                disks=kept,
                arrays=tuple(array for array in found_arrays if array),
                groups=tuple(group for group in found_groups if group),
            )
    _check_holders(facts, take_apart=take_apart)
    _check_nothing_kept(disks, facts)
    return StoragePlan(disks=disks, arrays=arrays, groups=groups, stops=facts.holders)


def _check_disks(storage: Storage, facts: StorageFacts) -> None:
    if len(storage.disks) != len(facts.disks):
        problem = f"{len(storage.disks)} disks are described and {len(facts.disks)} were observed"
        raise LayoutInvalid(problems=(problem,))
    if len({disk.path for disk in facts.disks}) < len(facts.disks):
        raise LayoutInvalid(problems=("one disk is named twice",))


def _disks(storage: Storage, facts: StorageFacts, seed: bytes, existing: Existing) -> tuple[Plan, ...]:
    return tuple(
        planner.make_plan(
            layout if layout.seed or not storage.seed else replace(layout, seed=ids.derive(seed, f"disk/{at}")),
            disk,
            seed=ids.derive(seed, f"disk/{at}"),
            existing=existing,
        )
        for at, (layout, disk) in enumerate(zip(storage.disks, facts.disks, strict=True))
    )


def _members(name: str, storage: Storage, disks: Sequence[Plan]) -> tuple[tuple[Plan, PlannedPartition], ...]:
    return tuple(
        (disks[at], next(part for part in disks[at].partitions if part.name == spec.name))
        for at, spec in storage.members(name)
    )


def _array(spec: ArraySpec, storage: Storage, disks: Sequence[Plan], seed: bytes) -> PlannedArray:
    members = _members(spec.name, storage, disks)
    size = align_down(min(part.size for _, part in members) - OVERHEAD, OVERHEAD)
    least = SMALLEST[spec.filesystem] if spec.filesystem else OVERHEAD
    if size < least:
        raise VolumesDoNotFit(name=spec.name, wanted=least, available=max(size, 0))
    digits = ids.guid(seed, f"array/{spec.name}").hex
    return PlannedArray(
        name=spec.name,
        uuid=":".join(digits[at : at + 8] for at in range(0, 32, 8)),
        metadata=spec.metadata,
        members=tuple(Member(disk.device, part.number) for disk, part in members),
        size=size,
        contents=_contents(spec, f"array/{spec.name}", seed),
        member_of=spec.member_of,
    )


def _contents(spec: ArraySpec | VolumeSpec, name: str, seed: bytes) -> Contents:
    return Contents(
        role=spec.role,
        filesystem=spec.filesystem,
        label=spec.label,
        filesystem_uuid=planner.filesystem_uuid(spec.filesystem, seed, name),
        mount_point=spec.mount_point,
    )


def _group(
    spec: GroupSpec, storage: Storage, disks: Sequence[Plan], arrays: Sequence[PlannedArray], seed: bytes
) -> PlannedGroup:
    members = _members(spec.name, storage, disks)
    beneath = [array for array in arrays if array.member_of == spec.name]
    sizes = [*(part.size for _, part in members), *(array.size for array in beneath)]
    size = sum(align_down(max(each - OVERHEAD, 0), spec.extent_size) for each in sizes)
    return PlannedGroup(
        name=spec.name,
        extent_size=spec.extent_size,
        members=tuple(Member(disk.device, part.number) for disk, part in members),
        arrays=tuple(array.name for array in beneath),
        size=size,
        volumes=tuple(
            PlannedVolume(name=volume.name, size=each, contents=_contents(volume, f"{spec.name}/{volume.name}", seed))
            for volume, each in zip(spec.volumes, _volume_sizes(spec, size), strict=True)
        ),
    )


def _volume_sizes(group: GroupSpec, size: int) -> list[int]:
    """Return the bytes of each volume: whole extents.

    Raises:
        VolumesDoNotFit: the group has less than they need.
    """
    smallest = [max(_smallest(volume, group.extent_size, size), group.extent_size) for volume in group.volumes]
    if sum(smallest) > size:
        detail = ", ".join(
            f"{volume.name} {in_words(least)}" for volume, least in zip(group.volumes, smallest, strict=True)
        )
        raise VolumesDoNotFit(name=group.name, wanted=sum(smallest), available=size, detail=detail)
    sizes = grown([volume.size for volume in group.volumes], smallest, size - sum(smallest), group.extent_size)
    for volume, each in zip(group.volumes, sizes, strict=True):
        least = SMALLEST[volume.filesystem] if volume.filesystem else 0
        if each < least:
            raise VolumesDoNotFit(name=f"{group.name}/{volume.name}", wanted=least, available=each)
    return sizes


def _smallest(volume: VolumeSpec, extent: int, shared: int) -> int:
    match volume.size:
        case Exact(size=size):
            return align_up(size, extent)
        case Percent():
            return align_down(volume.size.of(shared), extent)
        case Remaining(minimum=minimum):
            return align_up(minimum, extent)


def _check_sectors(disks: Sequence[Plan], arrays: Sequence[PlannedArray], groups: Sequence[PlannedGroup]) -> None:
    sectors = {disk.device: disk.topology.sector_size for disk in disks}
    of_arrays = {array.name: array.members for array in arrays}
    problems = []
    of_groups = {
        group.name: (*group.members, *(member for name in group.arrays for member in of_arrays[name]))
        for group in groups
    }
    for what, members in (of_arrays | of_groups).items():
        found = {member.device: sectors[member.device] for member in members}
        if len(set(found.values())) > 1:
            listed = ", ".join(f"{device} {size}" for device, size in found.items())
            problems.append(f"the members of {what!r} have sectors of different size: {listed}")
    if problems:
        raise LayoutInvalid(problems=tuple(problems))


def check_names(groups: Sequence[PlannedGroup], seen: Sequence[FoundGroup]) -> None:
    """Refuse names that groups have on other disks of the machine.

    Raises:
        NameTaken: one of them has.
    """
    wanted = {group.name for group in groups}
    for found in seen:
        if found.name in wanted and found.foreign:
            raise NameTaken(name=found.name, users=found.foreign)


def _check_holders(facts: StorageFacts, *, take_apart: bool) -> None:
    """Refuse what may not be stopped; all of it is named.

    Raises:
        DeviceBusy: always if there is anything and it isn't to be taken apart.
    """
    users = tuple(obstacles(facts) if take_apart else facts.busy()) + tuple(_shared_groups(facts))
    if users:
        raise DeviceBusy(device=facts.name, users=users)


def _check_nothing_kept(disks: Sequence[Plan], facts: StorageFacts) -> None:
    """Refuse to take anything apart where a partition is kept: what is to be erased may lie in it.

    Raises:
        DeviceBusy: names all that runs.
    """
    if facts.holders and any(part.keep for disk in disks for part in disk.partitions):
        users = tuple(f"{user}, and a partition is to be kept" for user in facts.busy())
        raise DeviceBusy(device=facts.name, users=users)


def obstacles(facts: StorageFacts) -> Iterator[str]:
    """Yield, in words, what runs upon some disks and is never stopped, and why."""
    for holder in facts.holders:
        if holder.kind not in _STOPPABLE:
            yield f"{holder.place} and is never taken apart"
        if holder.foreign:
            yield f"{holder} is also on {', '.join(holder.foreign)}, which isn't among these disks"
        yield from holder.users


def _shared_groups(facts: StorageFacts) -> Iterator[str]:
    """Yield the groups that would lose a part of themselves, whether they run or not."""
    for group in facts.groups:
        if group.foreign and group.is_here:
            yield f"volume group {group.name} is also on {', '.join(group.foreign)}, which isn't among these disks"
    for array in facts.arrays:
        lost = array.devices - (len(array.members) - array.spares)
        if not array.node and array.level != _MIRROR and lost > 0:
            yield f"array {array.name} of level {array.level} has {lost} members that aren't on these disks"


def _adopted_array(array: PlannedArray, facts: StorageFacts, storage: Storage) -> PlannedArray | None:
    """Return an array with the identities that it has on the disks; None if it isn't there, exactly so."""
    found = next((each for each in facts.arrays if set(each.members) == set(array.members)), None)
    if found is None or not _is_array(array, found):
        return None
    if storage.seed is None:
        array = replace(array, uuid=found.uuid, contents=_adopted(array.contents, found))
    holds = array.member_of or _holds(array.contents, found)
    return array if found.uuid == array.uuid and holds else None


def _is_array(array: PlannedArray, found: FoundArray) -> bool:
    return (found.name, found.level, found.metadata, found.devices, found.size, found.lost) == (
        array.name,
        _MIRROR,
        array.metadata,
        len(array.members),
        array.size,
        "",
    )


def _adopted_group(group: PlannedGroup, facts: StorageFacts, storage: Storage) -> PlannedGroup | None:
    found = next((each for each in facts.groups if each.name == group.name), None)
    if found is None or not _is_group(group, found):
        return None
    there = {volume.name: volume for volume in found.volumes}
    if storage.seed is None:
        volumes = tuple(
            replace(volume, contents=_adopted(volume.contents, there[volume.name])) for volume in group.volumes
        )
        group = replace(group, volumes=volumes)
    return group if all(_holds(volume.contents, there[volume.name]) for volume in group.volumes) else None


def _is_group(group: PlannedGroup, found: FoundGroup) -> bool:
    return (
        found.extent_size == group.extent_size
        and set(found.members) == set(group.members)
        and set(found.arrays) == set(group.arrays)
        and not found.foreign
        and all(each.node for each in found.volumes)
        and {(each.name, each.size) for each in found.volumes} == {(each.name, each.size) for each in group.volumes}
    )


def _adopted(contents: Contents, found: FoundArray | FoundVolume) -> Contents:
    if contents.filesystem is None or not found.signatures:
        return contents
    return replace(contents, filesystem_uuid=found.signatures[0].uuid)


def _holds(contents: Contents, found: FoundArray | FoundVolume) -> bool:
    return contents.filesystem is None or holds_alone(
        found.signatures, contents.filesystem, contents.label, contents.filesystem_uuid
    )
