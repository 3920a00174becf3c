"""Boot entries in the firmware of the machine we run on, by efibootmgr.

They are a convenience: the loader lies at the removable path, which firmware finds without an entry. So whatever goes
wrong here (no EFI variables, no room, firmware that drops what it was told) ends as a warning and never as an error.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from libironic_disk.errors import ProgramError, ToolMissing
from libironic_disk.machine import process

EFI_VARIABLES: Final = Path("/sys/firmware/efi/efivars")

_TIMEOUT: Final = 60.0
# Version 17 needs -v for paths, version 18 always has them; 18 glues an entry's optional data to a path without File().
_ENTRY: Final = re.compile(r"^Boot(?P<number>[0-9A-Fa-f]{4})[* ] (?P<label>[^\t]*)\t(?P<path>.*)$", re.MULTILINE)
_ON_PARTITION: Final = re.compile(
    r"HD\((?P<part>\d+),(?:GPT|MBR),(?P<signature>[0-9A-Fa-fx-]+),[^)]*\)/"
    r"(?:File\((?P<file>\\[^)]*)\)|(?P<glued>\\.*))"
)


class Outcome(StrEnum):
    """How the search for an entry ended."""

    CREATED = "created"
    REUSED = "reused"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What became of the entry: its four hexadecimal digits where there is one, and what went wrong."""

    outcome: Outcome
    number: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """A loader on a partition: what an entry has to point at.

    ``partuuid`` is the partition's, as the kernel writes it. ``path`` has slashes, none at its start.
    """

    disk: str
    number: int
    partuuid: str
    path: str

    @property
    def file(self) -> str:
        """The path as the firmware writes it."""
        return "\\" + self.path.replace("/", "\\")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    number: str
    label: str
    path: str

    def on_partition(self, loader: Loader) -> bool:
        found = _ON_PARTITION.search(self.path)
        if found is None:
            return False
        signature = found["signature"].lower()
        wanted = loader.partuuid.lower()
        # The signature of an MBR is the disk's: only with the number it names a partition.
        on_mbr = f"{signature.removeprefix('0x'):0>8}-{int(found['part']):02x}"
        return wanted == (on_mbr if signature.startswith("0x") else signature)

    def starts(self, loader: Loader) -> bool:
        found = _ON_PARTITION.search(self.path)
        if found is None or not self.on_partition(loader):
            return False
        file = loader.file.lower()
        return found["file"].lower() == file if found["file"] else found["glued"].lower().startswith(file)


def available(variables: Path = EFI_VARIABLES) -> bool:
    """Whether this machine was started by UEFI and its variables can be written."""
    try:
        return any(variables.iterdir()) and os.access(variables, os.W_OK)
    except OSError:
        return False


def register(loader: Loader, *, label: str, variables: Path = EFI_VARIABLES) -> Registration:
    """See to it that the firmware has exactly one entry for the loader, and put a new one first in its order.

    An entry that starts this loader is kept whatever its label. Others with our label on the same partition are
    removed. The partition must be in the disk's table by now: efibootmgr reads it.
    """
    if not available(variables):
        return Registration(outcome=Outcome.UNAVAILABLE)
    try:
        return _register(loader, label)
    except (ProgramError, ToolMissing) as error:
        return Registration(outcome=Outcome.FAILED, warnings=(str(error),))


def _register(loader: Loader, label: str) -> Registration:
    entries = _parse(_efibootmgr("--verbose"))
    kept = next((entry for entry in entries if entry.starts(loader)), None)
    stale = [e for e in entries if e.label == label and e.on_partition(loader) and e is not kept]
    # Before one is made: a full store may have room only then.
    warnings = tuple(warning for entry in stale if (warning := _remove(entry)))
    if kept is not None:
        return Registration(outcome=Outcome.REUSED, number=kept.number, warnings=warnings)
    argv = ("--create", "--disk", loader.disk, "--part", str(loader.number), "--label", label, "--loader", loader.file)
    _efibootmgr(*argv)
    made = next((entry for entry in _parse(_efibootmgr("--verbose")) if entry.starts(loader)), None)
    if made is None:
        lost = f"the firmware has no entry for {loader.file} although efibootmgr made one"
        return Registration(outcome=Outcome.FAILED, warnings=(*warnings, lost))
    return Registration(outcome=Outcome.CREATED, number=made.number, warnings=warnings)


def _remove(entry: _Entry) -> str:
    try:
        _efibootmgr("--bootnum", entry.number, "--delete-bootnum")
    except ProgramError as error:
        return str(error)
    return ""


def _efibootmgr(*argv: str) -> str:
    return process.run("efibootmgr", *argv, timeout=_TIMEOUT).stdout.decode(errors="replace")


def _parse(text: str) -> tuple[_Entry, ...]:
    return tuple(_Entry(**match.groupdict()) for match in _ENTRY.finditer(text))
