from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.systemdisk import BIOS_BOOT, FILES, MIB, TITLE, SystemDisk, system_disk
from libironic_disk import grub
from libironic_disk.errors import BootImpossible, Cancelled, DeviceFailed, PathFailed
from libironic_disk.events import Cancellation
from libironic_disk.grub import BootPlan, SerialConsole
from libironic_disk.machine.boot import esp, grub_image
from libironic_disk.machine.boot.grub_image import Platform
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.boot.grubcfg import early_config
from libironic_disk.pure.boot.grubembed import BOOT_CODE_SIZE, embed
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.roles import Architecture, Firmware
from libironic_disk.pure.tables.model import TableKind
from tests.support import oracles

pytestmark = pytest.mark.loopdevice

CHECKS = {
    FileSystem.EXT4: ["e2fsck", "-f", "-n"],
    FileSystem.XFS: ["xfs_repair", "-n"],
    FileSystem.BTRFS: ["btrfs", "check", "--readonly"],
}


def plan_for(disk: SystemDisk, firmware: Firmware) -> BootPlan:
    return grub.plan_boot(
        device=disk.node,
        firmware=firmware,
        architecture=Architecture.X86_64,
        table=disk.table,
        sector_size=disk.sector_size,
        first_partition_start=MIB,
        bios_boot=BIOS_BOOT if disk.bios_boot else None,
        has_esp=True,
        kernel_parameters=KernelParameters.parse("console=ttyS0 quiet"),
        timeout=3,
        serial=SerialConsole(),
    )


def install(disk: SystemDisk, firmware: Firmware = Firmware.BIOS) -> grub.BootInstalled:
    plan = plan_for(disk, firmware)
    return grub.install(plan, root=disk.root, bios_boot_node=disk.bios_boot, esp_node=disk.esp)


def files_on(disk: SystemDisk, look: Callable[[RootDir], object]) -> None:
    with mounted(disk.root.node, disk.root.filesystem) as descriptor:
        look(RootDir(descriptor, tree=disk.root.node))


def as_grub_reads(disk: SystemDisk, path: str) -> bytes:
    """A file of the root file system, read by GRUB's own code."""
    return oracles.grub_cat(disk.root.node, path)


