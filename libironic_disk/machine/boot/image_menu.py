"""What an image's own boot configuration tells its kernels: read as text, and never run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final

from libironic_disk.errors import PathFailed
from libironic_disk.machine.trees.imagesetup import loader_entries
from libironic_disk.machine.trees.rootfs import RootDir, is_refusal
from libironic_disk.pure.boot import grubenv, imagemenu
from libironic_disk.pure.boot.imagemenu import ImageEntry
from libironic_disk.units import MIB

_LIMIT: Final = 4 * MIB
_LIMIT_OF_ALL: Final = 16 * MIB
"""Bytes of all files together: ten thousand names of one file, or holes, take no room in an image."""
_DIRECTORIES: Final = ("grub", "grub2")


def parameters(tree: RootDir, boot: RootDir | None) -> Mapping[str, tuple[str, ...]]:
    """Return the parameters of each kernel of an image, by the kernel's name in ``/boot``; what isn't known is absent.

    Args:
        tree: the image's root.
        boot: its boot volume, where that is another file system.

    Raises:
        PathFailed: the kernel can't read one of the files.
    """
    holder, directory = (tree, "/boot") if boot is None else (boot, "")
    read = _Reading()
    found: dict[str, tuple[str, ...]] = {}
    for entry in _entries(holder, directory, read):
        # The first entry of a kernel is the usual one; recovery and debugging come behind it.
        found.setdefault(PurePosixPath(entry.kernel).name, imagemenu.own_parameters(entry.parameters))
    names = holder.names(directory or "/") if holder.exists(directory or "/") else ()
    usual = _usual(tree, read)
    return {name: usual for name in names} | found if usual else found


class _Reading:
    """Reads files of an image until it has read enough of them."""

    def __init__(self) -> None:
        self._left = _LIMIT_OF_ALL

    def text(self, tree: RootDir, path: str) -> str:
        """Return a file's contents; of one that is none, is too large or isn't there, nothing.

        Raises:
            PathFailed: the kernel can't read it. Without its parameters a system comes up otherwise, or not at all.
        """
        try:
            data = tree.read_file(path, limit=min(_LIMIT, self._left))
        except PathFailed as error:
            if is_refusal(error):
                raise
            return ""
        self._left -= len(data)
        return data.decode(errors="replace")


def _entries(holder: RootDir, directory: str, read: _Reading) -> Iterator[ImageEntry]:
    environment: dict[str, str] = {}
    for name in _DIRECTORIES:
        if block := read.text(holder, f"{directory}/{name}/grubenv"):
            environment |= grubenv.lenient(block)
    for path in loader_entries(holder, directory):
        if entry := imagemenu.from_loader_entry(read.text(holder, path), environment):
            yield entry
    for name in _DIRECTORIES:
        # The menu that came with the image is beside ours where one of ours took its place.
        for file in ("grub.cfg.image", "grub.cfg"):
            yield from imagemenu.from_grub_cfg(read.text(holder, f"{directory}/{name}/{file}"), environment)


def _usual(tree: RootDir, read: _Reading) -> tuple[str, ...]:
    """What the next menu of the image's own would tell every kernel."""
    if text := read.text(tree, "/etc/kernel/cmdline"):
        return imagemenu.own_parameters(imagemenu.split_parameters(text))
    if text := read.text(tree, "/etc/default/grub"):
        return imagemenu.own_parameters(imagemenu.kernel_parameters_of(text))
    return ()
