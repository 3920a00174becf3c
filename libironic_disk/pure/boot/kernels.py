"""Kernels and their initial RAM disks, found by the names that distributions give them in ``/boot``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_KERNEL: Final = re.compile(r"(?:vmlinuz|vmlinux|Image)-(?P<version>[A-Za-z0-9][A-Za-z0-9._+~-]{0,127})")
_NO_KERNEL: Final = (
    ".old",
    ".bak",
    ".dpkg-old",
    ".dpkg-new",
    ".dpkg-tmp",
    ".rpmsave",
    ".rpmnew",
    ".sig",
    ".hmac",
    # SUSE's vmlinux-VERSION.gz beside its vmlinuz-VERSION: for debuggers.
    ".gz",
    ".xz",
    ".zst",
    ".bz2",
)
_INITRDS: Final = (
    "initrd.img-{}",  # Debian
    "initramfs-{}.img",  # dracut: Fedora, RHEL
    "initrd-{}",  # SUSE
    "initramfs-{}",  # Alpine
)
_PRERELEASE: Final = re.compile(r"[._-](?=(?:pre|rc|test|trunk)(?![a-z]))")
_MOST: Final = 64
"""Kernels of one image that are listed: the menu of all systems has to stay readable, for GRUB and for us."""
_RESCUE: Final = re.compile(r"(?:^0-|[.-])rescue(?:$|[.-])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel and its initial RAM disk by their names in ``/boot``; ``initrd`` is empty where there is none."""

    version: str
    name: str
    initrd: str


def find_kernels(names: Iterable[str]) -> tuple[Kernel, ...]:
    """Return the kernels in a listing of ``/boot``: newest first, rescue kernels behind all others.

    Of more than 64 the others are passed over. A name with any character beyond letters, digits and ``._+~-`` is none:
    these names reach a boot loader's script.
    """
    present = frozenset(names)
    found = [
        Kernel(version=match["version"], name=name, initrd=_initrd(match["version"], present))
        for name in present
        if (match := _KERNEL.fullmatch(name)) and not name.endswith(_NO_KERNEL)
    ]
    found.sort(key=lambda kernel: (version_key(kernel.version), kernel.name), reverse=True)
    found.sort(key=lambda kernel: _RESCUE.search(kernel.version) is not None)
    return tuple(found[:_MOST])


def _initrd(version: str, present: frozenset[str]) -> str:
    return next((name for pattern in _INITRDS if (name := pattern.format(version)) in present), "")


def version_key(version: str) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Return a key that orders versions as Debian's policy does (section 5.6.12): runs of digits count as numbers.

    A release candidate (``6.9-rc1``) comes before its release, as in GRUB's own sorting.
    """
    pieces = re.findall(r"([^0-9]*)([0-9]*)", _PRERELEASE.sub("~", version))
    return tuple((_text_key(text), int(digits or "0")) for text, digits in pieces)


def _text_key(text: str) -> tuple[int, ...]:
    """A tilde sorts before the end of the text, the end before letters, letters before all else."""
    ranks = (-1 if c == "~" else ord(c) if c.isalpha() else ord(c) + 0x100 for c in text)
    return (*ranks, 0)
