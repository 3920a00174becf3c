"""GRUB reads what it is to boot, or the deployment ends before the disk can be started from."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.systemdisk import BIOS_BOOT, FILES, SystemDisk, system_disk
from libironic_disk import deploy, grub
from libironic_disk.errors import BootImpossible, DeviceFailed, PathFailed
from libironic_disk.machine import process
from libironic_disk.machine.boot import grub_reading
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.roles import Architecture, Firmware
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.request import DeployRequest
from libironic_disk.units import GIB, MIB
from tests.conftest import Bench
from tests.support import oracles
from tests.support.disks import LoopDisk, attach
from tests.support.disks import mounted as mounted_by_mount
from tests.support.exports import exported

pytestmark = pytest.mark.loopdevice

CONTENTS = {
    "/boot/grub/grub.cfg": b"a menu\n" * 20,
    "/boot/vmlinuz-6.1": os.urandom(2_000_003),
    "/boot/initrd.img-6.1": os.urandom(7_000_001),
    "/boot/empty": b"",
}


def make(bench: Bench, *argv: str) -> LoopDisk:
    """Make a file system on a whole disk."""
    disk = bench.disk(400 * MIB, 512)
    subprocess.run([*argv, disk.node], check=True, capture_output=True)
    return disk


def fill(node: str, filesystem: FileSystem, contents: Mapping[str, bytes] = CONTENTS) -> dict[str, int]:
    """Write the files, and return their sums as the kernel reads them."""
    with mounted(node, filesystem, read_only=False) as descriptor:
        tree = RootDir(descriptor, tree=node)
        for path, data in contents.items():
            tree.make_dirs(str(Path(path).parent))
            tree.write_file(path, data)
        return grub_reading.checksums(tree, contents)


def test_a_disk_that_cannot_be_read_is_no_fault_of_the_image(bench: Bench) -> None:
    disk = make(bench, "mke2fs", "-q", "-t", "ext4", "-b", "4096")
    path = "/boot/vmlinuz-6.1"
    expected = fill(disk.node, FileSystem.EXT4)[path]
    first = int(oracles.output("debugfs", "-R", f"blocks {path}", disk.node).split()[0])
    oracles.output("blockdev", "--flushbufs", disk.node)
    with unreadable(disk.file, first * 4096 // 512) as node:
        words = f"reading {path} with GRUB .* from {node} failed: .*Input/output error"
        with pytest.raises(DeviceFailed, match=words):
            grub_reading.check(node, FileSystem.EXT4, {path: expected})


@contextmanager
def unreadable(file: Path, sector: int) -> Iterator[str]:
    """Show a file as a disk of which one sector of 512 bytes can't be read.

    A file that ends before it would do for some kernels; others read zeros behind the end of a loop device's file.
    """
    door = file.with_suffix(".door")
    door.touch()
    nodes = (
        f"driver=file,node-name=disk,filename={file}",
        f"driver=blkdebug,node-name=seen,image=disk,"
        f"inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.sector={sector}",
    )
    try:
        with exported(door, file.stat().st_size, *nodes), attach(door, 512) as disk:
            yield disk.node
    finally:
        door.unlink()


@pytest.mark.parametrize(
    "mkfs",
    [
        "mke2fs -q -t ext2",
        "mke2fs -q -t ext3",
        "mke2fs -q -t ext4",
        "mke2fs -q -t ext4 -b 1024 -I 128",
        "mke2fs -q -t ext4 -O metadata_csum_seed,orphan_file,encrypt,large_dir",
        "mkfs.xfs -q",
        "mkfs.xfs -q -i nrext64=1",
        "mkfs.btrfs -q",
        "mkfs.btrfs -q --csum xxhash",
    ],
)
def test_what_grub_reads_passes_and_a_wrong_sum_does_not(bench: Bench, mkfs: str) -> None:
    disk = make(bench, *mkfs.split())
    filesystem = FileSystem(oracles.blkid(disk.node)["TYPE"])
    expected = fill(disk.node, filesystem)
    before = disk.digest()
    grub_reading.check(disk.node, filesystem, expected)
    for path in expected:
        with pytest.raises(BootImpossible, match=f"misreads {path} in the image's {filesystem}"):
            grub_reading.check(disk.node, filesystem, expected | {path: expected[path] ^ 1})
    assert disk.digest() == before


# casefold is another, but few kernels have it: where they don't, the mount fails already.
@pytest.mark.parametrize("feature", ["bigalloc", "inline_data", "ea_inode"])
def test_features_that_only_the_kernel_knows(bench: Bench, feature: str) -> None:
    disk = make(bench, *f"mke2fs -q -t ext4 -O {feature}".split())
    expected = fill(disk.node, FileSystem.EXT4)
    with pytest.raises(BootImpossible) as caught:
        grub_reading.check(disk.node, FileSystem.EXT4, expected)
    assert caught.value.device == disk.node
    version = oracles.output("grub-fstest", "--version").split()[-1]
    assert f"GRUB {version} can't read /boot/grub/grub.cfg from the image's ext4 (" in caught.value.reason
    assert "unknown filesystem" in caught.value.reason


@pytest.mark.parametrize(
    ("mkfs", "filesystem", "hole"),
    [("mke2fs -q -t ext4", FileSystem.EXT4, 0), ("mkfs.btrfs -q -O no-holes", FileSystem.BTRFS, MIB)],
)
def test_holes_that_only_the_kernel_reads(
    bench: Bench, tmp_path: Path, mkfs: str, filesystem: FileSystem, hole: int
) -> None:
    disk = make(bench, *mkfs.split())
    with mounted_by_mount(disk.node, tmp_path / "mnt") as top, (top / "kernel").open("wb") as file:
        file.write(b"x" * hole)
        file.seek(MIB, os.SEEK_CUR)
        file.write(b"y" * MIB)
    with mounted(disk.node, filesystem) as descriptor:
        expected = grub_reading.checksums(RootDir(descriptor, tree=disk.node), ["/kernel"])
    with pytest.raises(BootImpossible, match=r"can't read /kernel from .*read error at offset .*extent"):
        grub_reading.check(disk.node, filesystem, expected)


def test_a_file_that_is_not_there(bench: Bench) -> None:
    disk = make(bench, "mkfs.xfs", "-q")
    fill(disk.node, FileSystem.XFS)
    with pytest.raises(BootImpossible, match="file `/boot/none' not found"):
        grub_reading.check(disk.node, FileSystem.XFS, {"/boot/none": 0})


@pytest.mark.parametrize("filesystem", [FileSystem.EXT4, FileSystem.XFS, FileSystem.BTRFS])
def test_pages_from_before_the_mount_are_not_what_is_judged(tmp_path: Path, filesystem: FileSystem) -> None:
    with (
        system_disk(tmp_path / "disk", table=TableKind.GPT, filesystem=filesystem) as disk,
        # As udevd may have it, all the time.
        Path(disk.root.node).open("rb", buffering=0) as held,
    ):
        while held.read(MIB):
            pass
        assert install(disk).entries


def test_grub_reads_as_nobody_and_may_only_read() -> None:
    status = process.run(*grub_reading._AS_NOBODY, "cat", "/proc/self/status", timeout=10).stdout.decode()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["65534"] * 4
    assert fields["Gid"].split() == ["65534"] * 4
    assert fields["Groups"].split() == []
    assert fields["NoNewPrivs"] == "1"
    cap_dac_read_search = 1 << 2
    for held in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
        assert int(fields[held], 16) == cap_dac_read_search


def install(disk: SystemDisk, firmware: Firmware = Firmware.BIOS) -> grub.BootInstalled:
    """Install our GRUB."""
    plan = grub.plan_boot(
        device=disk.node,
        firmware=firmware,
        architecture=Architecture.X86_64,
        table=disk.table,
        sector_size=disk.sector_size,
        first_partition_start=MIB,
        bios_boot=BIOS_BOOT,
        has_esp=True,
    )
    return grub.install(plan, root=disk.root, bios_boot_node=disk.bios_boot, esp_node=disk.esp)


@pytest.mark.parametrize("firmware", list(Firmware))
def test_no_loader_is_placed_for_what_grub_can_not_read(tmp_path: Path, firmware: Firmware) -> None:
    with system_disk(tmp_path / "disk", table=TableKind.GPT) as disk:
        argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "inline_data", "-U", disk.root.uuid, disk.root.node]
        subprocess.run(argv, check=True)
        fill(disk.root.node, FileSystem.EXT4, FILES)
        with pytest.raises(BootImpossible, match="unknown filesystem"):
            install(disk, firmware)
        assert disk.read(0, BIOS_BOOT.end) == bytes(BIOS_BOOT.end)
        assert oracles.output("mdir", "-b", "-i", str(disk.esp), "::/").split() == []


def test_an_initrd_that_is_read_only_by_the_kernel(tmp_path: Path) -> None:
    with system_disk(tmp_path / "disk", table=TableKind.GPT) as disk:
        newest = "boot/initrd.img-6.1.0-10-test"
        with mounted_by_mount(disk.root.node, tmp_path / "mnt") as top:
            os.truncate(top / newest, 0)
            os.truncate(top / newest, MIB)
        with pytest.raises(BootImpossible, match=f"can't read /{newest} .*read error"):
            install(disk)


def test_a_damaged_kernel_is_found_by_its_path(tmp_path: Path) -> None:
    marked = b"this kernel is going to be damaged" * 1000
    files = {**FILES, "/boot/vmlinuz-6.1.0-10-test": marked}
    with system_disk(tmp_path / "disk", table=TableKind.GPT, filesystem=FileSystem.BTRFS, files=files) as disk:
        with Path(disk.root.node).open("r+b") as device:
            at = device.read().index(marked[:64])
            device.seek(at)
            device.write(b"THAT")
        with pytest.raises(PathFailed, match=r"/boot/vmlinuz-6.1.0-10-test .*Input/output error"):
            install(disk)


def test_a_deployment_of_such_an_image_leaves_a_disk_that_does_not_boot(bench: Bench, tmp_path: Path) -> None:
    for name, content in FILES.items():
        path = tmp_path / "tree" / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    image = tmp_path / "image.raw"
    argv = ["mke2fs", "-q", "-t", "ext4", "-O", "bigalloc", "-d", str(tmp_path / "tree"), str(image), "64M"]
    subprocess.run(argv, check=True, capture_output=True)
    disk = bench.disk(GIB, 512)
    with pytest.raises(BootImpossible, match=r"unknown filesystem.*does not boot"):
        deploy.deploy(DeployRequest(device=disk.node, image=image))
    assert not oracles.has_table(disk.node)
    with disk.file.open("rb") as file:
        assert file.read(MIB) == bytes(MIB)
