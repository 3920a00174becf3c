from __future__ import annotations

from pathlib import Path

import pytest

from libironic_disk.errors import ToolMissing
from libironic_disk.machine.boot import grub_image
from libironic_disk.machine.boot.grub_image import Platform
from libironic_disk.pure.boot.grubcfg import early_config

EARLY = early_config("b7a9b1a4-6c45-4a94-a2b6-1f4c1e0d9d3f")


def test_a_bios_core_begins_with_diskboot_and_is_the_same_each_time() -> None:
    core = grub_image.core_image(Platform.I386_PC, EARLY)
    assert (
        core[:512] == (grub_image.MODULES_DIRECTORY / "i386-pc" / "diskboot.img").read_bytes()[:0x1F4] + core[0x1F4:512]
    )
    assert core == grub_image.core_image(Platform.I386_PC, EARLY)
    assert len(grub_image.boot_sector()) == 512


def test_an_efi_core_is_a_program_with_the_config_inside() -> None:
    core = grub_image.core_image(Platform.X86_64_EFI, EARLY)
    assert core[:2] == b"MZ"
    header = int.from_bytes(core[0x3C:0x40], "little")
    assert core[header : header + 6] == b"PE\0\0\x64\x86"
    assert EARLY.encode() in core
    assert b"/boot/grub\0" in core


def test_the_modules_and_their_lists() -> None:
    files = grub_image.module_files(Platform.I386_PC)
    assert {"normal.mod", "linux.mod", "command.lst", "moddep.lst", "fs.lst"} <= files.keys()
    assert not any(name.endswith((".img", ".exec", ".image")) for name in files)
    assert files["linux.mod"][:4] == b"\x7fELF"


@pytest.mark.parametrize(
    ("platform", "package"),
    [
        (Platform.I386_PC, "grub-pc-bin"),
        (Platform.X86_64_EFI, "grub-efi-amd64-bin"),
        (Platform.ARM64_EFI, "grub-efi-arm64-bin"),
    ],
)
def test_a_missing_grub_names_its_package(platform: Platform, package: str, tmp_path: Path) -> None:
    with pytest.raises(ToolMissing) as caught:
        grub_image.core_image(platform, EARLY, modules=tmp_path)
    assert caught.value.package == package
