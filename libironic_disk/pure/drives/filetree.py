"""Files taken out of a file system that somebody else made, under limits.

Whoever made the file system chose its names, sizes and directory tree, and may have meant harm: a name that climbs out
of the directory it is written to, a thousand names for one large file, a tree without end. :class:`Harvest` is the one
place that says no. Its errors never show a name, which may be as private as the contents.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

from libironic_disk.errors import ConfigDriveInvalid, ConfigDriveTooLarge

FileTree = Mapping[str, bytes]
"""Contents by path; paths are relative and use ``/``."""

MOST_ENTRIES: Final = 1024
MOST_LEVELS: Final = 16
LONGEST_NAME: Final = 255


class Harvest:
    """The files found so far, and how much more may come.

    Args:
        limit: bytes that all files may have together.
    """

    __slots__ = ("_entries", "_limit", "_promised", "files")

    def __init__(self, limit: int) -> None:
        self.files: dict[str, bytes] = {}
        self._limit = limit
        self._promised = 0
        self._entries: set[str] = set()

    def path(self, parent: str, name: str) -> str:
        """Admit an entry of the directory ``parent`` (empty for the root) and return its path.

        Raises:
            ConfigDriveInvalid: the name isn't one that a file may have, it was there before, or the tree is too large.
        """
        path = f"{parent}/{checked_name(name)}" if parent else checked_name(name)
        if path in self._entries:
            raise ConfigDriveInvalid(reason="two files in it have the same name")
        self._entries.add(path)
        if len(self._entries) > MOST_ENTRIES:
            raise ConfigDriveInvalid(reason=f"it has more than {MOST_ENTRIES} files and directories")
        if path.count("/") >= MOST_LEVELS:
            raise ConfigDriveInvalid(reason=f"its directories are more than {MOST_LEVELS} levels deep")
        return path

    def claim(self, size: int) -> None:
        """Ask for ``size`` bytes before they are read, because one extent may belong to any number of names.

        Raises:
            ConfigDriveTooLarge: all files together would pass the limit.
        """
        self._promised += size
        if self._promised > self._limit:
            raise ConfigDriveTooLarge(limit=self._limit, found=self._promised)


def by_directory(files: FileTree) -> dict[PurePosixPath, list[PurePosixPath]]:
    """Return every directory, the root (an empty path) first and parents before children, with its entries in order."""
    root = PurePosixPath()
    paths = {path for name in files for path in (PurePosixPath(name), *PurePosixPath(name).parents)} - {root}
    found: dict[PurePosixPath, list[PurePosixPath]] = {root: []}
    for path in sorted(paths):
        found[path.parent].append(path)
        if str(path) not in files:
            found[path] = []
    return found


def checked_name(name: str) -> str:
    """Return ``name`` if it names an entry of one directory and nothing else.

    Raises:
        ConfigDriveInvalid: it is empty, ``.`` or ``..``, too long, not Unicode, or has a ``/`` or NUL in it.
    """
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise ConfigDriveInvalid(reason="a file name in it leads out of its directory")
    # Undecodable bytes arrive as lone surrogates, which "replace" turns into question marks.
    encoded = name.encode(errors="replace")
    if len(encoded) > LONGEST_NAME or encoded.decode() != name:
        raise ConfigDriveInvalid(reason=f"a file name in it isn't Unicode or has more than {LONGEST_NAME} bytes")
    return name
