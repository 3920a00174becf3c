"""Volumes on several disks that more than one room of tests makes."""

from __future__ import annotations

from libironic_disk.pure.disks.layout import FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.sizes import Remaining
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.pure.volumes.storage import ArraySpec, GroupSpec, Storage, VolumeSpec


def group_on_mirror(seed: bytes | None = None) -> Storage:
    """Return a group on a mirror of two disks, with a root."""
    member = PartitionSpec(role=Role.RAID, name="for-mirror", size=Remaining(), member_of="mirror")
    layout = Layout(table=TableKind.GPT, partitions=(member,))
    root = VolumeSpec(name="root", size=Remaining(), role=Role.ROOT, filesystem=FileSystem.EXT4)
    array = ArraySpec(name="mirror", member_of="vg-m")
    return Storage(
        disks=(layout, layout), arrays=(array,), groups=(GroupSpec(name="vg-m", volumes=(root,)),), seed=seed
    )
