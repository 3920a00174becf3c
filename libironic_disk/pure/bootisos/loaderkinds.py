"""Which boot loader a program is: by words that are in each of them."""

from __future__ import annotations

from typing import Final

from libironic_disk.pure.bootisos.model import LoaderKind

LOOKED_AT: Final = 4 * 1024 * 1024
"""Bytes of a program that are looked at; GRUB's with many modules have about 3 MiB."""

# Whole programs of others hold some of these words: shim those of its own alone, iPXE and systemd-boot none of GRUB's.
_IN_EFI_PROGRAMS: Final = (
    (b"#### LoaderInfo: systemd-boot", LoaderKind.SYSTEMD_BOOT),
    (b"UEFI SHIM", LoaderKind.SHIM),
    (b"grub_mod_init", LoaderKind.GRUB),
    (b"SYSLINUX", LoaderKind.SYSLINUX),
    (b"iPXE", LoaderKind.IPXE),
)
_IN_BIOS_IMAGES: Final = (
    (b"ISOLINUX", LoaderKind.ISOLINUX),
    (b"SYSLINUX", LoaderKind.SYSLINUX),
    (b"iPXE", LoaderKind.IPXE),
)
# The rest of GRUB's image is compressed. These are messages of its first sectors: cdboot.img, boot.img, lnxboot.img.
_GRUB_FOR_BIOS: Final = (b"no boot info", b"GRUB")
_FIRST_SECTORS: Final = 8192
_LINUX_MAGIC: Final = b"MZ"


def kind_of_efi_program(program: bytes) -> LoaderKind | None:
    """Tell which loader an EFI program is; None if it is no program at all."""
    if not program.startswith(_LINUX_MAGIC):
        return None
    return next((kind for words, kind in _IN_EFI_PROGRAMS if words in program), LoaderKind.UNKNOWN)


def kind_of_bios_image(image: bytes) -> LoaderKind:
    """Tell which loader is in a boot image for BIOS."""
    if any(words in image[:_FIRST_SECTORS] for words in _GRUB_FOR_BIOS):
        return LoaderKind.GRUB
    return next((kind for words, kind in _IN_BIOS_IMAGES if words in image), LoaderKind.UNKNOWN)
