"""Which menu entries an image gets: its kernels, and what its own boot configuration tells them.

The file systems are read here and never mounted for writing; no program of the image is run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from libironic_disk.errors import DiskError, KernelParametersInvalid, ToolMissing
from libironic_disk.events import Cancellation
from libironic_disk.machine.boot import grub_directory, grub_reading, image_menu
from libironic_disk.machine.boot.grub_directory import Systems
from libironic_disk.machine.disks import disk_io
from libironic_disk.machine.trees.mounts import mount_point, mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.boot import loadersyntax, multimenu
from libironic_disk.pure.boot.grubcfg import MenuEntry
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.kernels import Kernel
from libironic_disk.pure.boot.loadersyntax import LoaderSyntax
from libironic_disk.pure.boot.menurecord import ImageRecord, Place, RecordedEntry
from libironic_disk.pure.disks.layout import FileSystem

# BOOT_IMAGE= with the longest path of a kernel, and panic=.
_GRUBS_OWN: Final = 256
_SUBVOLUMES: Final = ("@", "root")
"""Where distributions put their root on a btrfs: Debian, Ubuntu and SUSE; Fedora."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEntries:
    """The entries of one image, the default first; without any, ``reason`` says why. ``notes`` are for people."""

    image: ImageRecord
    entries: tuple[RecordedEntry, ...]
    reason: str = ""
    notes: tuple[str, ...] = ()


def read(image: ImageRecord, nodes: Mapping[str, str]) -> ImageEntries:
    """Read an image's file systems, and say what can be booted of it.

    Args:
        image: where the image is; the btrfs subvolume of its root is found out here.
        nodes: devices by the UUIDs of the file systems on them.

    Raises:
        DeviceFailed: a file system can't be mounted.
        PathFailed: something in it can't be read.
        KeyError: no device for one of the image's file systems.
    """
    found_root = replace(image.root, subvolume=subvolume_of(nodes[image.root.uuid], image.root.filesystem))
    image = replace(image, root=found_root)
    with trees(image, nodes) as (tree, boot):
        systems = grub_directory.systems(tree, boot=boot)
        if not systems.kernels:
            where = "on its boot volume" if image.boot else "in its /boot"
            return ImageEntries(image=image, entries=(), reason=f"there is no kernel {where}")
        own = image_menu.parameters(tree, boot)
    entries = tuple(_entries(image, systems, own))
    notes = tuple(
        f"{image.name}: {kernel.name} has no initial RAM disk" for kernel in systems.kernels if not kernel.initrd
    )
    return ImageEntries(image=image, entries=entries, notes=notes)


@contextmanager
def trees(image: ImageRecord, nodes: Mapping[str, str]) -> Iterator[tuple[RootDir, RootDir | None]]:
    """Give the root of an image, and its boot volume where it has one, read-only."""
    with ExitStack() as stack:
        made = [
            RootDir(stack.enter_context(_directory(place, nodes[place.uuid])), tree=nodes[place.uuid])
            for place in image.places
        ]
        yield made[0], made[1] if len(made) > 1 else None


def unreadable(
    image: ImageRecord, entries: Sequence[RecordedEntry], nodes: Mapping[str, str], cancel: Cancellation
) -> Iterator[str]:
    """Yield what GRUB's own code can't read of the kernels and initial RAM disks of some entries of an image.

    Nothing is said of a file system that is mounted: what is in its journal isn't yet where GRUB looks.

    Raises:
        ToolMissing: a program isn't installed, so that nothing can be said.
        Cancelled: the caller wished so.
    """
    place = image.kernels_on
    if is_mounted(place, nodes[place.uuid]):
        return
    for each in entries:
        try:
            check_readable(image, each, nodes, cancel)
        except ToolMissing:
            raise
        except DiskError as error:
            cancel.check("reading kernels")
            yield f"{each.entry.id}: {error}"


def check_readable(image: ImageRecord, entry: RecordedEntry, nodes: Mapping[str, str], cancel: Cancellation) -> None:
    """Prove that GRUB's own code reads the kernel and the initial RAM disk of an entry of an unmounted image.

    Raises:
        BootImpossible: it doesn't.
        DeviceFailed, PathFailed: the kernel can't read them either.
        ProgramError, ToolMissing: it can't be asked.
        Cancelled: the caller wished so.
    """
    place = image.kernels_on
    prefix = f"/{place.subvolume}" if place.subvolume else ""
    paths = [path for path in (entry.entry.kernel, entry.entry.initrd) if path]
    with trees(image, nodes) as (tree, boot):
        seen = grub_reading.checksums(boot or tree, [path.removeprefix(prefix) for path in paths])
    expected = {f"{prefix}{path}": checksum for path, checksum in seen.items()}
    grub_reading.check(nodes[place.uuid], place.filesystem, expected, cancel=cancel)


