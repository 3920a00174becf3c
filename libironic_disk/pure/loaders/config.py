"""What boot loaders' configuration files say of kernels, as values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from libironic_disk.errors import LoaderConfigRefused
from libironic_disk.pure.boot.kernelparams import KernelParameters

LARGEST_CONFIG: Final = 256 << 10
"""Bytes of a configuration file that are read; the largest real ones have some ten thousand."""
MOST_ENTRIES: Final = 4096
"""Kernels in one file; where all share their parameters, what is to be done grows faster than the file."""

# Loaders start them as if they were kernels, and what they are told is no kernel's parameter.
_NO_KERNEL: Final = re.compile(
    r"memtest.*|mt86p.*|memdisk|.*\.(?:c32|lkrn|0|bin|bs|bss|cbt|com|img)", re.ASCII | re.IGNORECASE
)


class ConfigKind(StrEnum):
    """In whose language a file is: GRUB 2's, that of SYSLINUX and its family, or the Boot Loader Specification's."""

    GRUB = "grub"
    SYSLINUX = "syslinux"
    LOADER_ENTRY = "loader-entry"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLine:
    """One place that starts a kernel.

    ``title`` is that of the menu entry it is in, or nothing. The paths are as they are written, with the variables that
    the file itself sets put in. A variable that it doesn't set is in a parameter as it is written, and what can't be a
    parameter's character is shown as U+FFFD.
    """

    title: str
    kernel: str
    initrds: tuple[str, ...]
    parameters: KernelParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Another file, or a directory of loader entries, that a file leads to.

    ``path`` is absolute, in the file system that the loader runs from, where ``resolvable``; else it is as written.
    """

    kind: ConfigKind
    path: str
    resolvable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderConfig:
    """What one file says, in the order of the file."""

    kind: ConfigKind
    lines: tuple[KernelLine, ...]
    references: tuple[Reference, ...]


def shown(title: str) -> str:
    """Return a title as it can be shown: a sign stands for what is no text, or no character that is printed."""
    return "".join(character if character.isprintable() else "\ufffd" for character in title)


def is_kernel(path: str) -> bool:
    """Whether what a loader starts by this path is a Linux kernel, and not another program that looks like one."""
    return not _NO_KERNEL.fullmatch(path.rpartition("/")[2])


def reference(kind: ConfigKind, path: str, directory: str) -> Reference:
    """Return a reference to ``path``, seen from ``directory``; one that can't be followed says so."""
    unknown = not path or any(character in path for character in "$()\\") or "::" in path or "://" in path
    if unknown or not directory.startswith("/"):
        return Reference(kind=kind, path=path, resolvable=False)
    parts: list[str] = []
    for part in (path if path.startswith("/") else f"{directory}/{path}").split("/"):
        if part == ".." and not parts:
            return Reference(kind=kind, path=path, resolvable=False)
        if part == "..":
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return Reference(kind=kind, path="/" + "/".join(parts), resolvable=True)


def decoded(text: bytes, kind: ConfigKind) -> str:
    """Return the text of a file, from which :func:`encoded` makes the same bytes again.

    Raises:
        LoaderConfigRefused: it is too large to be one.
    """
    if len(text) > LARGEST_CONFIG:
        reason = f"it has {len(text)} bytes, and none is larger than {LARGEST_CONFIG}"
        raise LoaderConfigRefused(kind=kind, entry="", reason=reason)
    return text.decode("utf-8", "surrogateescape")


def encoded(text: str) -> bytes:
    """Return the bytes of a text that :func:`decoded` made."""
    return text.encode("utf-8", "surrogateescape")