@pytest.mark.parametrize("table", list(TableKind))
def test_the_bytes_are_those_of_grub_bios_setup(tmp_path: Path, table: TableKind) -> None:
    with system_disk(tmp_path / "disk", table=table) as disk:
        core = grub_image.core_image(Platform.I386_PC, early_config(disk.root.uuid))
        start = BIOS_BOOT.start if table is TableKind.GPT else 512
        ours = embed(grub_image.boot_sector(), core, core_lba=start // 512)

        # It needs the table on the disk, and its images on a mounted file system of that disk.
        disk.commit(grub.BootInstalled(head=(), entries=(), default=""))
        script = (
            'mount "$1" "$2" && mkdir "$2/g" && cp /usr/lib/grub/i386-pc/boot.img "$3" "$2/g" &&'
            ' /usr/lib/grub/i386-pc/grub-bios-setup --no-rs-codes --directory="$2/g" "$4"'
        )
        mount_point, image = tmp_path / "mnt", tmp_path / "core.img"
        mount_point.mkdir()
        image.write_bytes(core)
        arguments = [disk.root.node, str(mount_point), str(image), disk.node]
        subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", *arguments], check=True, timeout=60)

        assert disk.read(0, BOOT_CODE_SIZE) == ours.boot_code
        assert disk.read(start, len(ours.core)) == ours.core


@pytest.mark.parametrize("filesystem", list(CHECKS))
@pytest.mark.parametrize(
    ("firmware", "table", "sector_size"),
    [
        (Firmware.BIOS, TableKind.GPT, 512),
        (Firmware.BIOS, TableKind.MBR, 512),
        (Firmware.UEFI, TableKind.GPT, 4096),
        (Firmware.UEFI, TableKind.MBR, 512),
    ],
)
def test_installed_and_the_first_mib_untouched(
    tmp_path: Path, firmware: Firmware, table: TableKind, sector_size: int, filesystem: FileSystem
) -> None:
    with system_disk(tmp_path / "disk", table=table, filesystem=filesystem, sector_size=sector_size) as disk:
        done = install(disk, firmware)
        platform = plan_for(disk, firmware).platform
        core = grub_image.core_image(platform, early_config(disk.root.uuid))

        assert disk.read(0, MIB) == bytes(MIB)
        where = [(extent.offset, len(extent.data)) for extent in done.head]
        if firmware is Firmware.UEFI:
            assert where == []
            assert esp.read_file(disk.esp, "EFI/BOOT/BOOTX64.EFI") == core
            subprocess.run(["fsck.vfat", "-n", disk.esp], check=True, stdout=subprocess.DEVNULL)
        elif table is TableKind.GPT:
            assert where == [(0, BOOT_CODE_SIZE)]
            # Behind its first sector, which says where the others are, the core is as it was made.
            assert disk.read(BIOS_BOOT.start + 512, len(core) - 512) == core[512:]
        else:
            assert where == [(0, BOOT_CODE_SIZE), (512, -(-len(core) // 512) * 512)]

        assert [entry.id for entry in done.entries] == ["linux-6.1.0-10-test", "linux-6.1.0-9-test"]
        assert (done.default, done.notes) == ("linux-6.1.0-10-test", ())
        newest = done.entries[0]
        assert newest.title == TITLE
        assert str(newest.parameters) == f"root=UUID={disk.root.uuid} ro console=ttyS0 quiet"

        menu = as_grub_reads(disk, "/boot/grub/grub.cfg")
        subprocess.run(["grub-script-check"], input=menu, check=True)
        assert f"linux '/boot/vmlinuz-6.1.0-10-test' 'root=UUID={disk.root.uuid}' 'ro'".encode() in menu
        normal = (grub_image.MODULES_DIRECTORY / platform / "normal.mod").read_bytes()
        assert as_grub_reads(disk, f"/boot/grub/{platform}/normal.mod") == normal
        assert as_grub_reads(disk, newest.kernel) == FILES[newest.kernel]
        subprocess.run([*CHECKS[filesystem], disk.root.node], check=True, capture_output=True)


def test_installing_twice_keeps_the_menu_of_the_image(tmp_path: Path) -> None:
    files = {**FILES, "/boot/grub/grub.cfg": b"the image's own\n"}
    with system_disk(tmp_path / "disk", table=TableKind.GPT, files=files) as disk:
        first = install(disk)
        assert install(disk) == first
        assert as_grub_reads(disk, "/boot/grub/grub.cfg.image") == b"the image's own\n"
        assert as_grub_reads(disk, "/boot/grub/grub.cfg").startswith(b"# libironic_disk")


def test_kernels_without_initrd_find_their_root_by_partition(tmp_path: Path) -> None:
    files = {"/boot/vmlinuz-6.1": b"kernel"}
    with system_disk(tmp_path / "disk", table=TableKind.GPT, files=files) as disk:
        done = install(disk)
        assert str(done.entries[0].parameters) == f"root=PARTUUID={disk.root.partuuid} ro console=ttyS0 quiet"
        assert done.entries[0].title == "Linux"
        assert disk.root.partuuid in done.notes[0]
        assert b"initrd" not in as_grub_reads(disk, "/boot/grub/grub.cfg")


@pytest.mark.parametrize(
    "files", [{"/etc/os-release": b""}, {"/boot/grub/x": b""}, {"/boot/vmlinuz-1/file": b""}], ids=["", "boot", "dir"]
)
def test_an_image_without_a_kernel_is_refused_and_left_as_it_was(tmp_path: Path, files: dict[str, bytes]) -> None:
    with system_disk(tmp_path / "disk", table=TableKind.GPT, files=files) as disk:
        with pytest.raises(BootImpossible, match="vmlinuz-VERSION"):
            install(disk)
        files_on(disk, lambda tree: pytest.fail("written") if tree.exists("/boot/grub/grub.cfg") else None)
        assert disk.read(BIOS_BOOT.start, MIB) == bytes(MIB)


def test_a_btrfs_whose_root_is_a_subvolume_is_refused_by_name(tmp_path: Path) -> None:
    with system_disk(tmp_path / "disk", table=TableKind.GPT, filesystem=FileSystem.BTRFS, files={}) as disk:
        script = 'mount "$1" "$2" && btrfs subvolume create "$2/@" && mkdir "$2/@/boot" && touch "$2/@/boot/vmlinuz-1"'
        script += ' && btrfs subvolume set-default "$2/@"'
        (tmp_path / "mnt").mkdir()
        argv = ["unshare", "--mount", "sh", "-c", script, "sh", disk.root.node, str(tmp_path / "mnt")]
        subprocess.run(argv, check=True, capture_output=True)
        with pytest.raises(BootImpossible, match="at the top of its btrfs"):
            install(disk)


def test_links_in_the_image_lead_nowhere_on_this_machine(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with system_disk(tmp_path / "disk", table=TableKind.GPT) as disk:
        script = 'mount "$1" "$2" && ln -s "$3" "$2/boot/grub" && ln -sf /etc/hostname "$2/etc/os-release"'
        (tmp_path / "mnt").mkdir()
        argv = ["unshare", "--mount", "sh", "-c", script, "sh", disk.root.node, str(tmp_path / "mnt"), str(outside)]
        subprocess.run(argv, check=True)
        with pytest.raises(PathFailed) as caught:
            install(disk)
        assert caught.value.path == "/boot/grub"
        assert list(outside.iterdir()) == []


def test_cancelling_and_failing_leave_no_loader(tmp_path: Path) -> None:
    with system_disk(tmp_path / "disk", table=TableKind.GPT) as disk:
        cancel = Cancellation()
        cancel.cancel()
        with pytest.raises(Cancelled):
            grub.install(plan_for(disk, Firmware.BIOS), root=disk.root, bios_boot_node=disk.bios_boot, cancel=cancel)
        with pytest.raises(DeviceFailed):
            grub.install(plan_for(disk, Firmware.BIOS), root=disk.root, bios_boot_node=f"{disk.node}p99")
        assert disk.read(0, BIOS_BOOT.end) == bytes(BIOS_BOOT.end)
