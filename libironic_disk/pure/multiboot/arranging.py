"""Where every volume of a description lies: disks with their partitions, groups on them, and who mounts what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final

from libironic_disk.pure.disks import presets
from libironic_disk.pure.disks.layout import FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.sizes import mib
from libironic_disk.pure.multiboot.description import MULTIBOOT, Disk, Group, Member, MultiImage, Volume
from libironic_disk.pure.roles import Architecture, Firmware, Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.pure.volumes.storage import GroupSpec, Storage, VolumeSpec

ESP_MIB: Final = 64
_SWAP: Final = "swap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A volume and its place: ``partition`` of the disk with the number ``disk``, from 0; or a ``group/volume``."""

    volume: Volume
    disk: int | None
    partition: str

    @property
    def key(self) -> str:
        """How results call it: ``disk 1 root`` or ``vg0/root``."""
        return self.partition if self.disk is None else f"disk {self.disk + 1} {self.partition}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """The disks to be made, and the volumes of the description on them, in its order."""

    storage: Storage
    placed: tuple[Placed, ...]
    targets: tuple[tuple[str, str], ...]
    """Of each image its name and the mount point that it is written to."""

    def of(self, image: str) -> tuple[Placed, ...]:
        """Return the volumes of an image in the order in which they are mounted; swap last."""
        own = [placed for placed in self.placed if image in placed.volume.images]
        return tuple(sorted(own, key=_depth))

    def root_of(self, image: str) -> Placed:
        """Return the volume that an image is written to.

        Raises:
            KeyError: the image is none of these, or has no such volume.
        """
        target = dict(self.targets)[image]
        for placed in self.of(image):
            if placed.volume.mount == target:
                return placed
        raise KeyError(image)


def _depth(placed: Placed) -> tuple[int, str]:
    mount = placed.volume.mount
    if mount is None or not mount.startswith("/"):
        return 1000, mount or ""
    return len([part for part in mount.split("/") if part]), mount


def arrange(
    description: MultiImage,
    *,
    firmwares: frozenset[Firmware],
    architecture: Architecture = Architecture.X86_64,
    seed: bytes | None = None,
    trees: frozenset[str] = frozenset(),
) -> Arrangement:
    """Lay out a description that was checked.

    The first disk begins with what its firmware needs and the multiboot partition, which no image mounts. Roots are
    plain data partitions: a layout has one root, and an initial RAM disk that looks for a partition of the type
    "root" by itself (Discoverable Partitions Specification) could take the other system's.

    Args:
        description: what is wanted.
        firmwares: what will start the machine.
        architecture: of the machine.
        seed: makes every identity follow from it.
        trees: names of the images that are archives of files. Every other one brings the file system of its root.
    """
    targets = tuple((image.name, image.target) for image in description.images)
    written = frozenset(description.root_of(name) for name, _ in targets if name not in trees)
    layouts: list[Layout] = []
    placed: list[Placed] = []
    for number, disk in enumerate(description.disks):
        own = tuple(_partitions(disk, written))
        before = tuple(_implicit(firmwares)) if number == 0 else ()
        layouts.append(
            Layout(
                table=TableKind.GPT,
                partitions=(*before, *own),
                architecture=architecture,
                seed=None if seed is None else seed + f"/disk {number}".encode(),
            )
        )
        placed += [
            Placed(volume=volume, disk=number, partition=volume.name)
            for volume in disk.partitions
            if isinstance(volume, Volume)
        ]
    for group in description.groups:
        placed += [Placed(volume=each, disk=None, partition=f"{group.name}/{each.name}") for each in group.volumes]
    storage = Storage(
        disks=tuple(layouts), groups=tuple(_group(group, written) for group in description.groups), seed=seed
    )
    return Arrangement(storage=storage, placed=tuple(placed), targets=targets)


def _implicit(firmwares: frozenset[Firmware]) -> Iterator[PartitionSpec]:
    if Firmware.BIOS in firmwares:
        yield presets.bios_boot()
    if Firmware.UEFI in firmwares:
        yield presets.esp(mib(ESP_MIB))
    yield PartitionSpec(
        role=Role.MULTIBOOT, size=mib(presets.MULTIBOOT_MIB), filesystem=FileSystem.EXT4, label=MULTIBOOT
    )


def _partitions(disk: Disk, written: frozenset[Volume]) -> Iterator[PartitionSpec]:
    taken = {each.name for each in disk.partitions if isinstance(each, Volume)}
    free = (name for name in map("pv{}".format, count(1)) if name not in taken)
    for each in disk.partitions:
        if isinstance(each, Member):
            yield PartitionSpec(role=Role.LVM, size=each.size, name=next(free), member_of=each.group)
        else:
            filesystem = _filesystem(each, written)
            yield PartitionSpec(role=_role(filesystem), size=each.size, name=each.name, filesystem=filesystem)


def _group(group: Group, written: frozenset[Volume]) -> GroupSpec:
    volumes = []
    for each in group.volumes:
        filesystem = _filesystem(each, written)
        volumes.append(VolumeSpec(name=each.name, size=each.size, role=_role(filesystem), filesystem=filesystem))
    return GroupSpec(name=group.name, volumes=tuple(volumes))


def _role(filesystem: FileSystem | None) -> Role:
    return Role.SWAP if filesystem is FileSystem.SWAP else Role.DATA


def _filesystem(volume: Volume, written: frozenset[Volume]) -> FileSystem | None:
    """What is made on a volume; an image that is written to it brings its own."""
    if volume.mount == _SWAP:
        return FileSystem.SWAP
    return None if volume in written else volume.filesystem
