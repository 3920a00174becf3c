"""Boot loaders' files: where distributions put them, with which package, and under which names they are published.

The names are Debian's. Other distributions' are given by :meth:`Loaders.replacing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath
from types import MappingProxyType
from typing import Final, TypeAlias

from libironic_disk.errors import InvalidParameterValue
from libironic_disk.pure.netboot.grubnet import TFTP_EARLY_CONFIG, disk_config
from libironic_disk.pure.roles import Architecture, Firmware


class LoaderKind(StrEnum):
    """Which program, and who loads it."""

    PXELINUX = "pxelinux"
    GRUB = "grub"
    """GRUB, over TFTP."""
    GRUB_HTTP = "grub-http"
    """GRUB, by UEFI HTTP boot."""
    IPXE = "ipxe"
    """iPXE that uses the firmware's own driver of the network card."""
    DISK = "disk"
    """What starts the machine's disk where iPXE itself can't."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledFile:
    """A file of this machine."""

    path: PurePath
    package: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrubImage:
    """An image that grub-mkimage makes: ``platform`` is GRUB's word, ``early_config`` what is inside it.

    An empty ``early_config`` stands for one that depends on the server's URL.
    """

    platform: str
    early_config: str = ""


LoaderSource: TypeAlias = InstalledFile | GrubImage


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderSet:
    """The files of one loader, by the paths under which they are published; the firmware is told ``boot_file``."""

    boot_file: str
    files: Mapping[str, LoaderSource]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class LoaderKey:
    """Which machines a loader is for."""

    kind: LoaderKind
    firmware: Firmware
    architecture: Architecture
    secure_boot: bool = False

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.kind} for {self.firmware} on {self.architecture}{' with Secure Boot' * self.secure_boot}"


_SYSLINUX: Final = "/usr/lib/syslinux/modules/bios"
_IPXE: Final = "/usr/lib/ipxe"
_X86, _ARM = Architecture.X86_64, Architecture.AARCH64
# GRUB's platform, the suffix of file names (UEFI 2.10 section 3.5.1.1), Debian's suffix of packages.
_EFI: Final = {_X86: ("x86_64-efi", "x64", "amd64"), _ARM: ("arm64-efi", "aa64", "arm64")}


def _installed(path: str, package: str) -> InstalledFile:
    return InstalledFile(path=PurePath(path), package=package)


def _pxelinux() -> LoaderSet:
    modules = ("ldlinux", "chain", "libcom32", "libutil")
    files = {f"{name}.c32": _installed(f"{_SYSLINUX}/{name}.c32", "syslinux-common") for name in modules}
    return LoaderSet(
        boot_file="pxelinux.0", files={"pxelinux.0": _installed("/usr/lib/PXELINUX/pxelinux.0", "pxelinux")} | files
    )


def _one(name: str, source: LoaderSource) -> LoaderSet:
    return LoaderSet(boot_file=name, files={name: source})


def _signed_grub(architecture: Architecture) -> LoaderSet:
    platform, suffix, package = _EFI[architecture]
    grub = f"/usr/lib/grub/{platform}-signed/grubnet{suffix}.efi.signed"
    return LoaderSet(
        boot_file=f"boot{suffix}.efi",
        files={
            f"boot{suffix}.efi": _installed(f"/usr/lib/shim/shim{suffix}.efi.signed", "shim-signed"),
            # The shim asks for it by this name, beside itself.
            f"grub{suffix}.efi": _installed(grub, f"grub-efi-{package}-signed"),
        },
    )


def _default() -> dict[LoaderKey, LoaderSet]:
    table = {
        _key(LoaderKind.PXELINUX, Firmware.BIOS, _X86): _pxelinux(),
        _key(LoaderKind.IPXE, Firmware.BIOS, _X86): _one("undionly.kpxe", _installed(f"{_IPXE}/undionly.kpxe", "ipxe")),
        _key(LoaderKind.IPXE, Firmware.UEFI, _X86): _one("snponly.efi", _installed(f"{_IPXE}/snponly.efi", "ipxe")),
        _key(LoaderKind.IPXE, Firmware.UEFI, _ARM): _one(
            "snponly-arm64.efi", _installed(f"{_IPXE}/snponly-arm64.efi", "ipxe")
        ),
    }
    for architecture, (platform, suffix, _) in _EFI.items():
        images = {
            LoaderKind.GRUB: GrubImage(platform=platform, early_config=TFTP_EARLY_CONFIG),
            LoaderKind.GRUB_HTTP: GrubImage(platform=platform),
            LoaderKind.DISK: GrubImage(platform=platform, early_config=disk_config(architecture)),
        }
        for kind, image in images.items():
            name = f"{kind}-{suffix}.efi"
            table[_key(kind, Firmware.UEFI, architecture)] = _one(name, image)
        signed = LoaderKey(kind=LoaderKind.GRUB, firmware=Firmware.UEFI, architecture=architecture, secure_boot=True)
        table[signed] = _signed_grub(architecture)
    return table


def _key(kind: LoaderKind, firmware: Firmware, architecture: Architecture) -> LoaderKey:
    return LoaderKey(kind=kind, firmware=firmware, architecture=architecture)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaders:
    """Which loader is for which machine; as it is made, Debian's."""

    table: Mapping[LoaderKey, LoaderSet] = field(default_factory=lambda: MappingProxyType(_default()))

    def replacing(self, changes: Mapping[LoaderKey, LoaderSet]) -> Loaders:
        """Return a table with other sets in the place of these, or beside them."""
        return Loaders(table=MappingProxyType({**self.table, **changes}))

    def find(self, key: LoaderKey) -> LoaderSet:
        """Return the loader for a machine.

        Raises:
            InvalidParameterValue: there is none.
        """
        if key not in self.table:
            raise InvalidParameterValue(problems=(f"there is no {key}",))
        return self.table[key]
