"""Whole-disk images that firmware of both kinds would start, with a root at the end that can grow."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import KIB, MIB
from tests.support import oracles
from tests.support.disks import attach
from tests.support.rooted_images import make, part_of

_ESP = 4 * MIB
_ROOT = {FileSystem.EXT4: 16 * MIB, FileSystem.XFS: 320 * MIB, FileSystem.BTRFS: 280 * MIB}
_TYPES = {TableKind.GPT: ("uefi", "linux"), TableKind.MBR: ("ef", "83")}
_LABELS = {TableKind.GPT: "gpt", TableKind.MBR: "dos"}


def size_of(filesystem: FileSystem) -> int:
    """Return how many bytes an image with this root has."""
    return MIB + _ESP + _ROOT[filesystem] + MIB


def bootable_image(
    path: Path, name: str, *, table: TableKind, sector_size: int = 512, filesystem: FileSystem = FileSystem.EXT4
) -> Path:
    """Make an image with boot code, an EFI system partition with a loader, and a root, all of which say its name."""
    esp, root = ByteRange(MIB, MIB + _ESP), ByteRange(MIB + _ESP, MIB + _ESP + _ROOT[filesystem])
    rows = [
        f"start={span.start // sector_size}, size={span.size // sector_size}, type={kind}"
        for span, kind in zip((esp, root), _TYPES[table], strict=True)
    ]
    with path.open("wb") as file:
        file.truncate(size_of(filesystem))
    with attach(path, sector_size) as disk:
        argv = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never", disk.node]
        script = "\n".join([f"label: {_LABELS[table]}", *rows])
        subprocess.run(argv, input=script, text=True, check=True)
        with part_of(disk, esp.start, esp.size) as node:
            _make_esp(node, path.with_suffix(".efi"), name, sector_size)
        with part_of(disk, root.start, root.size) as node:
            make(filesystem, node)
            with mounted(node, filesystem, read_only=False) as directory:
                tree = RootDir(directory, tree=node)
                for number in range(8):
                    tree.write_file(f"/{name}{number}", _noise(name, number, 90 * KIB))
        subprocess.run(["blockdev", "--flushbufs", disk.node], check=True)
    with path.open("r+b") as file:
        file.write(b"\xeb\x63\x90" + _noise(name, 100, 400))
        # The gap before the first partition, where GRUB puts its core image on an MBR.
        file.seek(128 * KIB)
        file.write(_noise(name, 101, 64 * KIB))
    return path


def _make_esp(node: str, loader: Path, name: str, sector_size: int) -> None:
    loader.write_bytes(_noise(name, 102, 300 * KIB))
    oracles.output("mkfs.vfat", "-S", str(sector_size), node)
    oracles.output("mmd", "-i", node, "::/EFI", "::/EFI/BOOT")
    oracles.output("mcopy", "-i", node, str(loader), "::/EFI/BOOT/BOOTX64.EFI")


def _noise(name: str, number: int, length: int) -> bytes:
    return random.Random(f"{name} {number}").randbytes(length)
