"""Lists of checksums inside an ISO, made true again after files that they cover have changed."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from typing import Final

from libironic_disk.pure.bootisos import checksumfiles
from libironic_disk.pure.bootisos.contents import Contents
from libironic_disk.pure.bootisos.model import Place
from libironic_disk.pure.bootisos.paths import parents
from libironic_disk.pure.bootisos.views import View
from libironic_disk.pure.ropes import Base, Rope

_MOST_LISTS: Final = 64
_MOST_ROUNDS: Final = 4  # lists of lists


def relist(contents: Contents, base: Base, view: View, *, leaving_out: Sequence[str]) -> tuple[str, ...]:
    """Change the lines of every list that covers a changed file; return the lists that changed.

    Lists are looked for in the root and in each directory that leads to a changed file.

    Args:
        contents: the files as they will be.
        base: what their ropes are made of.
        view: the ISO's tree as it is.
        leaving_out: lists that are as their owner wants them.
    """
    digests = _Digests(contents, base)
    changed: set[str] = set()
    for _ in range(_MOST_ROUNDS):
        before = len(changed)
        for path in list(_lists(contents, view)):
            if path in leaving_out:
                continue
            text = contents.text(Place(path=path), checksumfiles.LARGEST)
            new = checksumfiles.renewed(text, directory=posixpath.dirname(path), value_of=digests.without(path))
            if new != text:
                contents.change(Place(path=path), new)
                changed.add(path)
        if len(changed) == before:
            break
    return tuple(sorted(changed))


def _lists(contents: Contents, view: View) -> Iterator[str]:
    directories = dict.fromkeys(["/", *(each for path in sorted(contents.changed) for each in parents(path))])
    count = 0
    for directory in directories:
        for found in view.children(directory):
            name = posixpath.basename(found.path)
            if found.is_directory or not checksumfiles.is_list(name) or found.size > checksumfiles.LARGEST:
                continue
            count += 1
            if count > _MOST_LISTS:
                return
            yield found.path


class _Digests:
    """Digests of changed files, each computed once for the contents that it has."""

    def __init__(self, contents: Contents, base: Base) -> None:
        self._contents = contents
        self._base = base
        self._known: dict[tuple[str, str], tuple[Rope, str]] = {}

    def without(self, itself: str) -> _Without:
        """Return what tells values for a list, which can't have its own."""
        return _Without(self, itself)

    def value(self, path: str, algorithm: str) -> str | None:
        """Return a changed file's digest; None for one that didn't change."""
        rope = self._contents.changed.get(path)
        if rope is None:
            return None
        known = self._known.get((path, algorithm))
        if known is None or known[0] is not rope:
            digest = checksumfiles.digest(algorithm)
            for chunk in rope.chunks(self._base):
                digest.update(chunk)
            known = self._known[path, algorithm] = (rope, digest.hexdigest())
        return known[1]


class _Without:
    def __init__(self, digests: _Digests, itself: str) -> None:
        self._digests = digests
        self._itself = itself

    def __call__(self, path: str, algorithm: str) -> str | None:
        return None if path == self._itself else self._digests.value(path, algorithm)
