"""A multiboot partition and the roots of two images, each on a loop device of its own, with kernels that are none."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from libironic_disk import filesystems
from libironic_disk.machine.boot import image_entries, multiboot_directory
from libironic_disk.machine.boot.grub_image import Platform
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.boot import grubenv
from libironic_disk.pure.boot import switching as pure_switching
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.menurecord import ImageRecord, MenuRecord, Place
from libironic_disk.pure.boot.multimenu import ENVIRONMENT, menu_path
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support import oracles

MULTIBOOT_UUID = "11111111-2222-4333-8444-555555555555"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partitions:
    """The nodes: of the multiboot partition, and of the images' roots by their names."""

    multiboot: str
    roots: Mapping[str, str]

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes of all roots."""
        return tuple(self.roots.values())


def image_files(*versions: str, name: str = "Test") -> dict[str, bytes]:
    """Return the files of an image with kernels of these versions."""
    files = {"/etc/os-release": f'PRETTY_NAME="{name}"\n'.encode()}
    for version in versions:
        files[f"/boot/vmlinuz-{version}"] = f"kernel {version}\n".encode() * 500
        files[f"/boot/initrd.img-{version}"] = f"initrd {version}\n".encode() * 500
    return files


def write(node: str, filesystem: FileSystem, files: Mapping[str, bytes]) -> None:
    """Write files into the file system on a device."""
    with mounted(node, filesystem, read_only=False) as descriptor:
        tree = RootDir(descriptor, tree=node)
        for path, data in files.items():
            tree.make_dirs(path.rpartition("/")[0] or "/")
            tree.write_file(path, data)


def as_grub_finds(device: str | Path, *, partition: str = "") -> tuple[pure_switching.SwitchState, bytes]:
    """Return what GRUB's own code reads of a multiboot partition: what was chosen, and the menu that it shows then."""
    block = oracles.grub_cat(device, ENVIRONMENT, partition=partition)
    state = pure_switching.from_variables(grubenv.parse(block, path=ENVIRONMENT))
    return state, oracles.grub_cat(device, menu_path(state.generation), partition=partition)


def make(
    bench: Bench,
    images: Mapping[str, Mapping[str, bytes]],
    *,
    filesystem: FileSystem = FileSystem.EXT4,
    size: int = 100 * MIB,
) -> Partitions:
    """Make the partitions; the first image is the default."""
    roots: dict[str, str] = {}
    records = []
    # mkfs.btrfs takes no UUID that any other device of this machine has, what a killed run left behind too.
    head = secrets.token_hex(4) if filesystem is FileSystem.BTRFS else "aaaaaaaa"
    for number, (name, files) in enumerate(images.items()):
        node = bench.disk(320 * MIB, 512).node
        uuid = f"{head}-0000-4000-8000-00000000000{number}"
        filesystems.make(filesystem, node, label="", uuid=uuid)
        write(node, filesystem, files)
        roots[name] = node
        place = Place(filesystem=filesystem, uuid=uuid)
        parameters = KernelParameters.parse("console=ttyS0")
        records.append(
            ImageRecord(
                name=name, image_name=f"{name} of today", image_uuid=f"uuid-{name}", root=place, parameters=parameters
            )
        )
    by_uuid = {record.root.uuid: roots[record.name] for record in records}
    found = [image_entries.read(record, by_uuid) for record in records]
    entries = tuple(entry for each in found for entry in each.entries)
    menu = MenuRecord(
        multiboot_uuid=MULTIBOOT_UUID,
        images=tuple(each.image for each in found),
        entries=entries,
        default=entries[0].entry.id,
        timeout=1,
    )
    multiboot = bench.disk(size, 512).node
    filesystems.make(FileSystem.EXT4, multiboot, label="multiboot", uuid=MULTIBOOT_UUID)
    with multiboot_directory.opened(multiboot, read_only=False) as tree:
        multiboot_directory.prepare(tree, (Platform.I386_PC, Platform.X86_64_EFI), menu, serial=None)
    return Partitions(multiboot=multiboot, roots=roots)
