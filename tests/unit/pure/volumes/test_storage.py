"""Contradictions in a description of several disks: each is told, and all of them at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libironic_disk.errors import LayoutInvalid
from libironic_disk.pure.disks.layout import FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.sizes import Remaining, mib
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.pure.volumes.storage import ArrayMetadata, ArraySpec, GroupSpec, Storage, VolumeSpec

ESP = PartitionSpec(role=Role.ESP, size=mib(64), member_of="efi")
RAID = PartitionSpec(role=Role.RAID, size=Remaining(), member_of="mirror")
LVM = PartitionSpec(role=Role.LVM, size=Remaining(), member_of="vg")
EFI = ArraySpec(name="efi", metadata=ArrayMetadata.AT_THE_END, role=Role.ESP, filesystem=FileSystem.VFAT)
MIRROR = ArraySpec(name="mirror", role=Role.ROOT)
GROUP = GroupSpec(name="vg", volumes=(VolumeSpec(name="root", size=Remaining(), role=Role.ROOT),))


def disk(*partitions: PartitionSpec) -> Layout:
    return Layout(table=TableKind.GPT, partitions=partitions)


MIRRORED = Storage(disks=(disk(ESP, RAID), disk(ESP, RAID)), arrays=(EFI, MIRROR))
GROUPED = Storage(disks=(disk(LVM),), groups=(GROUP,))


def problems(storage: Storage) -> tuple[str, ...]:
    with pytest.raises(LayoutInvalid) as refused:
        storage.check()
    return refused.value.problems


def group(*volumes: VolumeSpec) -> Storage:
    return replace(GROUPED, groups=(replace(GROUP, volumes=volumes),))


def test_what_contradicts_nothing_passes() -> None:
    MIRRORED.check()
    GROUPED.check()
    Storage(
        disks=(disk(RAID), disk(RAID)),
        arrays=(ArraySpec(name="mirror", member_of="vg"),),
        groups=(GROUP,),
    ).check()


@pytest.mark.parametrize(
    ("storage", "problem"),
    [
        (Storage(disks=()), "it has no disks"),
        (replace(MIRRORED, disks=(disk(ESP, RAID),)), "array 'mirror': a mirror needs two members or more, it has 1"),
        (
            replace(MIRRORED, disks=(disk(ESP, RAID, replace(RAID, name="2")), disk(ESP))),
            "array 'mirror': two of its members are on one disk, with which both would be lost",
        ),
        (
            replace(MIRRORED, arrays=(replace(EFI, metadata=ArrayMetadata.AT_THE_START), MIRROR)),
            "array 'efi': firmware finds a mirrored ESP with metadata 1.0 only",
        ),
        (
            replace(MIRRORED, arrays=(replace(EFI, filesystem=FileSystem.EXT4), MIRROR)),
            "array 'efi': an EFI system partition needs the file system vfat",
        ),
        (
            replace(MIRRORED, arrays=(EFI, replace(MIRROR, role=Role.ESP))),
            "array 'mirror': an ESP has members with the role ESP, and nothing else has",
        ),
        (
            replace(MIRRORED, arrays=(EFI, replace(MIRROR, role=Role.LVM))),
            "array 'mirror': nothing but a partition can have the role lvm",
        ),
        (replace(MIRRORED, arrays=(EFI,)), "disk 1: partition 'raid' is a member of 'mirror', which isn't there"),
        (
            replace(MIRRORED, arrays=(EFI, MIRROR, replace(MIRROR, role=Role.DATA))),
            "2 arrays and groups are named 'mirror'",
        ),
        (
            replace(MIRRORED, arrays=(EFI, ArraySpec(name="mirror", member_of="vg"))),
            "array 'mirror': it is a member of 'vg', which is no volume group here",
        ),
        (
            replace(
                MIRRORED,
                arrays=(EFI, ArraySpec(name="mirror", member_of="vg", filesystem=FileSystem.XFS)),
                groups=(GROUP,),
            ),
            "array 'mirror': a member of a volume group has no role, file system and mount point of its own",
        ),
        (
            replace(GROUPED, disks=(disk(replace(RAID, member_of="")),)),
            "disk 1: partition 'raid': a partition with the",
        ),
        (
            replace(GROUPED, disks=(disk(replace(LVM, filesystem=FileSystem.XFS)),)),
            "disk 1: partition 'lvm': a member of an array or group has no file system of its own, and isn't kept",
        ),
        (
            replace(GROUPED, disks=(disk(LVM, replace(LVM, role=Role.DATA, name="data")),)),
            "disk 1: partition 'data': a partition with the role data can't be a member of an array or group",
        ),
        (
            replace(GROUPED, disks=(disk(LVM, replace(RAID, member_of="vg")),)),
            "disk 1: partition 'raid' has the role raid: members of 'vg' have LVM",
        ),
        (replace(GROUPED, groups=(GROUP, GroupSpec(name="other"))), "group 'other': it has no members"),
        (replace(GROUPED, groups=(replace(GROUP, name="a b"),)), "'a b' is no usable name"),
        (
            replace(GROUPED, groups=(replace(GROUP, extent_size=3 << 20),)),
            "group 'vg': an extent has a power of two of bytes, from 4 KiB to 4 GiB, not 3145728",
        ),
        (group(*GROUP.volumes, *GROUP.volumes), "group 'vg': 2 volumes are named 'root'"),
        (
            group(VolumeSpec(name="a", size=Remaining()), VolumeSpec(name="b", size=Remaining())),
            "group 'vg': 2 volumes claim what remains; each of them needs a weight",
        ),
        (group(VolumeSpec(name="lv_tmeta", size=mib(1))), "group 'vg': 'lv_tmeta' is no usable name for a volume"),
        (
            group(VolumeSpec(name="x", size=mib(1), label="a label")),
            "group 'vg': volume 'x': it has a label but no file system to carry it",
        ),
        (
            group(VolumeSpec(name="efi", size=mib(1), role=Role.ESP)),
            "group 'vg': volume 'efi': nothing but a partition can have the role esp",
        ),
        (group(VolumeSpec(name="x", size=mib(0))), "group 'vg': volume 'x': a size of 0 bytes: it must be positive"),
    ],
)
def test_a_contradiction_is_told(storage: Storage, problem: str) -> None:
    assert any(each.startswith(problem) for each in problems(storage)), problems(storage)


def test_every_contradiction_is_told_at_once() -> None:
    storage = Storage(disks=(disk(replace(LVM, member_of="nothing")),), arrays=(MIRROR,), groups=(GROUP,))
    assert len(problems(storage)) == 3
