"""Our own GRUB for one image: planned before the disk is touched, installed when the image is on it.

GRUB comes from the machine we run on, and no program of the image is run. :func:`plan_boot` decides and finds
whatever is missing. :func:`install` reads the kernels of the image, writes the menu and GRUB's modules into
``/boot/grub`` and puts the loader in its place, except for the first MiB of the disk: what belongs there is returned,
for the caller to write last of all. :func:`register` tells the firmware afterwards, where it wants to be told.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

from libironic_disk.errors import BootImpossible, DeviceFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine import process
from libironic_disk.machine.boot import efi_entries, esp, grub_directory, grub_image, grub_reading, signed_loader
from libironic_disk.machine.boot.efi_entries import Outcome, Registration
from libironic_disk.machine.boot.grub_image import Platform
from libironic_disk.machine.disks import sysfs
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.boot import grubcfg, loadersyntax
from libironic_disk.pure.boot.coreroom import HEAD, core_room
from libironic_disk.pure.boot.efientries import Loader
from libironic_disk.pure.boot.grubcfg import Menu, MenuEntry, SerialConsole
from libironic_disk.pure.boot.grubembed import SECTOR, embed
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.loadersyntax import LoaderSyntax
from libironic_disk.pure.disks.facts import DiskKind
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.disks.planning import Plan
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.roles import Architecture, Firmware, Role
from libironic_disk.pure.tables.model import Extent, TableKind
from libironic_disk.pure.words import as_word
from libironic_disk.units import in_words

__all__ = [
    "ROOT_FILE_SYSTEMS",
    "BootInstalled",
    "BootPlan",
    "Outcome",
    "Registration",
    "RootPartition",
    "SerialConsole",
    "install",
    "install_loader",
    "plan_boot",
    "register",
    "tell_firmware",
]

ROOT_FILE_SYSTEMS: Final = frozenset(
    {FileSystem.BTRFS, FileSystem.EXT2, FileSystem.EXT3, FileSystem.EXT4, FileSystem.XFS}
)
"""What the image may hold for GRUB to start it."""

# The core that is measured beforehand has another UUID inside, and the packing of the real one may differ by a little.
_CORE_SLACK: Final = 4096
# BOOT_IMAGE=/boot/vmlinuz-VERSION, which GRUB adds, with the longest version, and our root= and ro.
_OURS_ON_THE_COMMAND_LINE: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class BootPlan:
    """How a disk is going to boot.

    ``core_room`` is where a BIOS finds GRUB's core image, in bytes of the disk; None under UEFI, where it is a file.
    ``volume`` is GRUB's name of the logical volume or mirror that the root file system is on; empty for a partition.
    ``signed`` says that the loader is this machine's own, for Secure Boot.
    """

    device: str
    firmware: Firmware
    architecture: Architecture
    platform: Platform
    table: TableKind
    core_room: ByteRange | None
    kernel_parameters: KernelParameters
    timeout: int
    serial: SerialConsole | None
    volume: str = ""
    signed: bool = False

    def __str__(self) -> str:
        """Return the plan in one sentence."""
        if self.core_room is None:
            signed = "signed, " if self.signed else ""
            loader = f"{signed}{esp.REMOVABLE_LOADERS[self.architecture]} on the EFI system partition"
        else:
            start, end = self.core_room
            loader = f"a boot sector and a core image in bytes {start} to {end} ({in_words(end - start)})"
        words = str(self.kernel_parameters) or "none"
        return f"GRUB {self.platform} for {self.firmware}: {loader}; kernel parameters: {words}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RootPartition:
    """The partition with the image on it; ``uuid`` is the file system's, ``partuuid`` the partition's."""

    node: str
    filesystem: FileSystem
    uuid: str
    partuuid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BootInstalled:
    """What was installed.

    ``head`` is what the caller still has to write into the first MiB: the boot sector's code and maybe the core
    image. Nothing of it lies in bytes 440 to 511, the table's part of the first sector. ``notes`` are for people.
    """

    head: tuple[Extent, ...]
    entries: tuple[MenuEntry, ...]
    default: str
    notes: tuple[str, ...] = ()


def plan_boot(
    *,
    device: str,
    firmware: Firmware,
    architecture: Architecture,
    table: TableKind,
    sector_size: int,
    first_partition_start: int,
    bios_boot: ByteRange | None,
    has_esp: bool,
    kernel_parameters: KernelParameters | None = None,
    timeout: int = 5,
    serial: SerialConsole | None = None,
    volume: str = "",
    signed: bool = False,
) -> BootPlan:
    """Decide how the disk is to boot, and check that it can; nothing is written.

    Args:
        device: the disk, for messages.
        firmware: what will start it.
        architecture: of the machine that will boot from it.
        table: the kind of partition table that it gets.
        sector_size: its logical sector size, in bytes.
        first_partition_start: where its first partition begins, in bytes.
        bios_boot: the BIOS boot partition.
        has_esp: whether it has an EFI system partition.
        kernel_parameters: added to ``root=`` and ``ro``; a ``root=``, ``ro`` or ``rw`` among them takes their place.
        timeout: seconds for which the menu waits.
        serial: a serial port on which GRUB shows its menu too.
        volume: GRUB's name of the logical volume or mirror that the root file system will be on
            (:meth:`libironic_disk.StoragePlan.grub_name`); empty for a partition. The image's initial RAM disk has to
            start the volume by itself.
        signed: take the signed shim and GRUB of this machine's packages, for UEFI with Secure Boot.

    Raises:
        LayoutInvalid: there is no such firmware, architecture or table.
        BootImpossible: these can't boot together.
        KernelParametersInvalid: GRUB can't pass a parameter on.
        ToolMissing: GRUB for this platform, or a program, isn't installed here.
    """
    firmware = as_word(Firmware, firmware, "firmware")
    architecture = as_word(Architecture, architecture, "architecture")
    table = as_word(TableKind, table, "table")
    parameters = kernel_parameters or KernelParameters()
    limit = loadersyntax.MAX_COMMAND_LINE - _OURS_ON_THE_COMMAND_LINE
    loadersyntax.check(parameters, LoaderSyntax.GRUB, limit=limit)
    platform = _platform(device, firmware, architecture)
    process.require(grub_reading.TOOLS)
    room = None
    match firmware:
        case Firmware.UEFI:
            if not has_esp:
                raise BootImpossible(
                    device=device, reason="UEFI needs an EFI system partition, and the layout has none"
                )
            process.require(esp.TOOLS)
            grub_image.require(platform)
            if signed:
                signed_loader.require(device, architecture)
        case Firmware.BIOS:
            room = core_room(device, table, sector_size, first_partition_start, bios_boot)
            _check_core_fits(device, platform, room, volume)
        case _:
            assert_never(firmware)
    return BootPlan(
        device=device,
        firmware=firmware,
        architecture=architecture,
        platform=platform,
        table=table,
        core_room=room,
        kernel_parameters=parameters,
        timeout=timeout,
        serial=serial,
        volume=volume,
        signed=signed and firmware is Firmware.UEFI,
    )


_PLATFORMS: Final[Mapping[tuple[Firmware, Architecture], Platform]] = {
    (Firmware.BIOS, Architecture.X86_64): Platform.I386_PC,
    (Firmware.UEFI, Architecture.X86_64): Platform.X86_64_EFI,
    (Firmware.UEFI, Architecture.AARCH64): Platform.ARM64_EFI,
}


def _platform(device: str, firmware: Firmware, architecture: Architecture) -> Platform:
    platform = _PLATFORMS.get((firmware, architecture))
    if platform is None:
        raise BootImpossible(device=device, reason=f"there is no GRUB here for {firmware} on {architecture}")
    return platform


def _check_core_fits(device: str, platform: Platform, room: ByteRange, volume: str) -> None:
    sample = _core(platform, "00000000-0000-4000-8000-000000000000", volume)
    wanted = len(sample) + _CORE_SLACK
    if wanted > room.size:
        where = "the gap before the first partition" if room.start == SECTOR else "the BIOS boot partition"
        has = in_words(max(room.size, 0))
        raise BootImpossible(device=device, reason=f"GRUB needs {in_words(wanted)} in {where}, which has {has}")


def _core(platform: Platform, root_uuid: str, volume: str) -> bytes:
    early = grubcfg.early_config(root_uuid, volume=volume)
    return grub_image.core_image(platform, early, volumes=bool(volume))


def install(
    plan: BootPlan,
    *,
    root: RootPartition,
    bios_boot_node: str | None = None,
    esp_node: str | None = None,
    cancel: Cancellation | None = None,
) -> BootInstalled:
    """Install GRUB for the image on ``root``; the first MiB of the disk stays as it is.

    Args:
        plan: what :func:`plan_boot` decided.
        root: the partition with the image.
        bios_boot_node: the BIOS boot partition, where the plan has its room there.
        esp_node: the EFI system partition, for UEFI.
        cancel: asked between the steps.

    Raises:
        BootImpossible: the image has no kernel where GRUB could read one, or GRUB can't read its file system.
        PathFailed: something under ``/boot`` is not what it should be.
        DeviceError: a mount or a write failed.
        ProgramError: grub-mkimage, grub-fstest or mtools failed.
        Cancelled: the caller cancelled.
    """
    cancel = cancel or Cancellation()
    _loader_node(plan, bios_boot_node, esp_node)
    if root.filesystem not in ROOT_FILE_SYSTEMS:
        raise BootImpossible(device=plan.device, reason=f"GRUB is not set up here to read {root.filesystem}")
    # GRUB reads a btrfs from its top, whatever the default subvolume is: this is what it will see.
    options = ("subvolid=5",) if root.filesystem is FileSystem.BTRFS else ()
    with mounted(root.node, root.filesystem, read_only=False, options=options) as descriptor:
        tree = RootDir(descriptor, tree=root.node)
        menu = _menu(plan, root, tree)
        cancel.check("installing the boot loader")
        grub_directory.write(tree, plan.platform, menu)
        as_read_here = grub_reading.checksums(tree, _needed_to_boot(menu))
    cancel.check("installing the boot loader")
    grub_reading.check(root.node, root.filesystem, as_read_here, cancel=cancel)
    head = install_loader(plan, uuid=root.uuid, bios_boot_node=bios_boot_node, esp_node=esp_node)
    notes = tuple(
        f"{entry.kernel} has no initial RAM disk and is started with {entry.parameters}"
        for entry in menu.entries
        if not entry.initrd
    )
    return BootInstalled(head=head, entries=menu.entries, default=menu.default, notes=notes)


def install_loader(
    plan: BootPlan, *, uuid: str, bios_boot_node: str | None = None, esp_node: str | None = None
) -> tuple[Extent, ...]:
    """Put GRUB's core in its place; it goes on with ``/boot/grub/grub.cfg`` in the file system with this UUID.

    Returns:
        What the caller still has to write into the first MiB of the disk.

    Raises:
        BootImpossible: there is no room for it.
        DeviceFailed: a write failed.
        ProgramError: grub-mkimage or mtools failed.
    """
    target = _loader_node(plan, bios_boot_node, esp_node)
    if plan.signed:
        signed_loader.write(plan.device, target, plan.architecture, grubcfg.early_config(uuid, volume=plan.volume))
        return ()
    return _place(plan, _core(plan.platform, uuid, plan.volume), target)


def _menu(plan: BootPlan, root: RootPartition, tree: RootDir) -> Menu:
    found = grub_directory.systems(tree)
    if not found.kernels:
        subvolume = " at the top of its btrfs" if root.filesystem is FileSystem.BTRFS else ""
        reason = f"the image has no /boot/vmlinuz-VERSION{subvolume}; a separate /boot partition is not supported"
        raise BootImpossible(device=plan.device, reason=reason)
    parameters = plan.kernel_parameters
    entries = grub_directory.entries(found, root_uuid=root.uuid, root_partuuid=root.partuuid, parameters=parameters)
    return Menu(entries=entries, default=entries[0].id, timeout=plan.timeout, serial=plan.serial)


def _needed_to_boot(menu: Menu) -> tuple[str, ...]:
    """What GRUB will read first: the menu, then the kernel and the initial RAM disk of the default entry."""
    default = next(entry for entry in menu.entries if entry.id == menu.default)
    paths = (f"{grubcfg.GRUB_DIRECTORY}/grub.cfg", default.kernel, default.initrd)
    return tuple(path for path in paths if path)


def _loader_node(plan: BootPlan, bios_boot_node: str | None, esp_node: str | None) -> str:
    """The partition that the loader is written to; empty where all of it belongs into the first MiB."""
    if plan.core_room is not None and plan.core_room.end <= HEAD:
        return ""
    node = esp_node if plan.core_room is None else bios_boot_node
    if node is None:
        missing = "EFI system partition" if plan.core_room is None else "BIOS boot partition"
        raise BootImpossible(
            device=plan.device, reason=f"its {missing} was not given to the boot loader's installation"
        )
    return node


def _place(plan: BootPlan, core: bytes, node: str) -> tuple[Extent, ...]:
    """Write the loader to its partition and return what belongs into the first MiB."""
    if plan.core_room is None:
        esp.write_file(node, esp.REMOVABLE_LOADERS[plan.architecture], core)
        return ()
    embedding = embed(grub_image.boot_sector(), core, core_lba=plan.core_room.start // SECTOR)
    if len(embedding.core) > plan.core_room.size:
        reason = f"GRUB has {in_words(len(embedding.core))} and its place {in_words(plan.core_room.size)}"
        raise BootImpossible(device=plan.device, reason=reason)
    boot_code = Extent(0, embedding.boot_code)
    if not node:
        return boot_code, Extent(plan.core_room.start, embedding.core)
    _write_to(node, embedding.core)
    return (boot_code,)


def _write_to(node: str, data: bytes) -> None:
    try:
        with Path(node).open("r+b", buffering=0) as file:
            if file.write(data) != len(data):
                raise DeviceFailed(device=node, action="writing to", reason="it is too small for GRUB's core image")
            os.fsync(file.fileno())
    except OSError as error:
        raise DeviceFailed(device=node, action="writing to", reason=error.strerror or str(error)) from error


def tell_firmware(boot: BootPlan, disk: Plan) -> tuple[str, ...]:
    """Have :func:`register` make an entry for a disk of this machine's own; return what people should know about it.

    A disk that is here only to be prepared for another machine gets none: a plain file, a loop device, one on USB.
    """
    part = disk.partition(Role.ESP)
    if boot.firmware is not Firmware.UEFI or part is None:
        return ()
    if disk.kind is DiskKind.PLAIN_FILE or sysfs.is_lent(disk.device):
        return ()
    return register(boot, esp_number=part.number, esp_partuuid=part.uuid, label="libironic_disk").warnings


def register(plan: BootPlan, *, esp_number: int, esp_partuuid: str, label: str) -> Registration:
    """Give the firmware of this machine a boot entry for the disk, once its table is written.

    Without EFI variables there is nothing to do. Nothing that goes wrong is an error: the firmware finds the loader
    at the removable path too.

    Args:
        plan: what :func:`plan_boot` decided; for a BIOS there is nothing to do.
        esp_number: the EFI system partition's number.
        esp_partuuid: its PARTUUID, as the kernel writes it.
        label: what the firmware's menu shows. Stale entries are recognised by it.
    """
    if plan.firmware is not Firmware.UEFI:
        return Registration(outcome=Outcome.UNAVAILABLE)
    path = esp.REMOVABLE_LOADERS[plan.architecture]
    loader = Loader(disk=plan.device, number=esp_number, partuuid=esp_partuuid, path=path)
    return efi_entries.register(loader, label=label)
