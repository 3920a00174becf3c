"""Ironic's layout: what ironic-python-agent makes for a partition image, in its order, sizes and labels."""

from __future__ import annotations

import pytest

from libironic_disk.errors import LayoutInvalid
from libironic_disk.pure.disks.layout import FileSystem, PartitionSpec
from libironic_disk.pure.disks.presets import config_drive, ironic_layout
from libironic_disk.pure.disks.sizes import Exact, Remaining, Size, mib
from libironic_disk.pure.roles import Architecture, Firmware, Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import MIB

GPT, MBR = TableKind.GPT, TableKind.MBR


def told(specs: tuple[PartitionSpec, ...]) -> list[tuple[Role, Size, FileSystem | None, str]]:
    return [(spec.role, spec.size, spec.filesystem, spec.label) for spec in specs]


def test_uefi_gets_an_esp_first_and_root_last() -> None:
    layout = ironic_layout(root_mb=10240, swap_mb=512, ephemeral_mb=2048, config_drive_bytes=70_000)
    assert layout.table is GPT
    assert told(layout.partitions) == [
        (Role.ESP, mib(550), FileSystem.VFAT, "efi-part"),
        (Role.EPHEMERAL, mib(2048), FileSystem.EXT4, "ephemeral0"),
        (Role.SWAP, mib(512), FileSystem.SWAP, "swap1"),
        (Role.CONFIG_DRIVE, mib(1), None, ""),
        (Role.ROOT, mib(10240), None, ""),
    ]
    layout.check()


@pytest.mark.parametrize(
    ("firmware", "table", "architecture", "expected"),
    [
        (Firmware.UEFI, None, Architecture.X86_64, (GPT, [(Role.ESP, mib(550))])),
        (Firmware.UEFI, None, Architecture.AARCH64, (GPT, [(Role.ESP, mib(550))])),
        (Firmware.UEFI, MBR, Architecture.X86_64, (MBR, [(Role.ESP, mib(550))])),
        (Firmware.BIOS, None, Architecture.X86_64, (MBR, [])),
        (Firmware.BIOS, MBR, Architecture.X86_64, (MBR, [])),
        (Firmware.BIOS, GPT, Architecture.X86_64, (GPT, [(Role.BIOS_BOOT, mib(1))])),
        (Firmware.BIOS, None, Architecture.PPC64LE, (MBR, [(Role.PREP, mib(8))])),
        (Firmware.BIOS, GPT, Architecture.PPC64LE, (GPT, [(Role.PREP, mib(8))])),
    ],
)
def test_the_firmware_decides_what_comes_first(
    firmware: Firmware,
    table: TableKind | None,
    architecture: Architecture,
    expected: tuple[TableKind, list[tuple[Role, Size]]],
) -> None:
    layout = ironic_layout(firmware=firmware, table=table, architecture=architecture)
    kind, first = expected
    assert layout.table is kind
    assert layout.architecture is architecture
    assert [(spec.role, spec.size) for spec in layout.partitions] == [*first, (Role.ROOT, Remaining())]


def test_what_is_not_asked_for_is_not_there() -> None:
    assert [spec.role for spec in ironic_layout(root_mb=100, firmware=Firmware.BIOS).partitions] == [Role.ROOT]


def test_the_ephemeral_volume_has_the_file_system_asked_for() -> None:
    (volume, _) = ironic_layout(ephemeral_mb=512, ephemeral_format="xfs", firmware=Firmware.BIOS).partitions
    assert (volume.filesystem, volume.label, volume.keep) == (FileSystem.XFS, "ephemeral0", False)


def test_only_the_ephemeral_volume_is_preserved() -> None:
    layout = ironic_layout(ephemeral_mb=512, swap_mb=64, preserve_ephemeral=True)
    assert [spec.role for spec in layout.partitions if spec.keep] == [Role.EPHEMERAL]


@pytest.mark.parametrize(
    ("content", "size"), [(0, MIB), (1, MIB), (MIB, MIB), (MIB + 1, 2 * MIB), (64 * MIB, 64 * MIB)]
)
def test_a_config_drive_has_whole_mebibytes(content: int, size: int) -> None:
    assert config_drive(content).size == Exact(size=size)


def test_the_seed_is_passed_on() -> None:
    assert ironic_layout(seed=b"node").seed == b"node"
    assert ironic_layout().seed is None


def test_every_defect_of_a_request_is_told_at_once() -> None:
    with pytest.raises(LayoutInvalid) as refused:
        ironic_layout(root_mb=-1, swap_mb=-2, ephemeral_mb=-3, config_drive_bytes=-4, ephemeral_format="ntfs")
    assert refused.value.problems == (
        "root_mb is -1: it must not be negative",
        "swap_mb is -2: it must not be negative",
        "ephemeral_mb is -3: it must not be negative",
        "config_drive_bytes is -4: it must not be negative",
        "'ntfs' is not a file system that can be made here",
    )


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"root_mb": 0}, "root_mb is 0: it must be positive"),
        ({"preserve_ephemeral": True}, "preserve_ephemeral without an ephemeral partition"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(arguments: dict[str, int | bool], problem: str) -> None:
    with pytest.raises(LayoutInvalid) as refused:
        ironic_layout(**arguments)  # type: ignore[arg-type]
    assert refused.value.problems == (problem,)


def test_swap_is_no_format_for_an_ephemeral_volume() -> None:
    with pytest.raises(LayoutInvalid, match="'swap' is not a file system"):
        ironic_layout(ephemeral_mb=10, ephemeral_format="swap")
