from __future__ import annotations

import pytest

from libironic_disk import grub
from libironic_disk.errors import BootImpossible, KernelParametersInvalid
from libironic_disk.grub import BootPlan, RootPartition
from libironic_disk.machine import process
from libironic_disk.machine.boot import efi_entries
from libironic_disk.machine.boot.efi_entries import Outcome
from libironic_disk.machine.boot.grub_image import Platform
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.roles import Architecture, Firmware
from libironic_disk.pure.tables.model import TableKind

MIB = 1024 * 1024


def plan(
    *,
    firmware: Firmware = Firmware.BIOS,
    architecture: Architecture = Architecture.X86_64,
    table: TableKind = TableKind.GPT,
    sector_size: int = 512,
    first: int = MIB,
    bios_boot: ByteRange | None = ByteRange(MIB, 2 * MIB),  # noqa: B008 - a value
    has_esp: bool = True,
    parameters: str = "",
) -> BootPlan:
    return grub.plan_boot(
        device="/dev/test",
        firmware=firmware,
        architecture=architecture,
        table=table,
        sector_size=sector_size,
        first_partition_start=first,
        bios_boot=bios_boot,
        has_esp=has_esp,
        kernel_parameters=KernelParameters.parse(parameters),
    )


def test_where_the_core_goes() -> None:
    assert plan().core_room == ByteRange(MIB, 2 * MIB)
    assert plan(table=TableKind.MBR).core_room == ByteRange(512, MIB)
    assert plan(table=TableKind.MBR, first=4 * MIB).core_room == ByteRange(512, MIB)
    # A BIOS boot partition that begins in the first MiB is filled up to its end alone: that MiB is written last.
    assert plan(bios_boot=ByteRange(17408, 2 * MIB)).core_room == ByteRange(17408, MIB)
    assert plan(firmware=Firmware.UEFI, sector_size=4096, bios_boot=None).core_room is None


def test_a_plan_says_what_it_is() -> None:
    assert str(plan(parameters='quiet "a=b c"')) == (
        "GRUB i386-pc for bios: a boot sector and a core image in bytes 1048576 to 2097152 (1 MiB); "
        'kernel parameters: quiet "a=b c"'
    )
    assert "EFI/BOOT/BOOTX64.EFI on the EFI system partition" in str(plan(firmware=Firmware.UEFI))
    assert plan(firmware=Firmware.UEFI).platform is Platform.X86_64_EFI


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sector_size": 4096}, "sectors have 4096 bytes"),
        ({"bios_boot": None}, "BIOS boot partition"),
        ({"bios_boot": ByteRange(MIB, MIB + 65536)}, "in the BIOS boot partition, which has 64 KiB"),
        ({"bios_boot": ByteRange(1000 * 1024, 4 * MIB)}, "which has 24 KiB"),
        ({"table": TableKind.MBR, "first": 63 * 512}, "gap before the first partition, which has 31 KiB"),
        ({"table": TableKind.MBR, "first": 0}, "gap before the first partition, which has 0 B"),
        ({"firmware": Firmware.UEFI, "has_esp": False}, "EFI system partition"),
        ({"architecture": Architecture.AARCH64}, "no GRUB here for bios on aarch64"),
        ({"firmware": Firmware.UEFI, "architecture": Architecture.S390X}, "no GRUB here for uefi on s390x"),
    ],
)
def test_what_can_not_boot_is_refused_beforehand(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(BootImpossible, match=reason) as caught:
        plan(**changes)  # type: ignore[arg-type]
    assert caught.value.device == "/dev/test"


def test_parameters_that_grub_would_change_are_refused_beforehand() -> None:
    with pytest.raises(KernelParametersInvalid, match="backslash"):
        plan(parameters="init=/bin/sh\\n")
    assert plan(parameters="x" * 1791)
    with pytest.raises(KernelParametersInvalid, match="1792 bytes"):
        plan(parameters="x" * 1792)


def test_a_root_that_grub_can_not_read_is_refused() -> None:
    root = RootPartition(node="/dev/none", filesystem=FileSystem.VFAT, uuid="1A2B-3C4D", partuuid="x")
    with pytest.raises(BootImpossible, match="vfat"):
        grub.install(plan(), root=root, bios_boot_node="/dev/none")


@pytest.mark.parametrize(("firmware", "missing"), [(Firmware.BIOS, "BIOS boot"), (Firmware.UEFI, "EFI system")])
def test_a_partition_that_was_not_given_is_asked_for_before_anything_else(firmware: Firmware, missing: str) -> None:
    root = RootPartition(node="/dev/none", filesystem=FileSystem.EXT4, uuid="x", partuuid="x")
    with pytest.raises(BootImpossible, match=missing):
        grub.install(plan(firmware=firmware), root=root)


def test_registering_needs_uefi_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    def register(plan: BootPlan) -> Outcome:
        return grub.register(plan, esp_number=1, esp_partuuid="x", label="Ironic").outcome

    monkeypatch.setattr(process, "run", None)
    monkeypatch.setattr(efi_entries, "available", lambda _: False)
    assert register(plan(firmware=Firmware.UEFI)) is Outcome.UNAVAILABLE
    monkeypatch.setattr(efi_entries, "available", lambda _: True)
    bios = BootPlan(
        device="/dev/test",
        firmware=Firmware.BIOS,
        architecture=Architecture.X86_64,
        platform=Platform.I386_PC,
        table=TableKind.MBR,
        core_room=ByteRange(512, MIB),
        kernel_parameters=KernelParameters(),
        timeout=5,
        serial=None,
    )
    assert register(bios) is Outcome.UNAVAILABLE
