"""Boot loaders, as distributions ship them, are known by their bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import cache_directory, isoimages
from lab.isoimages import Packaged
from libironic_disk.pure.bootisos.loaderkinds import LOOKED_AT, kind_of_bios_image, kind_of_efi_program
from libironic_disk.pure.bootisos.model import LoaderKind


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/usr/lib/shim/shimx64.efi.signed", LoaderKind.SHIM),
        ("/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", LoaderKind.GRUB),
        ("/usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed", LoaderKind.GRUB),
        ("/usr/lib/shim/mmx64.efi.signed", LoaderKind.UNKNOWN),
        ("/usr/lib/ISOLINUX/isolinux.bin", None),
    ],
)
def test_programs_for_uefi(path: str, kind: LoaderKind | None) -> None:
    assert kind_of_efi_program(Path(path).read_bytes()[:LOOKED_AT]) is kind


def test_ipxe_for_uefi() -> None:
    packages = isoimages.packaged(cache_directory(), Packaged.IPXE).parent
    assert kind_of_efi_program((packages / "ipxe.efi").read_bytes()) is LoaderKind.IPXE


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/usr/lib/ISOLINUX/isolinux.bin", LoaderKind.ISOLINUX),
        ("/usr/lib/grub/i386-pc/cdboot.img", LoaderKind.GRUB),
        ("/usr/lib/grub/i386-pc/boot.img", LoaderKind.GRUB),
        ("/usr/lib/shim/shimx64.efi.signed", LoaderKind.UNKNOWN),
    ],
)
def test_images_for_a_bios(path: str, kind: LoaderKind) -> None:
    assert kind_of_bios_image(Path(path).read_bytes()) is kind
