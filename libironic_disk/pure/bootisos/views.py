"""The file systems in a boot ISO that loaders read: the tree, and a FAT in each boot image that has one."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import Final, NamedTuple, Protocol

from libironic_disk.errors import ConfigDriveInvalid, IsoInvalid
from libironic_disk.pure.drives import fat
from libironic_disk.pure.iso.image import IsoImage
from libironic_disk.pure.iso.model import BootImage, IsoFile
from libironic_disk.pure.ropes import Base

_BLOCK: Final = 64 * 1024
_BLOCKS_KEPT: Final = 128
_DEEPEST: Final = 32
_MOST_LINKS: Final = 40


class Found(NamedTuple):
    """A file or directory: its path as it is spelled there, and its bytes."""

    path: str
    size: int
    is_directory: bool


class View(Protocol):
    """A file system, read by absolute paths; none of its methods raises for what isn't there."""

    def find(self, path: str) -> Found | None:
        """Return what is at a path, by its own path where a symbolic link led there; None for nothing."""

    def children(self, path: str) -> tuple[Found, ...]:
        """Return what is in a directory; nothing if there is none."""

    def read(self, path: str, limit: int) -> bytes:
        """Return the first ``limit`` bytes of a file.

        Raises:
            IsoInvalid: the file system is damaged there.
        """


class TreeView:
    """The ISO's own tree; symbolic links are followed inside of it, as GRUB and Linux do."""

    def __init__(self, image: IsoImage, base: Base) -> None:
        self._image = image
        self._base = base

    def find(self, path: str) -> Found | None:
        """Return what is at a path."""
        file = self._followed(path)
        return None if file is None else Found(file.path, file.size, file.is_dir)

    def children(self, path: str) -> tuple[Found, ...]:
        """Return what is in a directory; links in it are left out, because what they lead to is somewhere itself."""
        directory = self._followed(path)
        if directory is None or not directory.is_dir:
            return ()
        found = self._image.children(directory.path)
        return tuple(Found(file.path, file.size, file.is_dir) for file in found if not file.is_symlink)

    def read(self, path: str, limit: int) -> bytes:
        """Return the first ``limit`` bytes of a file."""
        rope = self._image.content(path)
        return rope.read_at(self._base, 0, min(limit, rope.size))

    def _followed(self, path: str) -> IsoFile | None:
        waiting = [part for part in reversed(path.split("/")) if part]
        there = self._image.find("/")
        links = 0
        while waiting and there is not None:
            if waiting[-1] in {".", ".."}:
                there = self._image.find(posixpath.normpath(posixpath.join(there.path, waiting.pop())))
                continue
            at = posixpath.join(there.path, waiting.pop())
            found = self._image.find(at)
            if found is not None and found.target is not None:
                links += 1
                if links > _MOST_LINKS:
                    return None
                waiting += [part for part in reversed(found.target.split("/")) if part]
                there = self._image.find("/") if found.target.startswith("/") else there
            else:
                there = found
        return there


class FatView:
    """A FAT inside of a boot image; names count without their case, as FAT has it.

    Each directory is read once, and no more of the image than is asked for.
    """

    def __init__(self, window: Window, found: fat.Geometry, name: str) -> None:
        self._window = window
        self._geometry = found
        self._name = name
        self._directories: dict[str, tuple[tuple[str, fat.Entry], ...]] = {}

    def find(self, path: str) -> Found | None:
        """Return what is at a path."""
        if path == "/":
            return Found("/", 0, is_directory=True)
        found = self._entry(path)
        return None if found is None else Found(found[0], found[1].size, found[1].is_directory)

    def children(self, path: str) -> tuple[Found, ...]:
        """Return what is in a directory."""
        return tuple(Found(where, entry.size, entry.is_directory) for where, entry in self._listed(path))

    def read(self, path: str, limit: int) -> bytes:
        """Return the first ``limit`` bytes of a file."""
        found = self._entry(path)
        if found is None or found[1].is_directory:
            raise IsoInvalid(iso=self._name, problems=(f"{path} is no file of its FAT",))
        entry = found[1]
        try:
            reader = fat.Reader(self._window, self._geometry)
            head = replace(entry, size=min(entry.size, limit))
            return reader.content(head)
        except ConfigDriveInvalid as error:
            raise IsoInvalid(iso=self._name, problems=(error.reason,)) from error

    def _entry(self, path: str) -> tuple[str, fat.Entry] | None:
        name = posixpath.basename(path).casefold()
        for where, entry in self._listed(posixpath.dirname(path)):
            if posixpath.basename(where).casefold() == name:
                return where, entry
        return None

    def _listed(self, path: str) -> tuple[tuple[str, fat.Entry], ...]:
        known = path.casefold()
        if known not in self._directories:
            self._directories[known] = self._list(path)
        return self._directories[known]

    def _list(self, path: str) -> tuple[tuple[str, fat.Entry], ...]:
        where, first = "", None
        if path not in {"", "/"}:
            if path.count("/") > _DEEPEST:
                return ()
            found = self._entry(path)
            if found is None or not found[1].is_directory:
                return ()
            where, first = found[0], found[1].first
        try:
            reader = fat.Reader(self._window, self._geometry)
            return tuple((f"{where}/{entry.name}", entry) for entry in reader.entries(first) if entry.name)
        except ConfigDriveInvalid as error:
            raise IsoInvalid(iso=self._name, problems=(error.reason,)) from error


class Window:
    """A run of bytes of a base, as what :mod:`~libironic_disk.pure.drives.fat` reads from; some of it is kept."""

    def __init__(self, base: Base, offset: int, size: int) -> None:
        self._base = base
        self._offset = offset
        self._size = size
        self._blocks: dict[int, bytes] = {}

    def __getitem__(self, key: slice, /) -> bytes:
        """Return the bytes from ``key.start`` up to ``key.stop``."""
        start, stop, _ = key.indices(self._size)
        numbers = range(start // _BLOCK, -(-stop // _BLOCK)) if stop > start else ()
        joined = b"".join(self._block(number) for number in numbers)
        skipped = start % _BLOCK
        return joined[skipped : skipped + max(0, stop - start)]

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            if len(self._blocks) >= _BLOCKS_KEPT:
                self._blocks.clear()
            at = number * _BLOCK
            self._blocks[number] = self._base.read_at(self._offset + at, min(_BLOCK, self._size - at))
        return self._blocks[number]


def fat_view(boot_image: BootImage, base: Base, name: str) -> FatView | None:
    """Return the FAT that a boot image holds from its first byte; None if it holds none.

    Raises:
        SourceFailed: the ISO can't be read.
    """
    window = Window(base, boot_image.offset, boot_image.size)
    found = fat.geometry(window[: fat.BOOT_SECTOR])
    if found is None or found.size > boot_image.size:
        return None
    return FatView(window, found, name)
