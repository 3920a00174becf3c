"""Images of a disk whose last partition has a file system, and what that file system's own program says of it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.units import KIB, MIB
from tests.support import oracles
from tests.support.disks import LoopDisk, attach, looped

SIZE = {FileSystem.EXT4: 24 * MIB, FileSystem.XFS: 320 * MIB, FileSystem.BTRFS: 128 * MIB}
"""How large each image is."""


def rooted_image(path: Path, filesystem: FileSystem, *, label: str, number: int = 1, sector_size: int = 512) -> Path:
    """Make an image whose last partition has a file system with a file in it."""
    size = SIZE[filesystem]
    rows = [f"start={MIB // sector_size}, size={(size - 2 * MIB) // sector_size}"]
    if number > 4:
        rows = [
            f"start={MIB // sector_size}, size={(size - 2 * MIB) // sector_size}, type=f",
            f"start={(MIB + 64 * KIB) // sector_size}, size={(size - 2 * MIB - 64 * KIB) // sector_size}",
        ]
    with path.open("wb") as file:
        file.truncate(size)
    with attach(path, sector_size) as disk:
        argv = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk.node]
        subprocess.run(argv, input="\n".join([f"label: {label}", *rows]), text=True, check=True)
        row = oracles.sfdisk(disk.node).rows[-1]
        with part_of(disk, row.start * sector_size, row.size * sector_size) as node:
            make(filesystem, node)
            with mounted(node, filesystem, read_only=False) as directory:
                RootDir(directory, tree=node).write_file("/file", b"kept")
    return path


def make(filesystem: FileSystem, node: str) -> None:
    match filesystem:
        case FileSystem.XFS:
            oracles.output("mkfs.xfs", "-q", node)
        case FileSystem.BTRFS:
            oracles.output("mkfs.btrfs", "-q", "--mixed", node)
        case _:
            oracles.output("mke2fs", "-q", "-F", "-t", "ext4", node)


@contextmanager
def part_of(disk: LoopDisk, start: int, size: int) -> Iterator[str]:
    """Give a part of a disk as a device of its own."""
    where = ("--offset", str(start), "--sizelimit", str(size), "--sector-size", str(disk.sector_size))
    with looped(disk.node, *where) as node:
        yield node


def bytes_of(filesystem: FileSystem, node: str) -> int:
    """Return how many bytes a file system takes, as its own program says."""
    match filesystem:
        case FileSystem.XFS:
            said = oracles.output("xfs_db", "-r", "-c", "sb 0", "-c", "print dblocks blocksize", node)
            found = re.findall(r"= (\d+)", said)
            return int(found[0]) * int(found[1])
        case FileSystem.BTRFS:
            said = oracles.output("btrfs", "inspect-internal", "dump-super", node)
            (total,) = re.findall(r"^total_bytes\s+(\d+)", said, re.MULTILINE)
            return int(total)
        case _:
            said = oracles.output("dumpe2fs", "-h", node)
            (blocks,) = re.findall(r"^Block count:\s+(\d+)", said, re.MULTILINE)
            (size,) = re.findall(r"^Block size:\s+(\d+)", said, re.MULTILINE)
            return int(blocks) * int(size)
