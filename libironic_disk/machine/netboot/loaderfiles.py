"""The contents of boot loaders' files: read from where packages put them, or made by grub-mkimage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from libironic_disk.errors import LoaderMissing, SourceFailed
from libironic_disk.machine.boot import grub_image
from libironic_disk.machine.boot.grub_image import Platform
from libironic_disk.pure.netboot.loaders import GrubImage, InstalledFile
from libironic_disk.pure.netboot.planning import SharedContent

LARGEST: Final = 32 << 20
"""Bytes; a real loader has one or two million."""


def check(files: Mapping[str, SharedContent]) -> None:
    """Find what is not installed.

    Raises:
        LoaderMissing: a loader's file, with its package.
        ToolMissing: what GRUB's images are made with or from, with its package.
    """
    for content in files.values():
        if isinstance(content, InstalledFile) and not Path(content.path).is_file():
            raise LoaderMissing(path=str(content.path), package=content.package)
        if isinstance(content, GrubImage):
            grub_image.require(Platform(content.platform))


def read(files: Mapping[str, SharedContent]) -> dict[str, bytes]:
    """Return the contents of every file.

    Raises:
        LoaderMissing: as :func:`check`.
        SourceFailed: a loader's file can't be read.
        ToolMissing: as :func:`check`.
        ProgramError: grub-mkimage failed.
    """
    check(files)
    return {path: _content(content) for path, content in files.items()}


def _content(content: SharedContent) -> bytes:
    match content:
        case bytes():
            return content
        case InstalledFile(path=path, package=package):
            try:
                with Path(path).open("rb") as file:
                    return file.read(LARGEST)
            except FileNotFoundError as error:
                raise LoaderMissing(path=str(path), package=package) from error
            except OSError as error:
                raise SourceFailed(source=str(path), reason=error.strerror or str(error)) from error
        case GrubImage(platform=platform, early_config=early_config):
            return grub_image.network_image(Platform(platform), early_config)
