"""A loader that Secure Boot takes: the shim and the GRUB of this machine's packages, signed by their distribution.

What is signed can't be made here: that GRUB has its modules inside, and looks for a ``grub.cfg`` where its maker said.
A few lines there lead to ours. The kernel that it starts must be signed by a key that the shim knows, which as a rule
are those of the same distribution.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libironic_disk.errors import BootImpossible, ToolMissing
from libironic_disk.machine import process
from libironic_disk.machine.boot import esp
from libironic_disk.pure.roles import Architecture

ROOT: Final = Path("/")
# Behind it grub-mkimage puts the directory that the GRUB was made for (--prefix).
_PREFIX: Final = re.compile(rb"\0(/EFI/[A-Za-z0-9._-]{1,64})\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """Where Debian's packages have the parts, the packages, and what the shim calls GRUB."""

    shim: str
    grub: str
    cd_grub: str
    shim_package: str
    grub_package: str
    grub_name: str


_FILES: Final[Mapping[Architecture, _Files]] = {
    Architecture.X86_64: _Files(
        shim="usr/lib/shim/shimx64.efi.signed",
        grub="usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
        cd_grub="usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed",
        shim_package="shim-signed",
        grub_package="grub-efi-amd64-signed",
        grub_name="grubx64.efi",
    ),
    Architecture.AARCH64: _Files(
        shim="usr/lib/shim/shimaa64.efi.signed",
        grub="usr/lib/grub/arm64-efi-signed/grubaa64.efi.signed",
        cd_grub="usr/lib/grub/arm64-efi-signed/gcdaa64.efi.signed",
        shim_package="shim-signed",
        grub_package="grub-efi-arm64-signed",
        grub_name="grubaa64.efi",
    ),
}


def require(device: str, architecture: Architecture, *, root: Path = ROOT) -> None:
    """Check that a signed loader for this architecture is installed here.

    Raises:
        BootImpossible: there is none for it, or the GRUB doesn't say where it looks for its configuration.
        ToolMissing: a part isn't installed; with the package.
    """
    files = _files(device, architecture)
    process.require(esp.TOOLS)
    for path, package in ((files.shim, files.shim_package), (files.grub, files.grub_package)):
        if not (root / path).is_file():
            raise ToolMissing(tool=f"a signed loader ({root / path})", package=package)
    _directory(device, (root / files.grub).read_bytes())


def write(device: str, node: str, architecture: Architecture, early_config: str, *, root: Path = ROOT) -> None:
    """Write the loader onto the EFI system partition on ``node``, where firmware looks without being told.

    Args:
        device: the disk, for messages.
        node: the partition.
        architecture: of the machine.
        early_config: the lines that lead to GRUB's directory.
        root: where this machine's files are.

    Raises:
        BootImpossible: as :func:`require`.
        ProgramError: mtools failed: no FAT, or full.
        DeviceFailed: the device reported a write error.
    """
    files = _files(device, architecture)
    loader = esp.REMOVABLE_LOADERS[architecture]
    grub = (root / files.grub).read_bytes()
    stub = early_config + "configfile $prefix/grub.cfg\n"
    esp.write_file(node, f"{_directory(device, grub)}/grub.cfg", stub.encode())
    esp.write_file(node, f"{loader.rpartition('/')[0]}/{files.grub_name}", grub)
    esp.write_file(node, loader, (root / files.shim).read_bytes())


def cd_files(medium: str, architecture: Architecture, *, root: Path = ROOT) -> dict[str, bytes]:
    """Return the loader for a medium that is read as a CD, by path on its EFI system partition.

    This GRUB looks for ``/boot/grub/grub.cfg`` where it was loaded from: to it that is the CD itself, and on a disk
    the EFI system partition.

    Args:
        medium: for messages.
        architecture: of the machine.
        root: where this machine's files are.

    Raises:
        BootImpossible: there is none for this architecture.
        ToolMissing: a part isn't installed; with the package.
    """
    files = _files(medium, architecture)
    loader = esp.REMOVABLE_LOADERS[architecture]
    grub = f"{loader.rpartition('/')[0]}/{files.grub_name}"
    found = {}
    for name, path, package in (
        (loader, files.shim, files.shim_package),
        (grub, files.cd_grub, files.grub_package),
    ):
        if not (root / path).is_file():
            raise ToolMissing(tool=f"a signed loader ({root / path})", package=package)
        found[name] = (root / path).read_bytes()
    return found


def _files(device: str, architecture: Architecture) -> _Files:
    if architecture not in _FILES:
        raise BootImpossible(device=device, reason=f"there is no signed loader for {architecture}")
    return _FILES[architecture]


def _directory(device: str, grub: bytes) -> str:
    found: set[bytes] = set(_PREFIX.findall(grub))
    if len(found) != 1:
        raise BootImpossible(device=device, reason="the signed GRUB doesn't say where its grub.cfg has to be")
    return found.pop().decode().strip("/")
