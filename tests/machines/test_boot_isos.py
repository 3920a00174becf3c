"""Built ISOs boot in each firmware, as a CD and as a disk, and the kernel gets its parameters as they were given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lab.isolayouts import booting_system
from lab.isomachine import Medium, command_line
from libironic_disk.machine.isos.building import build
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.bootisos.spec import BootIsoSpec
from libironic_disk.pure.roles import Firmware

pytestmark = [pytest.mark.machine, pytest.mark.timeout(900)]

BIOS, UEFI = Firmware
CD, USB, DISK = Medium

# What each would mean something else to GRUB's script language, to a shell or to the kernel's own splitting.
PARAMETERS = KernelParameters(
    words=(
        *("console=ttyS0", "quiet", "end=1;halt", "dollar=$2G", "variable=${root}", "braces={a,b}", "hash=#no"),
        *("space=two words", "pipe=|&<>", "twice=1", "between", "twice=2", "*", "~", "!", "[x]", "quoted=`id`", "ünï"),
        *("at=@grub@", "--", "---", "for.init=^%"),
    )
)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> BootIsoSpec:
    folder = tmp_path_factory.mktemp("system")
    system = booting_system()
    (folder / "vmlinuz").write_bytes(system.kernel)
    (folder / "initrd").write_bytes(system.initrd)
    return BootIsoSpec(kernel=folder / "vmlinuz", ramdisk=folder / "initrd", parameters=PARAMETERS)


@pytest.fixture(scope="module")
def ours(spec: BootIsoSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a GRUB that was made here."""
    image = tmp_path_factory.mktemp("image") / "boot.iso"
    build(spec, image)
    return image


@pytest.fixture(scope="module")
def signed(spec: BootIsoSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the distribution's shim and GRUB."""
    image = tmp_path_factory.mktemp("image") / "boot.iso"
    build(replace(spec, signed=True), image)
    return image


@pytest.mark.parametrize(("firmware", "medium"), [(BIOS, CD), (BIOS, USB), (UEFI, CD), (UEFI, DISK)])
def test_a_built_iso_boots_with_its_parameters(ours: Path, firmware: Firmware, medium: Medium) -> None:
    assert command_line(ours, firmware, medium) == f"BOOT_IMAGE=/boot/vmlinuz {PARAMETERS}"


# The signed GRUB finds the menu in two ways: in the CD's tree, and from the disk's EFI system partition.
@pytest.mark.parametrize("medium", [CD, USB])
def test_a_signed_one_boots_where_secure_boot_is_on(signed: Path, medium: Medium) -> None:
    assert command_line(signed, UEFI, medium, secure_boot=True) == f"BOOT_IMAGE=/boot/vmlinuz {PARAMETERS}"
