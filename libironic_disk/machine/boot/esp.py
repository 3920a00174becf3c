"""Files on an EFI system partition, written by mtools without a mount: the kernel needs no vfat."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from libironic_disk.errors import DeviceFailed
from libironic_disk.machine import process, scratch
from libironic_disk.pure.roles import Architecture

TOOLS: Final = ("mcopy", "mdel", "mdir", "mmd", "mren")
REMOVABLE_LOADERS: Final[Mapping[Architecture, str]] = {
    Architecture.AARCH64: "EFI/BOOT/BOOTAA64.EFI",
    Architecture.RISCV64: "EFI/BOOT/BOOTRISCV64.EFI",
    Architecture.X86_64: "EFI/BOOT/BOOTX64.EFI",
}
"""Where firmware without a boot entry looks for a loader (UEFI 2.10, 3.5.1.1)."""

# No configuration of this machine's, and no geometry check: a partition has none to compare the boot sector's with.
_ENVIRONMENT: Final = {"MTOOLSRC": "/dev/null", "MTOOLS_SKIP_CHECK": "1"}
_TIMEOUT: Final = 120.0
# Short names in upper case: mren changes these, and nothing beside them, in the directory's sector.
_NEW: Final = "LIBIRON.NEW"
_OLD: Final = "LIBIRON.OLD"


def write_file(node: str, path: str, data: bytes) -> None:
    """Write one file and the directories above it into the FAT file system on ``node``; it is on the disk on return.

    ``path`` has slashes, none at its start. It gets its name when all of it is on the disk, so that a firmware starts
    none of which a part is there. One that had the name stays until then, and needs its room.

    Raises:
        ProgramError: mtools failed: no FAT, or full.
        DeviceFailed: the device reported a write error.
        TemporaryFilesFailed: there is no room for a copy of the file.
    """
    directory, _, name = f"/{path}".rpartition("/")
    above = ""
    for part in directory.split("/")[1:]:
        above = f"{above}/{part}"
        _make_directory(node, above)
    # A short name keeps its case, whatever mren is told.
    new = f"::{directory}/{_NEW.lower() if name.islower() else _NEW}"
    old = f"::{directory}/{_OLD}"
    # Not through a pipe: mcopy 4.0.32 then ends well where the disk is full, and leaves no file.
    with scratch.holding(data) as source:
        _run("mcopy", node, "-o", str(source), new)
    _flush(node)
    _delete(node, old)
    # FAT knows no renaming over another file. Both names are in one directory, mostly in one sector of it.
    if _exists(node, f"::/{path}"):
        _run("mren", node, f"::/{path}", old)
    _run("mren", node, new, f"::/{path}")
    _flush(node)
    if _delete(node, old):
        _flush(node)


def read_file(node: str, path: str) -> bytes:
    """Return the contents of a file in the FAT file system on ``node``.

    Raises:
        ProgramError: mtools failed: no FAT, or no such file.
    """
    return _run("mcopy", node, f"::/{path}", "-").stdout


def _make_directory(node: str, path: str) -> None:
    # mmd fails where the directory exists, with the same status as where there is no room for it.
    if not _exists(node, f"::{path}/"):
        _run("mmd", node, f"::{path}")


def _delete(node: str, place: str) -> bool:
    found = _exists(node, place)
    if found:
        _run("mdel", node, place)
    return found


def _exists(node: str, place: str) -> bool:
    return _run("mdir", node, "-b", place, ok=(0, 1)).exit_code == 0


def _run(program: str, node: str, *arguments: str, ok: tuple[int, ...] = (0,)) -> process.Completed:
    return process.run(program, "-i", node, *arguments, ok=ok, timeout=_TIMEOUT, environment=_ENVIRONMENT)


def _flush(node: str) -> None:
    try:
        descriptor = os.open(node, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DeviceFailed(device=node, action="writing to", reason=error.strerror or str(error)) from error
