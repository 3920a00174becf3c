"""What several disks are to look like together: their partitions, mirrors of them, and volume groups on either.

A partition, or an array, says what it is a member of; an array or a group doesn't say what it consists of.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from libironic_disk.errors import LayoutInvalid
from libironic_disk.pure.disks.layout import FileSystem, Layout, PartitionSpec, layout_problems, spec_problems
from libironic_disk.pure.disks.sizes import Exact, Remaining, Size
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.pure.words import settle
from libironic_disk.units import KIB, MIB


class ArrayMetadata(StrEnum):
    """Where an array's superblock lies (md(4))."""

    AT_THE_END = "1.0"
    """Behind the data: whoever doesn't know arrays, as firmware does not, sees a plain file system in each member."""
    AT_THE_START = "1.2"
    """4 KiB from the start: nobody takes a member for anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySpec:
    """A mirror (RAID-1) of the partitions that are its members, one on each of two or more disks.

    Attributes:
        name: how storage, plan and kernel call it; unique.
        metadata: where its superblocks lie.
        role: what it is for. An ESP needs metadata 1.0, and its members the role ESP.
        filesystem: made on it; None leaves it blank.
        label: of that file system.
        mount_point: where a data volume is to be mounted; recorded, not acted upon here.
        member_of: the volume group that it belongs to, if any; it has no file system then.

    Raises:
        LayoutInvalid: a field has another type.
    """

    name: str
    metadata: ArrayMetadata = ArrayMetadata.AT_THE_START
    role: Role = Role.DATA
    filesystem: FileSystem | None = None
    label: str = ""
    mount_point: str | None = None
    member_of: str = ""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSpec:
    """A logical volume.

    Attributes:
        name: unique in its group.
        size: rounded up to whole extents where it is exact, down where it is a share of the group.
        role: what it is for.
        filesystem: made on it; None leaves it blank, for an image to be written.
        label: of that file system.
        mount_point: where a data volume is to be mounted; recorded, not acted upon here.

    Raises:
        LayoutInvalid: a field has another type.
    """

    name: str
    size: Size
    role: Role = Role.DATA
    filesystem: FileSystem | None = None
    label: str = ""
    mount_point: str | None = None

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpec:
    """A volume group on the partitions and arrays that are its members, and its volumes.

    ``extent_size`` is in bytes.

    Raises:
        LayoutInvalid: a field has another type.
    """

    name: str
    volumes: tuple[VolumeSpec, ...] = ()
    extent_size: int = 4 * MIB

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Disks, and what is built upon their partitions.

    ``seed`` makes every identity follow from it that no disk's own seed gives.

    Raises:
        LayoutInvalid: a field has another type.
    """

    disks: tuple[Layout, ...]
    arrays: tuple[ArraySpec, ...] = ()
    groups: tuple[GroupSpec, ...] = ()
    seed: bytes | None = None

    def __post_init__(self) -> None:
        settle(self)

    def members(self, name: str) -> tuple[tuple[int, PartitionSpec], ...]:
        """Return the partitions that are members of an array or group, each with its disk's place in ``disks``."""
        return tuple(
            (at, spec) for at, layout in enumerate(self.disks) for spec in layout.partitions if spec.member_of == name
        )

    def check(self) -> None:
        """Find every contradiction that needs no disk to be seen.

        Raises:
            LayoutInvalid: with all of them.
        """
        problems = tuple(_problems(self))
        if problems:
            raise LayoutInvalid(problems=problems)


# lvm(8), "VALID NAMES", less what would need quoting somewhere.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}")
_RESERVED: Final = re.compile(
    r"snapshot.*|pvmove.*|.*_(cdata|cmeta|corig|cpool|cvol|imeta|iorig|mimage|mlog|pmspare|rimage|rmeta|tdata|tmeta"
    r"|vdata|vorigin|wcorig)(_.*)?"
)
_SMALLEST_EXTENT: Final = 4 * KIB
_LARGEST_EXTENT: Final = 1 << 32


