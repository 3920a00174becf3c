"""Paths that a caller gives, in an ISO's tree or in an initial RAM disk: checked before anything is done with them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Final, TypeVar

from libironic_disk.errors import BootIsoRefused

LONGEST_NAME: Final = 255
LONGEST_PATH: Final = 1024
_DEVICE: Final = re.compile(r"\A\([^()]*\)")
_Content = TypeVar("_Content")


def checked(path: str, *, iso: str) -> str:
    """Return a path from the root, beginning with a slash; one that has none is taken from the root too.

    Raises:
        BootIsoRefused: it is empty, ends like a directory, climbs (``..``), has an empty part or a character that
            isn't printable, or is too long.
    """
    parts = path.removeprefix("/").split("/")
    reason = ""
    if not all(parts):
        reason = "it is empty or has an empty part"
    elif {".", ".."} & set(parts):
        reason = "it has a part . or .., and must not climb"
    elif not path.isprintable():
        # Neither a NUL, which would cut it, nor what can't be written as UTF-8 at all.
        reason = "it has a character that isn't printable"
    elif max(len(part.encode()) for part in parts) > LONGEST_NAME or len(path.encode()) > LONGEST_PATH:
        reason = f"it is longer than {LONGEST_PATH} bytes, or a part of it than {LONGEST_NAME}"
    if reason:
        raise BootIsoRefused(iso=iso, reason=f"the path {path!r} can't be in it: {reason}")
    return "/" + "/".join(parts)


def checked_files(files: Mapping[str, _Content], *, iso: str) -> dict[str, _Content]:
    """Return files by their checked paths.

    Raises:
        BootIsoRefused: a path is refused by :func:`checked`, is given twice, or leads through another one.
    """
    found = {checked(path, iso=iso): content for path, content in files.items()}
    if len(found) < len(files):
        raise BootIsoRefused(iso=iso, reason="the same path is given twice, once with a slash before it")
    for path in found:
        for parent in parents(path):
            if parent in found:
                reason = f"{parent} can't be a file and the directory of {path}"
                raise BootIsoRefused(iso=iso, reason=reason)
    return found


def absolute(path: str, directory: str) -> str:
    """Return from the root a path that a loader's configuration names, seen from a directory.

    A device of GRUB's before it, such as ``(cd0)``, is left out.
    """
    return "/" + posixpath.normpath(posixpath.join("/", directory, _DEVICE.sub("", path))).lstrip("/")


def parents(path: str) -> Iterable[str]:
    """Return the directories that lead to an absolute path, without the root, the nearest first."""
    return [str(parent) for parent in PurePosixPath(path).parents][:-1]
