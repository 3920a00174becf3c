"""A boot ISO that is to be made: what is in it, the menu, and what identifies it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from libironic_disk.errors import BootIsoRefused
from libironic_disk.pure.boot import grubcfg, loadersyntax
from libironic_disk.pure.boot.grubcfg import MenuEntry, SerialConsole
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.loadersyntax import LoaderSyntax
from libironic_disk.pure.bootisos import paths
from libironic_disk.pure.bootisos.labels import is_plain
from libironic_disk.pure.iso.volumes import SECTOR, SYSTEM_AREA
from libironic_disk.pure.roles import Architecture, Firmware
from libironic_disk.units import KIB, MIB, align_up

KERNEL: Final = "/boot/vmlinuz"
RAMDISK: Final = "/boot/initrd.img"
GRUB_CONFIG: Final = f"{grubcfg.GRUB_DIRECTORY}/grub.cfg"
BIOS_IMAGE: Final = f"{grubcfg.GRUB_DIRECTORY}/bios.img"
CATALOG: Final = "/boot.catalog"
PARTITION_OFFSET: Final = 16
"""The logical sector at which the partition with the tree begins; descriptors are 16 sectors from there too."""
DESCRIPTORS: Final = (SYSTEM_AREA, PARTITION_OFFSET * SECTOR + SYSTEM_AREA)
"""Where the ISO has a primary volume descriptor (ECMA-119, 6.7.1): for the whole of it, and for the partition."""
PRIMARY: Final = b"\x01CD001\x01"
"""What a primary volume descriptor begins with (ECMA-119, 8.4)."""
PUBLISHER_OFFSET: Final = 318
PUBLISHER_SIZE: Final = 128
"""Bytes of the publisher identifier, and where they are in the descriptor (ECMA-119, 8.4.20)."""
LARGEST_FILE: Final = (1 << 32) - SECTOR
"""Bytes of a file that is in one piece: its size is a 32-bit number (ECMA-119, 9.1.4), and whole sectors are added."""

_FIRMWARE: Final[Mapping[Architecture, frozenset[Firmware]]] = {
    Architecture.X86_64: frozenset(Firmware),
    Architecture.AARCH64: frozenset({Firmware.UEFI}),
}
_ENTRY: Final = "boot-iso"
_TITLE: Final = "Boot"
# GRUB puts it before the parameters (grub-core/loader/i386/linux.c), and the kernel counts it.
_BEFORE_PARAMETERS: Final = f"BOOT_IMAGE={KERNEL} "
# Descriptors, tables, GRUB for a BIOS; what a signed chain and its file system have at most; a file's records in three
# trees, each of which has directories of whole sectors.
_FIXED: Final = MIB
_LOADERS: Final = 8 * MIB
_RECORDS: Final = 4 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class BootIsoSpec:
    """What a boot ISO is to be made of.

    Attributes:
        kernel: a kernel's file.
        ramdisk: the file of its initial RAM disk.
        parameters: all that the kernel gets, but for the ``BOOT_IMAGE=`` that GRUB puts before them.
        files: further files in the ISO's tree: contents by path from its root.
        volume_id: the volume's name, by which Linux finds it: up to 32 letters, digits and ``._+-``. That is more than
            ECMA-119 has (7.4.1), which knows no lower case and no ``config-2``.
        publisher_id: by which a system finds the medium that is meant for it; up to 128 ASCII characters.
        architecture: of the kernel.
        firmware: what is to boot it; all that the architecture has, if nothing is said.
        signed: whether the loader for UEFI is the distribution's signed one, as Secure Boot wants it. The kernel has
            to be the same distribution's then.
        timeout: seconds for which GRUB shows its menu.
        serial: a serial port on which it shows that too.

    Raises:
        BootIsoRefused: it contradicts itself, or an ISO or a boot loader has no way to say it.
        KernelParametersInvalid: GRUB can't hand these on.
    """

    kernel: PurePath
    ramdisk: PurePath
    parameters: KernelParameters
    files: Mapping[str, bytes] = field(default_factory=dict)
    volume_id: str = "BOOT_ISO"
    publisher_id: str = ""
    architecture: Architecture = Architecture.X86_64
    firmware: frozenset[Firmware] | None = None
    signed: bool = False
    timeout: int = 0
    serial: SerialConsole | None = None

    def __post_init__(self) -> None:
        if not is_plain(self.volume_id):
            self._refuse("its volume id isn't 1 to 32 letters, digits and ._+-")
        if not (self.publisher_id.isascii() and self.publisher_id.isprintable()):
            self._refuse("its publisher id has other characters than ASCII's printable ones")
        if len(self.publisher_id) > PUBLISHER_SIZE:
            self._refuse(f"its publisher id is longer than {PUBLISHER_SIZE} characters")
        if self.timeout < 0:
            self._refuse("its menu can't be shown for less than no time")
        self._check_firmware()
        limit = loadersyntax.MAX_COMMAND_LINE - len(_BEFORE_PARAMETERS)
        loadersyntax.check(self.parameters, LoaderSyntax.GRUB, limit=limit)
        self._check_files()

    @property
    def starts_on(self) -> frozenset[Firmware]:
        """What is to boot it."""
        return _FIRMWARE[self.architecture] if self.firmware is None else self.firmware

    def _check_firmware(self) -> None:
        if self.architecture not in _FIRMWARE:
            self._refuse(f"there is no GRUB for ISOs on {self.architecture}")
        if not self.starts_on:
            self._refuse("no firmware is to boot it")
        if impossible := self.starts_on - _FIRMWARE[self.architecture]:
            self._refuse(f"{self.architecture} has no {', '.join(impossible)}")
        if self.signed and Firmware.UEFI not in self.starts_on:
            self._refuse("only UEFI knows signed loaders")

    def _check_files(self) -> None:
        ours = {path.casefold() for path in (KERNEL, RAMDISK, grubcfg.GRUB_DIRECTORY, CATALOG)}
        taken = ours | {parent for path in ours for parent in paths.parents(path)}
        for path, content in paths.checked_files(self.files, iso=self.volume_id).items():
            # Whatever reads the plain ISO 9660 names sees no difference between upper and lower case.
            folded = path.casefold()
            if folded in taken or not ours.isdisjoint(paths.parents(folded)):
                self._refuse(f"{path} is where a part of its own is")
            if len(content) > LARGEST_FILE:
                self._refuse(f"{path} is too large")

    def _refuse(self, reason: str) -> None:
        raise BootIsoRefused(iso=self.volume_id, reason=reason)


def checked_paths(spec: BootIsoSpec) -> dict[str, bytes]:
    """Return the specification's files by absolute path."""
    return paths.checked_files(spec.files, iso=spec.volume_id)


