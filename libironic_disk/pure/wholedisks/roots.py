"""Which partition of a whole-disk image has its root file system, as far as the table and the superblocks tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from libironic_disk.pure.disks.facts import Signature
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.roles import Architecture, Role, gpt_type, mbr_type
from libironic_disk.pure.tables.model import FoundPartition, FoundTable, TableKind

# Discoverable Partitions Specification: "Extended Boot Loader Partition".
_NEVER_ROOT: Final = frozenset({"bc13c2ff-59e6-4262-a352-b275fd6f7172"})
_ROOT_TYPES: Final = frozenset(str(gpt_type(Role.ROOT, each, None)) for each in Architecture)
_CAN_BE_ROOT: Final = frozenset(
    {FileSystem.BTRFS, FileSystem.EXT2, FileSystem.EXT3, FileSystem.EXT4, FileSystem.XFS},
)


def declared_root(table: FoundTable) -> int | None:
    """Return the one partition whose type says that it is a root (Discoverable Partitions Specification)."""
    found = [part.number for part in table.partitions if part.type_id in _ROOT_TYPES]
    return found[0] if len(found) == 1 else None


def possible_roots(table: FoundTable, contents: Mapping[int, Signature]) -> tuple[int, ...]:
    """Return the partitions that hold a file system from which a Linux can run."""
    return tuple(
        part.number
        for part in table.partitions
        if part.number in contents and contents[part.number].kind in _CAN_BE_ROOT and part.type_id not in _NEVER_ROOT
    )


def is_esp(table: FoundTable, part: FoundPartition) -> bool:
    """Whether a partition's type says that it is an EFI system partition (UEFI 2.10, sections 5.2.2 and 5.3.3)."""
    if table.kind is TableKind.GPT:
        return part.type_id == str(gpt_type(Role.ESP, Architecture.X86_64, None))
    return part.type_id == f"{mbr_type(Role.ESP):#04x}"