def _problems(storage: Storage) -> Iterator[str]:
    if not storage.disks:
        yield "it has no disks"
    for at, layout in enumerate(storage.disks):
        for problem in layout_problems(layout):
            yield f"disk {at + 1}: {problem}"
        for spec in layout.partitions:
            yield from (f"disk {at + 1}: {problem}" for problem in _member_problems(spec, storage))
    names = Counter([array.name for array in storage.arrays] + [group.name for group in storage.groups])
    yield from (f"{times} arrays and groups are named {name!r}" for name, times in names.items() if times > 1)
    yield from (f"{name!r} is no usable name" for name in names if not _NAME.fullmatch(name))
    for array in storage.arrays:
        yield from (f"array {array.name!r}: {problem}" for problem in _array_problems(array, storage))
    for group in storage.groups:
        yield from (f"group {group.name!r}: {problem}" for problem in _group_problems(group, storage))


def _member_problems(spec: PartitionSpec, storage: Storage) -> Iterator[str]:
    if not spec.member_of:
        return
    is_array = spec.member_of in {array.name for array in storage.arrays}
    if not is_array and spec.member_of not in {group.name for group in storage.groups}:
        yield f"partition {spec.name!r} is a member of {spec.member_of!r}, which isn't there"
    elif is_array != (spec.role is not Role.LVM):
        wanted = "RAID or ESP" if is_array else "LVM"
        yield f"partition {spec.name!r} has the role {spec.role}: members of {spec.member_of!r} have {wanted}"


def _array_problems(array: ArraySpec, storage: Storage) -> Iterator[str]:
    members = storage.members(array.name)
    if len(members) < 2:
        yield f"a mirror needs two members or more, it has {len(members)}"
    elif len({at for at, _ in members}) < len(members):
        yield "two of its members are on one disk, with which both would be lost"
    roles = {spec.role for _, spec in members}
    if (array.role is Role.ESP) != (roles == {Role.ESP}) or len(roles) > 1:
        yield "an ESP has members with the role ESP, and nothing else has"
    if array.role is Role.ESP and array.metadata is not ArrayMetadata.AT_THE_END:
        yield f"firmware finds a mirrored ESP with metadata {ArrayMetadata.AT_THE_END} only"
    if array.member_of:
        if array.member_of not in {group.name for group in storage.groups}:
            yield f"it is a member of {array.member_of!r}, which is no volume group here"
        if array.filesystem is not None or array.label or array.mount_point or array.role is not Role.DATA:
            yield "a member of a volume group has no role, file system and mount point of its own"
        return
    yield from _content_problems(array, Remaining())


def _group_problems(group: GroupSpec, storage: Storage) -> Iterator[str]:
    arrays = [array.name for array in storage.arrays if array.member_of == group.name]
    if not arrays and not storage.members(group.name):
        yield "it has no members"
    size = group.extent_size
    if size & size - 1 or not _SMALLEST_EXTENT <= size <= _LARGEST_EXTENT:
        yield f"an extent has a power of two of bytes, from 4 KiB to 4 GiB, not {size}"
    for name, times in Counter(volume.name for volume in group.volumes).items():
        if times > 1:
            yield f"{times} volumes are named {name!r}"
        if not _NAME.fullmatch(name) or _RESERVED.fullmatch(name):
            yield f"{name!r} is no usable name for a volume"
    for volume in group.volumes:
        yield from (f"volume {volume.name!r}: {problem}" for problem in _content_problems(volume, volume.size))
    rest = [volume.size for volume in group.volumes if isinstance(volume.size, Remaining)]
    if len(rest) > 1 and any(size.weight is None for size in rest):
        yield f"{len(rest)} volumes claim what remains; each of them needs a weight"


def _content_problems(what: ArraySpec | VolumeSpec, size: Size) -> Iterator[str]:
    """Yield what is wrong with contents, by the rules that a partition's have."""
    allowed = {Role.ROOT, Role.DATA, Role.SWAP, Role.EPHEMERAL, Role.MULTIBOOT, Role.CONFIG_DRIVE}
    if what.role not in allowed | ({Role.ESP} if isinstance(what, ArraySpec) else set()):
        yield f"nothing but a partition can have the role {what.role}"
        return
    as_partition = PartitionSpec(
        role=what.role,
        size=Exact(size=size.size) if isinstance(size, Exact) else size,
        filesystem=what.filesystem,
        label=what.label,
        mount_point=what.mount_point,
    )
    yield from spec_problems(as_partition, TableKind.GPT)
