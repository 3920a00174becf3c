"""A small partitioned disk with the files of a system on it, but no kernel that runs: to try boot loaders on."""

from __future__ import annotations

import fcntl
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from libironic_disk import filesystems
from libironic_disk.grub import BootInstalled, RootPartition
from libironic_disk.machine.disks import disk_io, loop, partition_nodes, sysfs
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.tables.model import TableKind

MIB = 1024 * 1024
BIOS_BOOT = ByteRange(1 * MIB, 2 * MIB)
ESP = ByteRange(2 * MIB, 18 * MIB)
ROOT_START = 20 * MIB

FILES = {
    "/boot/vmlinuz-6.1.0-9-test": b"no kernel at all\n" * 1000,
    "/boot/initrd.img-6.1.0-9-test": b"nor an initrd\n",
    "/boot/vmlinuz-6.1.0-10-test": b"no kernel at all\n" * 1000,
    "/boot/initrd.img-6.1.0-10-test": b"nor an initrd\n",
    "/etc/os-release": b'PRETTY_NAME="It\'s a $test {1} \\"x\\""\n',
}
TITLE = 'It\'s a $test {1} "x"'


@dataclass(frozen=True, kw_only=True)
class SystemDisk:
    """The disk while it is attached; its first MiB is withheld until :meth:`commit`."""

    node: str
    table: TableKind
    sector_size: int
    size: int
    bios_boot: str | None
    esp: str
    root: RootPartition
    head: bytes

    def read(self, offset: int, length: int) -> bytes:
        """Read bytes of the disk, also those that were written through a partition's node."""
        with Path(self.node).open("rb", buffering=0) as file:
            disk_io.forget(file.fileno())
            return os.pread(file.fileno(), length, offset)

    def commit(self, installed: BootInstalled) -> None:
        """Write the first MiB, with what the boot loader has to have there."""
        head = bytearray(self.head)
        for extent in installed.head:
            head[extent.offset : extent.offset + len(extent.data)] = extent.data
        _write_head(self.node, bytes(head))


@contextmanager
def system_disk(
    image: Path,
    *,
    table: TableKind,
    filesystem: FileSystem = FileSystem.EXT4,
    sector_size: int = 512,
    files: Mapping[str, bytes] = FILES,
) -> Iterator[SystemDisk]:
    """Make the disk in a plain file and attach it: a BIOS boot partition on GPT, an ESP, a root with ``files``."""
    size = ROOT_START + 400 * MIB
    with image.open("wb") as file:
        file.truncate(size)
    with loop.attached(str(image), sector_size=sector_size) as node, _locked(node):
        spans = [*([BIOS_BOOT] if table is TableKind.GPT else []), ESP, ByteRange(ROOT_START, size - 2 * MIB)]
        nodes = _partition(node, table, sector_size, spans)
        root = RootPartition(node=nodes[-1], filesystem=filesystem, uuid=str(uuid.uuid4()), partuuid=str(uuid.uuid4()))
        filesystems.make(filesystem, root.node, label="", uuid=root.uuid)
        filesystems.make(FileSystem.VFAT, nodes[-2], label="", uuid="1A2B-3C4D")
        with mounted(root.node, filesystem, read_only=False) as descriptor:
            tree = RootDir(descriptor, tree=root.node)
            for path, data in files.items():
                tree.make_dirs(str(Path(path).parent))
                tree.write_file(path, data)
        with Path(node).open("rb") as disk:
            head = disk.read(MIB)
        _write_head(node, bytes(MIB))
        yield SystemDisk(
            node=node,
            table=table,
            sector_size=sector_size,
            size=size,
            bios_boot=nodes[0] if table is TableKind.GPT else None,
            esp=nodes[-2],
            root=root,
            head=head,
        )


@contextmanager
def _locked(node: str) -> Iterator[None]:
    """Keep udevd from having the kernel read a table that is withheld."""
    with Path(node).open("rb") as disk:
        fcntl.flock(disk, fcntl.LOCK_EX)
        yield


def _partition(node: str, table: TableKind, sector_size: int, spans: list[ByteRange]) -> list[str]:
    types = {TableKind.GPT: (*("21686148-6449-6E6F-744E-656564454649", "U"), "L"), TableKind.MBR: ("ef", "83")}[table]
    lines = [f"label: {'gpt' if table is TableKind.GPT else 'dos'}"] + [
        f"start={span.start // sector_size}, size={span.size // sector_size}, type={kind}"
        for span, kind in zip(spans, types, strict=True)
    ]
    # Without these options sfdisk makes the kernel read the table, and kernels that know no GPT then forget every
    # partition.
    argv = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", node]
    subprocess.run(argv, input="\n".join(lines), text=True, check=True)
    with Path(node).open("rb") as disk:
        for number, span in enumerate(spans, 1):
            partition_nodes.add(disk.fileno(), sysfs.whole_disk(node), number, span)
    return [f"{node}p{number}" for number in range(1, len(spans) + 1)]


def _write_head(node: str, head: bytes) -> None:
    with Path(node).open("r+b", buffering=0) as disk:
        disk.write(head)
        os.fsync(disk.fileno())
