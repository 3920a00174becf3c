"""The signed loader of this machine's packages on an ESP, read back by mtools."""

from __future__ import annotations

from pathlib import Path

import pytest

from libironic_disk import filesystems, grub
from libironic_disk.errors import BootImpossible, ToolMissing
from libironic_disk.machine.boot import esp, signed_loader
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.roles import Architecture, Firmware
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import MIB
from tests.conftest import Bench

pytestmark = pytest.mark.loopdevice

UUID = "aaaaaaaa-0000-4000-8000-000000000001"


def plan(architecture: Architecture = Architecture.X86_64) -> grub.BootPlan:
    return grub.plan_boot(
        device="/dev/sda",
        firmware=Firmware.UEFI,
        architecture=architecture,
        table=TableKind.GPT,
        sector_size=512,
        first_partition_start=MIB,
        bios_boot=None,
        has_esp=True,
        signed=True,
    )


def test_the_packages_own_files_and_a_few_lines_that_lead_to_ours(bench: Bench) -> None:
    node = bench.disk(64 * MIB, 512).node
    filesystems.make(FileSystem.VFAT, node, label="", uuid="1A2B-3C4D")
    assert "signed, EFI/BOOT/BOOTX64.EFI" in str(plan())
    assert grub.install_loader(plan(), uuid=UUID, esp_node=node) == ()
    for path, source in {
        "EFI/BOOT/BOOTX64.EFI": "/usr/lib/shim/shimx64.efi.signed",
        "EFI/BOOT/grubx64.efi": "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
    }.items():
        assert esp.read_file(node, path) == Path(source).read_bytes()
    stub = esp.read_file(node, "EFI/debian/grub.cfg").decode()
    assert UUID in stub
    assert stub.endswith("configfile $prefix/grub.cfg\n")


@pytest.mark.parametrize("missing", ["shim-signed", "grub-efi-amd64-signed"])
def test_a_package_that_is_missing_is_named(tmp_path: Path, missing: str) -> None:
    files = {
        "shim-signed": "usr/lib/shim/shimx64.efi.signed",
        "grub-efi-amd64-signed": "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
    }
    for package, path in files.items():
        if package != missing:
            (tmp_path / path).parent.mkdir(parents=True)
            (tmp_path / path).write_bytes(b"\0/EFI/debian\0")
    with pytest.raises(ToolMissing) as caught:
        signed_loader.require("/dev/sda", Architecture.X86_64, root=tmp_path)
    assert caught.value.package == missing
    (tmp_path / files[missing]).parent.mkdir(parents=True)
    (tmp_path / files[missing]).write_bytes(b"\0/EFI/debian\0")
    signed_loader.require("/dev/sda", Architecture.X86_64, root=tmp_path)


@pytest.mark.parametrize("grub", [b"", b"\0/EFI/debian\0 \0/EFI/ubuntu\0"])
def test_a_grub_that_does_not_say_where_it_looks_is_refused(tmp_path: Path, grub: bytes) -> None:
    for path in ("usr/lib/shim/shimx64.efi.signed", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(grub)
    with pytest.raises(BootImpossible, match=r"doesn't say where its grub\.cfg"):
        signed_loader.require("/dev/sda", Architecture.X86_64, root=tmp_path)


def test_an_architecture_without_one_is_refused() -> None:
    with pytest.raises(BootImpossible, match="no signed loader for riscv64"):
        signed_loader.require("/dev/sda", Architecture.RISCV64)
