"""What was seen of the volumes on some disks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from libironic_disk.pure.disks.facts import DiskFacts, Signature


class HolderKind(StrEnum):
    """What is built upon a device."""

    VOLUME = "logical volume"
    ARRAY = "array"
    MULTIPATH = "multipath map"
    CRYPT = "encrypted volume"
    OTHER = "device"


class Member(NamedTuple):
    """A partition: its disk's path as it was observed, and its number."""

    device: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A running device that is built upon others.

    Attributes:
        node: its own node.
        name: what its kind calls it: device mapper's name, or the array's node without ``/dev/``.
        kind: what it is.
        upon: the nodes right beneath it.
        foreign: those of them, and of those beneath them, that belong to no disk of the request.
        users: its mounts and swap areas, in words.
        signatures: what is on it.
    """

    node: str
    name: str
    kind: HolderKind
    upon: tuple[str, ...]
    foreign: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    signatures: tuple[Signature, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.node})"

    @property
    def place(self) -> str:
        """In words, what runs upon what."""
        return f"{self} runs on {', '.join(self.upon)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundArray:
    """An array whose superblock was read.

    Attributes:
        name: as mdadm wrote it.
        uuid: as mdadm writes it.
        level: such as ``raid1``.
        metadata: its version; empty where it doesn't run, as are ``node`` and ``size``.
        devices: how many members it was made with.
        members: those that are partitions of the disks, as their superblocks say: one that the kernel goes on without
            still says so.
        spares: how many of these are spare.
        node: its own node.
        size: what it gives, in bytes.
        lost: in words, what a mirror that runs lost of its members; empty if nothing.
        signatures: what is on it.
    """

    name: str
    uuid: str
    level: str
    metadata: str
    devices: int
    members: tuple[Member, ...]
    spares: int = 0
    node: str = ""
    size: int = 0
    lost: str = ""
    signatures: tuple[Signature, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundVolume:
    """A logical volume; ``node`` is empty where it isn't active."""

    name: str
    size: int
    node: str = ""
    signatures: tuple[Signature, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundGroup:
    """A volume group, and where it is.

    Attributes:
        name: not unique if two disks of different machines meet.
        uuid: as LVM writes it.
        extent_size: in bytes.
        members: those of its members that are partitions of the disks.
        arrays: the names of those that are arrays on them.
        is_here: whether any member, of whatever kind, is on these disks alone.
        foreign: the nodes of disks outside of the request that it is on.
        volumes: its volumes.
    """

    name: str
    uuid: str
    extent_size: int
    members: tuple[Member, ...]
    arrays: tuple[str, ...] = ()
    is_here: bool = True
    foreign: tuple[str, ...] = ()
    volumes: tuple[FoundVolume, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageFacts:
    """Some disks and all that is built upon them, as they were seen at one moment.

    Attributes:
        disks: in the order in which they were named.
        holders: what runs upon them, each before what it is built upon.
        arrays: those of which a member is on these disks.
        groups: every group that the machine has, because two of one name can't be.
    """

    disks: tuple[DiskFacts, ...]
    holders: tuple[Holder, ...] = ()
    arrays: tuple[FoundArray, ...] = ()
    groups: tuple[FoundGroup, ...] = ()

    @property
    def name(self) -> str:
        """What the disks are called in errors."""
        return ", ".join(disk.path for disk in self.disks)

    def busy(self) -> Iterator[str]:
        """Yield, in words, what runs upon the disks."""
        lost = {array.node: f", and lost {array.lost}" for array in self.arrays if array.lost}
        for holder in self.holders:
            yield f"{holder.place}{lost.get(holder.node, '')}"
