"""What a disk is to look like: the description that a caller writes and a plan is made from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from libironic_disk.errors import LayoutInvalid
from libironic_disk.pure.disks.sizes import Exact, Remaining, Size, size_problems
from libironic_disk.pure.roles import Architecture, Attribute, Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.pure.words import settle
from libironic_disk.units import KIB, MIB, in_words


class FileSystem(StrEnum):
    """What can be made on a partition; the words are blkid's TYPE."""

    BTRFS = "btrfs"
    EXT2 = "ext2"
    EXT3 = "ext3"
    EXT4 = "ext4"
    SWAP = "swap"
    VFAT = "vfat"
    XFS = "xfs"


LABEL_BYTES: Final = {
    FileSystem.BTRFS: 254,
    FileSystem.EXT2: 16,
    FileSystem.EXT3: 16,
    FileSystem.EXT4: 16,
    FileSystem.SWAP: 15,
    FileSystem.VFAT: 11,
    FileSystem.XFS: 12,
}
"""How many bytes of label each file system can hold so that libblkid reads all of them back."""

SMALLEST: Final = {
    FileSystem.BTRFS: 109 * MIB,
    FileSystem.EXT2: 256 * KIB,
    FileSystem.EXT3: 8 * MIB,
    FileSystem.EXT4: 8 * MIB,
    FileSystem.SWAP: 640 * KIB,
    FileSystem.VFAT: 256 * KIB,
    FileSystem.XFS: 300 * MIB,
}
"""How many bytes each file system needs, whatever the disk's sector size.

With less their own programs fail on sectors of 512 or 4096 bytes; rounded up from what btrfs-progs 6.2, e2fsprogs 1.47,
dosfstools 4.2 and, since its release 5.19, xfsprogs did on partitions. Below 2048 blocks, of 4 KiB where sectors are
that large, mke2fs leaves out the journal, and ext3 without one is ext2. Swap has ten pages or more (mkswap(8)), and a
page may have 64 KiB.
"""

MOST_PARTITIONS: Final = {TableKind.GPT: 128, TableKind.MBR: 59}
"""How many partitions a new table may have: GPT's usual 128, and on an MBR what libfdisk reads, the container apart."""

