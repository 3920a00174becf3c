"""The same files in different trees: their names differ, and the places of their contents don't."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Final

from libironic_disk.pure.iso.directories import Directory, Entry, Tree
from libironic_disk.pure.iso.model import TreeKind
from libironic_disk.pure.iso.naming import joliet_names


def is_data(entry: Entry) -> bool:
    """Whether something is a file that isn't empty."""
    return entry.inside is None and entry.extras.target is None and entry.records[0].size > 0


class Places:
    """Which files of a tree have their contents where."""

    def __init__(self, tree: Tree) -> None:
        self._tree: Final = tree

    def at(self, offset: int) -> list[tuple[str, Entry]]:
        """Return the files whose contents begin at an offset."""
        return self._by_offset.get(offset, [])

    @cached_property
    def _by_offset(self) -> dict[int, list[tuple[str, Entry]]]:
        found: dict[int, list[tuple[str, Entry]]] = {}
        for path, entry in self._tree.walk():
            if is_data(entry):
                found.setdefault(self._tree.offset_of(entry.records[0]), []).append((path, entry))
        return found


class Counterparts:
    """Finds in one tree what is in another one, the main tree.

    Args:
        main: the main tree.
        main_places: where its files are.
        other: the tree to look into.
    """

    def __init__(self, main: Tree, main_places: Places, other: Tree) -> None:
        self._main = main
        self._main_places = main_places
        self._other = other
        self._places = Places(other)

    def files(self, parts: tuple[str, ...], entry: Entry) -> list[Entry]:
        """Return what in the other tree is a file of the main one; nothing if it was left out there."""
        if self._other is self._main:
            return [entry]
        if is_data(entry):
            offset = self._main.offset_of(entry.records[0])
            if len(self._main_places.at(offset)) == 1:
                return [each for _, each in self._places.at(offset)]
        directory = self.directory(parts[:-1])
        found = self._child(directory, parts[-1], entry) if directory is not None else None
        return [found] if found is not None and found.inside is None else []

    def directory(self, parts: tuple[str, ...]) -> Directory | None:
        """Return what in the other tree is a directory of the main one; None if it isn't there."""
        directory = self._other.root
        for depth in range(1, len(parts) + 1):
            entry = self._main.find(parts[:depth])
            child = self._child(directory, parts[depth - 1], entry) if entry is not None else None
            if child is None or child.inside is None:
                return None
            directory = child.inside
        return directory

    def _child(self, directory: Directory, part: str, entry: Entry) -> Entry | None:
        if self._other is self._main:
            return directory.entries.get(part)
        for name in self._names(part):
            found = directory.entries.get(name)
            if found is not None and (found.inside is None) == (entry.inside is None):
                return found
        identifier = entry.records[0].identifier
        wanted = set(_offsets(self._main, entry))
        for each in directory.entries.values():
            same = self._other.kind is not TreeKind.JOLIET and each.records[0].identifier == identifier
            if (each.inside is None) == (entry.inside is None):
                if same and self._main.kind is not TreeKind.JOLIET:
                    return each
                # A name that was cut off or changed: what is in the directory, or the file itself, tells.
                if wanted and not wanted.isdisjoint(_offsets(self._other, each)):
                    return each
        return None

    def _names(self, part: str) -> Iterator[str]:
        if self._other.kind is TreeKind.JOLIET:
            yield from joliet_names(part)
        else:
            yield part
            yield part.lower()


def _offsets(tree: Tree, entry: Entry) -> Iterator[int]:
    """Yield where the contents of a file are, or of the files that are directly in a directory."""
    for each in entry.inside.entries.values() if entry.inside is not None else (entry,):
        if is_data(each):
            yield tree.offset_of(each.records[0])