def is_mounted(place: Place, node: str) -> bool:
    """Whether a file system is mounted already, as the running system's own is."""
    return mount_point(node, f"/{place.subvolume}") is not None


@contextmanager
def _directory(place: Place, node: str) -> Iterator[int]:
    """Open the root of a file system where it is mounted already, as the running system's own is, or mount it."""
    here = mount_point(node, f"/{place.subvolume}")
    if here is None:
        with mounted(node, place.filesystem, options=mount_options(place)) as descriptor:
            yield descriptor
        return
    with disk_io.opened(here, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        yield descriptor


def mount_options(place: Place) -> tuple[str, ...]:
    """Return the mount options that lead to the root of the system in a file system."""
    if place.filesystem is not FileSystem.BTRFS:
        return ()
    return (f"subvol=/{place.subvolume}",) if place.subvolume else ("subvolid=5",)


def subvolume_of(node: str, filesystem: FileSystem) -> str:
    """Return the btrfs subvolume that holds the root of a system; empty for the top, and for other file systems."""
    if filesystem is not FileSystem.BTRFS:
        return ""
    for name in ("", *_SUBVOLUMES):
        here = mount_point(node, f"/{name}")
        if here is not None and _has(here, "/etc"):
            return name
    with mounted(node, filesystem, options=("subvolid=5",)) as descriptor:
        tree = RootDir(descriptor, tree=node)
        if tree.exists("/etc"):
            return ""
        return next((name for name in _SUBVOLUMES if tree.exists(f"/{name}/etc")), "")


def _has(mount: str, path: str) -> bool:
    with disk_io.opened(mount, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        return RootDir(descriptor, tree=mount).exists(path)


def _entries(image: ImageRecord, systems: Systems, own: Mapping[str, tuple[str, ...]]) -> Iterator[RecordedEntry]:
    holder = image.kernels_on
    prefix = "" if image.boot else "/boot"
    if holder.subvolume:
        prefix = f"/{holder.subvolume}{prefix}"
    key = f"{image.image_uuid}\n{image.name}"
    # A version may be there as vmlinuz and vmlinux.
    kernels = {kernel.version: kernel for kernel in reversed(systems.kernels)}
    for number, kernel in enumerate(reversed(kernels.values())):
        entry_id = multimenu.entry_id(image.name, key, kernel.version if number else "")
        title = f"{image.name}: {systems.name}"
        yield RecordedEntry(
            image=image.name,
            entry=MenuEntry(
                id=entry_id,
                title=f"{title}, with Linux {kernel.version}" if number else title,
                root_uuid=holder.uuid,
                volume=holder.volume,
                kernel=f"{prefix}/{kernel.name}",
                initrd=f"{prefix}/{kernel.initrd}" if kernel.initrd else "",
                parameters=_parameters(image, kernel, own.get(kernel.name, ()), entry_id),
            ),
        )


def _parameters(image: ImageRecord, kernel: Kernel, own: tuple[str, ...], entry_id: str) -> KernelParameters:
    """The root by its UUID, who was started, then what the image says and what the deployment says.

    A kernel drops what is behind the end of its command line. What the image says is left out where all together is
    too long, or can't be passed on: no image may keep the others from their menu.
    """
    root = image.root
    given = KernelParameters(words=own) + image.parameters
    words: list[str] = []
    if "root" not in image.parameters:
        # The kernel alone knows no file system's UUID, only the partition's.
        alone = not kernel.initrd and root.partuuid
        words.append(f"root=PARTUUID={root.partuuid}" if alone else f"root=UUID={root.uuid}")
    if not ("ro" in given or "rw" in given):
        words.append("ro")
    if root.subvolume and "rootflags" not in given:
        words.append(f"rootflags=subvol={root.subvolume}")
    words.append(f"{multimenu.ENTRY_PARAMETER}={entry_id}")
    try:
        made = KernelParameters(words=tuple(words)) + given
        loadersyntax.check(made, LoaderSyntax.GRUB, limit=loadersyntax.MAX_COMMAND_LINE - _GRUBS_OWN)
    except KernelParametersInvalid:
        if not own:
            raise
        return _parameters(image, kernel, (), entry_id)
    return made
