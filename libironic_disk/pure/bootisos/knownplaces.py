"""Where boot loaders look for their configuration, as their manuals and distributions' images have it.

Syslinux' wiki ("Config", "ISOLINUX"), GRUB's manual ("Embedded configuration", ``grub-mkrescue``), the images of
Debian, Ubuntu, Fedora, openSUSE and Arch, and the Boot Loader Specification.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import Final

from libironic_disk.pure.bootisos.views import Found, View
from libironic_disk.pure.loaders.config import ConfigKind

_SYSLINUX_DIRECTORIES: Final = ("/boot/isolinux", "/isolinux", "/boot/syslinux", "/syslinux", "/")
_SYSLINUX_NAMES: Final = ("isolinux.cfg", "syslinux.cfg", "extlinux.conf", "syslx64.cfg", "syslia32.cfg")
_GRUB_DIRECTORIES: Final = ("/boot/grub", "/boot/grub2", "/grub", "/grub2")
_GRUB_NAMES: Final = ("grub.cfg", "loopback.cfg")
_GRUB_PLATFORM: Final = re.compile(r"[a-z0-9_]+-(?:efi|pc|ieee1275|emu|xen)", re.IGNORECASE)
_ENTRY_DIRECTORIES: Final = ("/loader/entries", "/boot/loader/entries")
_MOST_DIRECTORIES: Final = 64


def known_configs(view: View, loader_directories: Iterable[str]) -> Iterator[tuple[ConfigKind, str, str]]:
    """Yield configuration files that are where a loader would find them: kind, path, and prefix.

    Args:
        view: the file system that is looked at.
        loader_directories: where programs of loaders are, which look beside themselves first.
    """
    for directory in dict.fromkeys((*loader_directories, *_SYSLINUX_DIRECTORIES, *_efi_directories(view))):
        for found in _files(view, directory, _SYSLINUX_NAMES):
            yield ConfigKind.SYSLINUX, found.path, directory
    for directory in _GRUB_DIRECTORIES:
        for found in _files(view, directory, _GRUB_NAMES):
            yield ConfigKind.GRUB, found.path, directory
        for child in view.children(directory)[:1024]:
            if child.is_directory and _GRUB_PLATFORM.fullmatch(posixpath.basename(child.path)):
                for found in _files(view, child.path, _GRUB_NAMES):
                    yield ConfigKind.GRUB, found.path, directory
    for directory in _efi_directories(view):
        for found in _files(view, directory, _GRUB_NAMES):
            yield ConfigKind.GRUB, found.path, directory
    for directory in _ENTRY_DIRECTORIES:
        yield from entries_in(view, directory)


def entries_in(view: View, directory: str) -> Iterator[tuple[ConfigKind, str, str]]:
    """Yield the entries of the Boot Loader Specification in a directory."""
    for found in view.children(directory):
        if not found.is_directory and found.path.lower().endswith(".conf"):
            yield ConfigKind.LOADER_ENTRY, found.path, "/"


def efi_programs(view: View) -> Iterator[Found]:
    """Yield the files of EFI programs in the directory of each vendor."""
    for directory in _efi_directories(view):
        for found in view.children(directory):
            if not found.is_directory and found.path.lower().endswith(".efi"):
                yield found


def _efi_directories(view: View) -> Iterator[str]:
    for found in view.children("/EFI")[:_MOST_DIRECTORIES]:
        if found.is_directory:
            yield found.path


def _files(view: View, directory: str, names: tuple[str, ...]) -> Iterator[Found]:
    for name in names:
        found = view.find(posixpath.join(directory, name))
        if found is not None and not found.is_directory:
            yield found
