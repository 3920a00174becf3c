"""What is found in a boot ISO: the programs that firmware starts, and their configuration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from libironic_disk.pure.loaders.config import ConfigKind, KernelLine, Reference
from libironic_disk.pure.roles import Firmware


class LoaderKind(StrEnum):
    """Which boot loader a program is, by what its bytes say."""

    ISOLINUX = "isolinux"
    SYSLINUX = "syslinux"
    GRUB = "grub"
    SHIM = "shim"
    """Starts the program ``grubx64.efi`` beside it, once it has found that signed by somebody whom it trusts."""
    SYSTEMD_BOOT = "systemd-boot"
    IPXE = "ipxe"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Place:
    """Where a file of an ISO is.

    ``path`` is from the root of the ISO's tree or, with ``boot_image``, of the FAT in that boot image, an index of
    ``IsoImage.boot_images``: as a rule the EFI system partition.
    """

    path: str
    boot_image: int | None = None

    def __str__(self) -> str:
        """Return the path, and in which image it is where it isn't in the tree."""
        return self.path if self.boot_image is None else f"{self.path} in boot image {self.boot_image}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootLoader:
    """A program that firmware starts, or that another one starts.

    ``place`` is None for a boot image that is neither in the tree nor a file system; ``boot_image`` then says which.
    """

    place: Place | None
    boot_image: int | None
    firmware: Firmware
    kind: LoaderKind

    def __str__(self) -> str:
        """Return what it is, and where."""
        return f"{self.kind} for {self.firmware}: {self.place or f'boot image {self.boot_image}'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootConfig:
    """A configuration file of a boot loader: where it is, and each line of it by which a kernel is started.

    ``prefix`` is the directory from which the paths in it count.
    """

    place: Place
    kind: ConfigKind
    prefix: str
    lines: tuple[KernelLine, ...]
    references: tuple[Reference, ...]

    @property
    def path(self) -> str:
        """Its path, in the tree or in the boot image."""
        return self.place.path
