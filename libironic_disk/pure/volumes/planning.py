"""The plan for several disks as a value. Nothing in it writes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.disks.planning import Plan
from libironic_disk.pure.roles import Role
from libironic_disk.pure.volumes.facts import Holder, Member
from libironic_disk.pure.volumes.storage import ArrayMetadata

# A volume's name doesn't begin with a hyphen; a group's may end with one.
_MAPPED: Final = re.compile(r"((?:[^-]|--)+)-([^-].*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What will be on an array or a volume; ``filesystem`` is None where it is left blank."""

    role: Role
    filesystem: FileSystem | None = None
    label: str = ""
    filesystem_uuid: str = ""
    mount_point: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedArray:
    """A mirror as it will be; ``size`` is what it gives, ``uuid`` as mdadm writes it."""

    name: str
    uuid: str
    metadata: ArrayMetadata
    members: tuple[Member, ...]
    size: int
    contents: Contents
    member_of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedVolume:
    """A logical volume as it will be; ``size`` is whole extents."""

    name: str
    size: int
    contents: Contents


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedGroup:
    """A volume group as it will be; ``size`` is what its volumes can have together."""

    name: str
    extent_size: int
    members: tuple[Member, ...]
    arrays: tuple[str, ...]
    size: int
    volumes: tuple[PlannedVolume, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoragePlan:
    """What will be done to several disks.

    Attributes:
        disks: what becomes of each.
        arrays: the mirrors, all of them.
        groups: the volume groups, all of them.
        stops: what runs upon the disks and is taken apart first, in this order; what is on each is erased before.
    """

    disks: tuple[Plan, ...]
    arrays: tuple[PlannedArray, ...] = ()
    groups: tuple[PlannedGroup, ...] = ()
    stops: tuple[Holder, ...] = ()

    @property
    def name(self) -> str:
        """What the disks are called in errors."""
        return ", ".join(disk.device for disk in self.disks)

    @property
    def is_empty(self) -> bool:
        """Whether everything already is as it should be."""
        return all(disk.is_empty for disk in self.disks)

    def grub_name(self, name: str) -> str:
        """Return GRUB's name of an ``array`` or a ``group/volume``, for :func:`libironic_disk.grub.plan_boot`.

        Raises:
            KeyError: the plan has none of that name.
        """
        names = {array.name: f"mduuid/{array.uuid.replace(':', '')}" for array in self.arrays}
        for group in self.groups:
            for volume in group.volumes:
                names[f"{group.name}/{volume.name}"] = f"lvm/{mapped_name(group.name, volume.name)}"
        return names[name]


def mapped_name(group: str, volume: str) -> str:
    """Return the name that device mapper and GRUB give to a volume of a group (lvm(8))."""
    return "-".join(name.replace("-", "--") for name in (group, volume))


def unmapped_name(mapped: str) -> tuple[str, str]:
    """Return the group and the volume that have such a name; two empty words where none have."""
    found = _MAPPED.fullmatch(mapped)
    return (found[1].replace("--", "-"), found[2].replace("--", "-")) if found else ("", "")
