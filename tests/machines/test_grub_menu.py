"""Our GRUB, started by real firmware: it finds its menu, shows it, and hands the default entry's kernel to its loader.

The kernel is none, which GRUB must find out by itself; a whole system is booted elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.qemu import booted
from lab.systemdisk import BIOS_BOOT, MIB, TITLE, system_disk
from libironic_disk import grub
from libironic_disk.grub import SerialConsole
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.roles import Architecture, Firmware
from libironic_disk.pure.tables.model import TableKind

pytestmark = pytest.mark.machine


@pytest.mark.parametrize(
    ("firmware", "table", "filesystem", "sector_size"),
    [
        (Firmware.BIOS, TableKind.GPT, FileSystem.XFS, 512),
        (Firmware.BIOS, TableKind.MBR, FileSystem.EXT4, 512),
        (Firmware.UEFI, TableKind.GPT, FileSystem.BTRFS, 4096),
        (Firmware.UEFI, TableKind.MBR, FileSystem.EXT4, 512),
    ],
)
def test_the_menu_is_ours(
    tmp_path: Path, firmware: Firmware, table: TableKind, filesystem: FileSystem, sector_size: int
) -> None:
    image = tmp_path / "disk"
    with system_disk(image, table=table, filesystem=filesystem, sector_size=sector_size) as disk:
        plan = grub.plan_boot(
            device=disk.node,
            firmware=firmware,
            architecture=Architecture.X86_64,
            table=table,
            sector_size=sector_size,
            first_partition_start=MIB,
            bios_boot=BIOS_BOOT if disk.bios_boot else None,
            has_esp=True,
            timeout=1,
            serial=SerialConsole(),
        )
        installed = grub.install(plan, root=disk.root, bios_boot_node=disk.bios_boot, esp_node=disk.esp)
        disk.commit(installed)
    with booted(image, firmware=firmware, sector_size=sector_size, memory_mib=256) as machine:
        machine.wait_for(f"*{TITLE}", timeout=60)
        machine.wait_for(f"Booting `{TITLE}'", timeout=30)
        said = machine.wait_for("error: invalid", timeout=30)
    assert f"{TITLE}, with Linux 6.1.0-9-test" in said
    # Any error before that would be about a file that isn't there or can't be read.
    assert said.index("error:") == said.index("error: invalid")


def test_a_disk_without_its_first_mib_does_not_start_grub(tmp_path: Path) -> None:
    image = tmp_path / "disk"
    with system_disk(image, table=TableKind.GPT) as disk:
        plan = grub.plan_boot(
            device=disk.node,
            firmware=Firmware.BIOS,
            architecture=Architecture.X86_64,
            table=TableKind.GPT,
            sector_size=512,
            first_partition_start=MIB,
            bios_boot=BIOS_BOOT,
            has_esp=True,
        )
        grub.install(plan, root=disk.root, bios_boot_node=disk.bios_boot)
    with booted(image, memory_mib=256) as machine:
        said = machine.wait_for("No bootable device", timeout=30)
    assert "GRUB" not in said
