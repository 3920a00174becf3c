"""The layout that Ironic makes for a partition image: its order, sizes and labels."""

from __future__ import annotations

from typing import Final

from libironic_disk.errors import LayoutInvalid
from libironic_disk.pure.disks.layout import FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.sizes import Exact, Remaining, Size, mib
from libironic_disk.pure.roles import Architecture, Firmware, Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.pure.words import as_word, check_type
from libironic_disk.units import MIB, align_up

ESP_MIB: Final = 550
BIOS_BOOT_MIB: Final = 1
PREP_MIB: Final = 8
MULTIBOOT_MIB: Final = 100


def esp(size: Size | None = None) -> PartitionSpec:
    """Return an EFI system partition, 550 MiB unless said otherwise."""
    return PartitionSpec(role=Role.ESP, size=size or mib(ESP_MIB), filesystem=FileSystem.VFAT, label="efi-part")


def bios_boot() -> PartitionSpec:
    """Return the partition of 1 MiB into which GRUB embeds itself on a GPT disk that a BIOS starts."""
    return PartitionSpec(role=Role.BIOS_BOOT, size=mib(BIOS_BOOT_MIB))


def ephemeral(size: Size, filesystem: FileSystem = FileSystem.EXT4, *, keep: bool = False) -> PartitionSpec:
    """Return the scratch volume that a rebuild may keep, labelled ``ephemeral0``."""
    return PartitionSpec(role=Role.EPHEMERAL, size=size, filesystem=filesystem, label="ephemeral0", keep=keep)


def swap(size: Size) -> PartitionSpec:
    """Return a swap area, labelled ``swap1``."""
    return PartitionSpec(role=Role.SWAP, size=size, filesystem=FileSystem.SWAP, label="swap1")


def config_drive(content_bytes: int) -> PartitionSpec:
    """Return the partition for a config drive of this size, in whole MiB as Ironic makes it."""
    return PartitionSpec(role=Role.CONFIG_DRIVE, size=Exact(size=align_up(max(content_bytes, 1), MIB)))


def root(size: Size | None = None) -> PartitionSpec:
    """Return the partition that a partition image is written onto; all that remains unless said otherwise."""
    return PartitionSpec(role=Role.ROOT, size=size or Remaining())


def ironic_layout(
    *,
    root_mb: int | None = None,
    swap_mb: int = 0,
    ephemeral_mb: int = 0,
    ephemeral_format: str = "ext4",
    preserve_ephemeral: bool = False,
    config_drive_bytes: int = 0,
    firmware: Firmware = Firmware.UEFI,
    table: TableKind | None = None,
    architecture: Architecture = Architecture.X86_64,
    seed: bytes | None = None,
) -> Layout:
    """Return Ironic's layout: firmware's partitions, ephemeral, swap, config drive, and root last so that it can grow.

    Args:
        root_mb: MiB for the root partition; None gives it all that remains.
        swap_mb: MiB of swap; 0 for none.
        ephemeral_mb: MiB for the ephemeral volume; 0 for none.
        ephemeral_format: its file system.
        preserve_ephemeral: keep its contents; the plan then proves that it is there.
        config_drive_bytes: how large the config drive's contents are; 0 for none.
        firmware: decides on an EFI system partition or, on GPT, a BIOS boot or PReP partition.
        table: GPT for UEFI and MBR for BIOS unless said otherwise, as Ironic's ``disk_label``.
        architecture: decides root's type GUID, and PReP on ppc64le.
        seed: makes every identity follow from it.

    Raises:
        LayoutInvalid: a negative size, no such file system, or an argument of another type.
    """
    sizes = {
        "root_mb": root_mb,
        "swap_mb": swap_mb,
        "ephemeral_mb": ephemeral_mb,
        "config_drive_bytes": config_drive_bytes,
    }
    _check_request(sizes, ephemeral_format)
    check_type(bool, preserve_ephemeral, "preserve_ephemeral")
    firmware = as_word(Firmware, firmware, "firmware")
    architecture = as_word(Architecture, architecture, "architecture")
    usual = TableKind.GPT if firmware is Firmware.UEFI else TableKind.MBR
    kind = usual if table is None else as_word(TableKind, table, "table")
    partitions = list(_firmware_partitions(firmware, kind, architecture))
    if ephemeral_mb:
        partitions.append(ephemeral(mib(ephemeral_mb), FileSystem(ephemeral_format), keep=preserve_ephemeral))
    if swap_mb:
        partitions.append(swap(mib(swap_mb)))
    if config_drive_bytes:
        partitions.append(config_drive(config_drive_bytes))
    partitions.append(root(None if root_mb is None else mib(root_mb)))
    if preserve_ephemeral and not ephemeral_mb:
        raise LayoutInvalid(problems=("preserve_ephemeral without an ephemeral partition",))
    return Layout(table=kind, partitions=tuple(partitions), architecture=architecture, seed=seed)


def _check_request(sizes: dict[str, int | None], ephemeral_format: str) -> None:
    for name, value in sizes.items():
        if name != "root_mb" or value is not None:
            check_type(int, value, name)
    problems = [f"{name} is {value}: it must not be negative" for name, value in sizes.items() if (value or 0) < 0]
    if sizes["root_mb"] == 0:
        problems.append("root_mb is 0: it must be positive")
    if ephemeral_format not in set(FileSystem) - {FileSystem.SWAP}:
        problems.append(f"{ephemeral_format!r} is not a file system that can be made here")
    if problems:
        raise LayoutInvalid(problems=tuple(problems))


def _firmware_partitions(firmware: Firmware, table: TableKind, architecture: Architecture) -> tuple[PartitionSpec, ...]:
    if firmware is Firmware.UEFI:
        return (esp(),)
    if architecture is Architecture.PPC64LE:
        return (PartitionSpec(role=Role.PREP, size=mib(PREP_MIB)),)
    if table is TableKind.GPT:
        return (bios_boot(),)
    return ()
