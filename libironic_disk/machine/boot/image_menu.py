"""What an image's own boot configuration tells its kernels: read as text, and never run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final

from libironic_disk.errors import PathFailed
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.boot import grubenv, imagemenu
from libironic_disk.pure.boot.imagemenu import ImageEntry
from libironic_disk.units import MIB

_LIMIT: Final = 4 * MIB
_DIRECTORIES: Final = ("grub", "grub2")


def parameters(tree: RootDir, boot: RootDir | None) -> Mapping[str, tuple[str, ...]]:
    """Return the parameters of each kernel of an image, by the kernel's name in ``/boot``; what isn't known is absent.

    Args:
        tree: the image's root.
        boot: its boot volume, where that is another file system.
    """
    holder, directory = (tree, "/boot") if boot is None else (boot, "")
    found: dict[str, tuple[str, ...]] = {}
    for entry in _entries(holder, directory):
        # The first entry of a kernel is the usual one; recovery and debugging come behind it.
        found.setdefault(PurePosixPath(entry.kernel).name, imagemenu.own_parameters(entry.parameters))
    names = holder.names(directory or "/") if holder.exists(directory or "/") else ()
    usual = _usual(tree)
    return {name: usual for name in names} | found if usual else found


def _entries(holder: RootDir, directory: str) -> Iterator[ImageEntry]:
    environment: dict[str, str] = {}
    for name in _DIRECTORIES:
        if block := _text(holder, f"{directory}/{name}/grubenv"):
            environment |= grubenv.lenient(block)
    entries = f"{directory}/loader/entries"
    names = holder.names(entries) if holder.exists(entries) else ()
    for name in names:
        if name.endswith(".conf") and (
            entry := imagemenu.from_loader_entry(_text(holder, f"{entries}/{name}"), environment)
        ):
            yield entry
    for name in _DIRECTORIES:
        # The menu that came with the image is beside ours where one of ours took its place.
        for file in ("grub.cfg.image", "grub.cfg"):
            yield from imagemenu.from_grub_cfg(_text(holder, f"{directory}/{name}/{file}"), environment)


def _usual(tree: RootDir) -> tuple[str, ...]:
    """What the next menu of the image's own would tell every kernel."""
    if text := _text(tree, "/etc/kernel/cmdline"):
        return imagemenu.own_parameters(imagemenu.split_parameters(text))
    if text := _text(tree, "/etc/default/grub"):
        return imagemenu.own_parameters(imagemenu.kernel_parameters_of(text))
    return ()


def _text(tree: RootDir, path: str) -> str:
    try:
        return tree.read_file(path, limit=_LIMIT).decode(errors="replace")
    except PathFailed:
        return ""
