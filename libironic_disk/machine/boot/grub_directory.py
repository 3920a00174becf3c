"""``/boot`` of an image: the kernels that are there, and the directory of our GRUB beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from libironic_disk.errors import PathFailed
from libironic_disk.machine.boot import grub_image
from libironic_disk.machine.boot.grub_image import Platform
from libironic_disk.machine.trees.rootfs import RootDir, is_refusal
from libironic_disk.pure.boot import grubcfg, osrelease
from libironic_disk.pure.boot.grubcfg import GRUB_DIRECTORY, Menu, MenuEntry
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.kernels import Kernel, find_kernels
from libironic_disk.units import KIB, MIB

_OS_RELEASE_LIMIT: Final = 64 * KIB
_MENU_LIMIT: Final = 4 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Systems:
    """What an image can start: its name for people, and its kernels, newest first."""

    name: str
    kernels: tuple[Kernel, ...]


def systems(tree: RootDir, *, boot: RootDir | None = None) -> Systems:
    """Read what an image can start; an image without a kernel has none.

    Args:
        tree: its root.
        boot: the file system that it has on ``/boot``, where that is another one.

    Raises:
        PathFailed: the directory with the kernels can't be read.
    """
    holder, directory = (tree, "/boot") if boot is None else (boot, "")
    names = holder.names(directory or "/") if holder.exists(directory or "/") else ()
    kernels = tuple(kernel for kernel in find_kernels(names) if holder.is_file(f"{directory}/{kernel.name}"))
    return Systems(name=_name(tree), kernels=kernels)


def _name(tree: RootDir) -> str:
    for path in osrelease.PATHS:
        try:
            text = tree.read_file(path, limit=_OS_RELEASE_LIMIT).decode(errors="replace")
        except PathFailed as error:
            if is_refusal(error):
                raise
            continue
        if name := grubcfg.title(osrelease.pretty_name(text)):
            return name
    return "Linux"


def entries(
    found: Systems, *, root_uuid: str, root_partuuid: str, parameters: KernelParameters
) -> tuple[MenuEntry, ...]:
    """Return an entry for each kernel; a ``root=``, ``ro`` or ``rw`` among the parameters takes the place of ours."""
    made: list[MenuEntry] = []
    for kernel in found.kernels:
        # Only an initial RAM disk can find a file system by its UUID; the kernel alone knows PARTUUIDs.
        root = f"root=UUID={root_uuid}" if kernel.initrd else f"root=PARTUUID={root_partuuid}"
        ours = [] if "root" in parameters else [root]
        if not ("ro" in parameters or "rw" in parameters):
            ours.append("ro")
        entry = MenuEntry(
            id=f"linux-{kernel.version}",
            title=f"{found.name}, with Linux {kernel.version}" if made else found.name,
            root_uuid=root_uuid,
            kernel=f"/boot/{kernel.name}",
            initrd=f"/boot/{kernel.initrd}" if kernel.initrd else "",
            parameters=KernelParameters(words=tuple(ours)) + parameters,
        )
        made.append(entry)
    return tuple(made)


def write(tree: RootDir, platform: Platform, menu: Menu) -> None:
    """Write GRUB's modules and the menu; a menu that came with the image is kept as ``grub.cfg.image``.

    Raises:
        PathFailed: the directory leads out of the tree, is none, or has no room.
    """
    write_modules(tree, platform)
    config = f"{GRUB_DIRECTORY}/grub.cfg"
    if tree.exists(config):
        before = tree.read_file(config, limit=_MENU_LIMIT)
        if not before.startswith(grubcfg.FIRST_LINE.encode()):
            tree.write_file(f"{config}.image", before)
    tree.write_file(config, grubcfg.render(menu).encode())


def write_modules(tree: RootDir, platform: Platform) -> None:
    """Write the modules that GRUB loads by name.

    Raises:
        PathFailed: the directory leads out of the tree, is none, or has no room.
    """
    modules = f"{GRUB_DIRECTORY}/{platform}"
    tree.make_dirs(modules)
    tree.write_files(modules, grub_image.module_files(platform))
