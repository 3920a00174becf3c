"""Files on an EFI system partition, written by mtools without a mount: the kernel needs no vfat."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from libironic_disk.errors import DeviceFailed
from libironic_disk.machine import process, scratch
from libironic_disk.pure.roles import Architecture

TOOLS: Final = ("mcopy", "mdir", "mmd")
REMOVABLE_LOADERS: Final[Mapping[Architecture, str]] = {
    Architecture.AARCH64: "EFI/BOOT/BOOTAA64.EFI",
    Architecture.RISCV64: "EFI/BOOT/BOOTRISCV64.EFI",
    Architecture.X86_64: "EFI/BOOT/BOOTX64.EFI",
}
"""Where firmware without a boot entry looks for a loader (UEFI 2.10, 3.5.1.1)."""

# No configuration of this machine's, and no geometry check: a partition has none to compare the boot sector's with.
_ENVIRONMENT: Final = {"MTOOLSRC": "/dev/null", "MTOOLS_SKIP_CHECK": "1"}
_TIMEOUT: Final = 120.0


def write_file(node: str, path: str, data: bytes) -> None:
    """Write one file and the directories above it into the FAT file system on ``node``; it is on the disk on return.

    ``path`` has slashes, none at its start. A file that is there is replaced.

    Raises:
        ProgramError: mtools failed: no FAT, or full.
        DeviceFailed: the device reported a write error.
        TemporaryFilesFailed: there is no room for a copy of the file.
    """
    directory = ""
    for name in path.split("/")[:-1]:
        directory = f"{directory}/{name}"
        _make_directory(node, directory)
    # Not through a pipe: mcopy 4.0.32 then ends well where the disk is full, and leaves no file.
    with scratch.holding(data) as source:
        argv = ("mcopy", "-o", "-i", node, str(source), f"::/{path}")
        process.run(*argv, timeout=_TIMEOUT, environment=_ENVIRONMENT)
    _flush(node)


def read_file(node: str, path: str) -> bytes:
    """Return the contents of a file in the FAT file system on ``node``.

    Raises:
        ProgramError: mtools failed: no FAT, or no such file.
    """
    return process.run("mcopy", "-i", node, f"::/{path}", "-", timeout=_TIMEOUT, environment=_ENVIRONMENT).stdout


def _make_directory(node: str, path: str) -> None:
    # mmd fails where the directory exists, with the same status as where there is no room for it.
    found = process.run("mdir", "-b", "-i", node, f"::{path}/", ok=(0, 1), timeout=_TIMEOUT, environment=_ENVIRONMENT)
    if found.exit_code:
        process.run("mmd", "-i", node, f"::{path}", timeout=_TIMEOUT, environment=_ENVIRONMENT)


def _flush(node: str) -> None:
    try:
        descriptor = os.open(node, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DeviceFailed(device=node, action="writing to", reason=error.strerror or str(error)) from error
