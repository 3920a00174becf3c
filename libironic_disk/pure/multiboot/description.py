"""Several images and the volumes that each of them gets, as the multi-image specification describes them.

A volume says to which images it belongs. Sizes and names of disks are as in Bareon's ``provision.json``; that document
is read by :mod:`libironic_disk.pure.multiboot.document`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.disks.sizes import Size
from libironic_disk.pure.words import settle

MULTIBOOT: Final = "multiboot"
"""What the specification calls the partition that GRUB lives on, as if it were mounted there."""


class DiskIdKind(StrEnum):
    """By what a disk is found; one that isn't found, or isn't the only one, is an error."""

    NAME = "name"
    """Of its node: ``vda`` or ``/dev/vda``."""
    PATH = "path"
    """A link that udev makes, with or without ``/dev/``: ``disk/by-id/ata-QEMU_HARDDISK``."""
    SCSI = "scsi"
    """Host, channel, target and LUN: ``0:0:1:0``."""
    SERIAL = "serial"
    WWN = "wwn"
    SIZE = "size"
    """With a unit, as volumes have it; the only disk of exactly so many bytes."""


class PartitionsPolicy(StrEnum):
    """What becomes of what is on the disks."""

    CLEAN = "clean"
    """The disks of the description, and no other, are made anew."""
    VERIFY = "verify"
    """The disks must already be as described; volumes with ``keep_data`` keep what they hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image.

    Attributes:
        name: by which volumes refer to it; unique.
        pull_url: where it comes from: http, https or file.
        target: the mount point of the volume that it is written to.
        boot: whether it is the one that boots by default.
        image_name: how its owner calls it.
        image_uuid: its owner's number for it.
        image_checksum: what its bytes must have, or the URL of a checksum file that names it; empty for neither.
        where: its path in the document that it was read from, with which messages begin.
    """

    name: str
    pull_url: str
    target: str = "/"
    boot: bool = False
    image_name: str = ""
    image_uuid: str = ""
    image_checksum: str = ""
    where: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A partition or a logical volume.

    Attributes:
        name: unique on its disk, or in its group; made from the mount point where nothing else says it.
        size: for a logical volume of its group, else of its disk.
        mount: where its images have it; ``swap`` is one too. None for nowhere.
        images: names of those that it belongs to, in their order.
        filesystem: made on it; None where an image brings its own.
        fstab_enabled: whether its line in fstab counts, or is commented out.
        fstab_options: of that line.
        keep_data: whether what is in it survives under :attr:`PartitionsPolicy.VERIFY`.
        group: the volume group of a logical volume, empty for a partition.
        where: its path in the document that it was read from, with which messages begin.
    """

    name: str
    size: Size
    mount: str | None
    images: tuple[str, ...]
    filesystem: FileSystem | None = None
    fstab_enabled: bool = True
    fstab_options: str = "defaults"
    keep_data: bool = True
    group: str = ""
    where: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A partition that is a physical volume of a group; ``where`` is its path in the document."""

    group: str
    size: Size
    where: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk: how it is found, and its partitions in their order; the implicit ones are not among them.

    ``size`` is what the document says, in Bareon's words; nothing compares it with the disk. ``where`` is the disk's
    path in the document.
    """

    id_kind: DiskIdKind
    id_value: str
    partitions: tuple[Volume | Member, ...]
    size: str = ""
    where: str = field(default="", compare=False)

    @property
    def id(self) -> str:
        """How messages call it."""
        return f"{self.id_kind}={self.id_value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A volume group and its logical volumes, in their order; ``where`` is its path in the document."""

    name: str
    volumes: tuple[Volume, ...]
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiImage:
    """All of it. ``default`` names the image that boots when nobody chooses; ``notes`` say what was assumed."""

    images: tuple[Image, ...]
    disks: tuple[Disk, ...]
    groups: tuple[Group, ...] = ()
    default: str
    policy: PartitionsPolicy = PartitionsPolicy.CLEAN
    kernel_parameters: KernelParameters = field(default_factory=KernelParameters)
    notes: tuple[str, ...] = ()

    def volumes(self) -> tuple[Volume, ...]:
        """Return every volume, in the order of the description: partitions disk by disk, then logical volumes."""
        on_disks = [each for disk in self.disks for each in disk.partitions if isinstance(each, Volume)]
        return (*on_disks, *(each for group in self.groups for each in group.volumes))

    def root_of(self, image: str) -> Volume:
        """Return the volume that an image is written to.

        Raises:
            KeyError: it has none, or isn't one of these.
        """
        target = {each.name: each.target for each in self.images}[image]
        for volume in self.volumes_of(image):
            if volume.mount == target:
                return volume
        raise KeyError(image)

    def volumes_of(self, image: str) -> tuple[Volume, ...]:
        """Return the volumes of one image, in the order of the description."""
        return tuple(volume for volume in self.volumes() if image in volume.images)