def menu(spec: BootIsoSpec, volume_uuid: str) -> str:
    """Return the text of the ISO's ``grub.cfg``."""
    entry = MenuEntry(
        id=_ENTRY,
        title=_TITLE,
        root_uuid=volume_uuid,
        kernel=KERNEL,
        initrd=RAMDISK,
        parameters=spec.parameters,
    )
    lines = [
        "# libironic_disk wrote this menu when it made the ISO.",
        *grubcfg.terminal_lines(spec.serial),
        f"set timeout={spec.timeout}",
        *grubcfg.entry_lines(entry),
    ]
    return "\n".join(lines) + "\n"


def volume_uuid(digest: bytes) -> str:
    """Derive the UUID of an ISO's file system, which is the date of its last change (ECMA-119, 8.4.27), from a digest.

    Linux and GRUB take that date, to the hundredth of a second, for the UUID. A real one would be another for each
    making, and the same for two ISOs that are made at once; so none of it is true but that it is a date.
    """
    number = int.from_bytes(digest[:16], "big")
    parts = []
    for least, count in ((2000, 100), (1, 12), (1, 28), (0, 24), (0, 60), (0, 60), (0, 100)):
        number, rest = divmod(number, count)
        parts.append(f"{least + rest:02}")
    return "-".join(parts)


def estimated_size(spec: BootIsoSpec, *, kernel: int, ramdisk: int) -> int:
    """Return the bytes that the ISO will have at most; the true size is less by a few MiB.

    Args:
        spec: what it is made of.
        kernel: bytes of the kernel.
        ramdisk: bytes of the RAM disk.
    """
    sizes = [kernel, ramdisk, *(len(content) for content in spec.files.values())]
    directories = {parent for path in checked_paths(spec) for parent in paths.parents(path)}
    contents = sum(align_up(size, SECTOR) for size in sizes)
    return _FIXED + _LOADERS + contents + _RECORDS * (len(sizes) + 2 * len(directories))