_ONLY_ONCE: Final = frozenset({Role.ROOT, Role.CONFIG_DRIVE, Role.MULTIBOOT, Role.BIOS_BOOT, Role.PREP, Role.ESP})
_MEMBERS: Final = frozenset({Role.LVM, Role.RAID})
# mkfs.fat refuses them, and every reader takes the last for "no label".
_NOT_IN_FAT_LABELS: Final = frozenset('*?.,;:/\\|+=<>[]"')
_NO_FAT_LABEL: Final = "NO NAME"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionSpec:
    """One partition of a layout.

    Attributes:
        role: what it is for.
        size: how large it is to be.
        name: how the layout, the plan and the result call it, and its GPT name; unique. The role's word by default.
        filesystem: made on it when the plan is applied; None leaves it blank, for an image to be written.
        label: of that file system.
        mount_point: where a data volume is to be mounted; recorded, not acted upon here.
        attributes: GPT attribute bits.
        member_of: the array or volume group that it is a part of (:mod:`libironic_disk.volumes`); it is left blank.
        keep: the partition must already be on the disk, exactly so, and its contents survive.

    Raises:
        LayoutInvalid: a field has another type; an enumeration's words are as good as its members.
    """

    role: Role
    size: Size
    name: str = ""
    filesystem: FileSystem | None = None
    label: str = ""
    mount_point: str | None = None
    attributes: frozenset[Attribute] = frozenset()
    member_of: str = ""
    keep: bool = False

    def __post_init__(self) -> None:
        settle(self)
        if not self.name:
            object.__setattr__(self, "name", self.role.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A whole disk: its kind of table and its partitions in their order on the disk.

    ``seed`` makes every identity follow from it (:mod:`libironic_disk.pure.disks.ids`); without one they are random.

    Raises:
        LayoutInvalid: a field has another type; an enumeration's words are as good as its members.
    """

    table: TableKind
    partitions: tuple[PartitionSpec, ...]
    architecture: Architecture = Architecture.X86_64
    seed: bytes | None = None

    def __post_init__(self) -> None:
        settle(self)

    def check(self) -> None:
        """Find every contradiction that needs no disk to be seen.

        Raises:
            LayoutInvalid: with all of them.
        """
        problems = tuple(layout_problems(self))
        if problems:
            raise LayoutInvalid(problems=problems)


def layout_problems(layout: Layout) -> Iterator[str]:
    """Yield every contradiction in a layout."""
    if not layout.partitions:
        yield "it has no partitions"
    if len(layout.partitions) > MOST_PARTITIONS[layout.table]:
        most = MOST_PARTITIONS[layout.table]
        yield f"{len(layout.partitions)} partitions are more than the {most} that a table of kind {layout.table} has"
    for spec in layout.partitions:
        for problem in spec_problems(spec, layout.table):
            yield f"partition {spec.name!r}: {problem}"
        if isinstance(spec.size, Exact):
            yield from room_problems(spec, spec.size.size)
    yield from _repetitions(layout)
    rest = [spec for spec in layout.partitions if isinstance(spec.size, Remaining)]
    if len(rest) > 1:
        for spec in rest:
            if isinstance(spec.size, Remaining) and spec.size.weight is None:
                yield f"partition {spec.name!r}: {len(rest)} partitions claim what remains; each of them needs a weight"


def room_problems(spec: PartitionSpec, size: int) -> Iterator[str]:
    """Yield why a partition of ``size`` bytes can't hold the file system to be made on it."""
    if spec.filesystem is None or spec.keep:
        return
    least = SMALLEST[spec.filesystem]
    if 0 < size < least:
        yield f"partition {spec.name!r}: {size} bytes are too few for {spec.filesystem}, which needs {in_words(least)}"


def _repetitions(layout: Layout) -> Iterator[str]:
    for name, times in Counter(spec.name for spec in layout.partitions).items():
        if times > 1:
            yield f"{times} partitions are named {name!r}"
    for role, times in Counter(spec.role for spec in layout.partitions).items():
        if times > 1 and role in _ONLY_ONCE:
            yield f"{times} partitions have the role {role}"
    mount_points = Counter(spec.mount_point for spec in layout.partitions if spec.mount_point is not None)
    for mount_point, times in mount_points.items():
        if times > 1:
            yield f"{times} partitions are mounted at {mount_point}"


def spec_problems(spec: PartitionSpec, table: TableKind) -> Iterator[str]:
    """Yield every contradiction in one partition."""
    yield from size_problems(spec.size)
    # It becomes the GPT name, an argument of mkfs and a part of messages: nothing in it may need quoting.
    if not _NAME.fullmatch(spec.name):
        yield "its name may have up to 36 letters, digits, dots, dashes and underscores"
    if table is TableKind.MBR:
        if spec.role is Role.BIOS_BOOT:
            yield "an MBR has no BIOS boot partition: GRUB lives in the gap before the first partition"
        if spec.attributes:
            yield "an MBR has no attribute bits"
    yield from _filesystem_problems(spec)
    if spec.mount_point is not None and spec.role is not Role.DATA:
        yield "only data volumes have a mount point"
    if spec.mount_point is not None and not re.fullmatch(r"/|(/[^/\0\s]+)+", spec.mount_point):
        yield f"{spec.mount_point!r} is not an absolute path without white space"
    if spec.keep and spec.role not in {Role.EPHEMERAL, Role.DATA}:
        yield f"a partition with the role {spec.role} can't be kept, only ephemeral and data volumes"


def _filesystem_problems(spec: PartitionSpec) -> Iterator[str]:
    if spec.role in _MEMBERS and not spec.member_of:
        yield f"a partition with the role {spec.role} is a member of something: say of what"
    if spec.member_of:
        if spec.role not in {*_MEMBERS, Role.ESP}:
            yield f"a partition with the role {spec.role} can't be a member of an array or group"
        if spec.filesystem is not None or spec.label or spec.keep:
            yield "a member of an array or group has no file system of its own, and isn't kept"
        return
    if spec.role is Role.SWAP and spec.filesystem is not FileSystem.SWAP:
        yield "a swap partition needs the file system swap"
    if spec.role is Role.ESP and spec.filesystem is not FileSystem.VFAT:
        yield "an EFI system partition needs the file system vfat"
    if spec.role in {Role.BIOS_BOOT, Role.PREP, *_MEMBERS} and spec.filesystem is not None:
        yield f"a partition with the role {spec.role} has no file system"
    if spec.role is not Role.SWAP and spec.filesystem is FileSystem.SWAP:
        yield "swap is made on partitions with the role swap alone"
    if not spec.label:
        return
    if spec.filesystem is None:
        yield "it has a label but no file system to carry it"
        return
    yield from _label_problems(spec.label, spec.filesystem)


def _label_problems(label: str, filesystem: FileSystem) -> Iterator[str]:
    if not label.isprintable() or label != label.strip() or label.startswith("-"):
        yield f"{label!r} is no usable label"
    if filesystem is FileSystem.VFAT and (
        not label.isascii() or _NOT_IN_FAT_LABELS & set(label) or label == _NO_FAT_LABEL
    ):
        forbidden = "".join(sorted(_NOT_IN_FAT_LABELS))
        yield f"{label!r} is no label for {filesystem}: ASCII without {forbidden}, and not {_NO_FAT_LABEL!r}"
    room = LABEL_BYTES[filesystem]
    # A lone surrogate is not printable; it is counted here only so that every defect is told at once.
    if len(label.encode(errors="surrogatepass")) > room:
        yield f"the label {label!r} is longer than the {room} bytes that {filesystem} has"
