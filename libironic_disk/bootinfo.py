"""boot-info.json: which systems a machine has, for whoever manages it.

It is the document of the multi-image specification; Bareon's own ``boot_entries.json`` is read too::

    info = bootinfo.read(Path("/tmp/boot-info.json"))
    bootinfo.write(info, Path("/tmp/boot-info.json"))
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from libironic_disk.errors import PathFailed
from libironic_disk.pure.multiboot.bootinfo import BootElement as BootElement
from libironic_disk.pure.multiboot.bootinfo import BootInfo as BootInfo
from libironic_disk.pure.multiboot.bootinfo import JsonValue as JsonValue
from libironic_disk.pure.multiboot.bootinfo import as_json as as_json
from libironic_disk.pure.multiboot.bootinfo import parse as parse
from libironic_disk.units import MIB

__all__ = ["BootElement", "BootInfo", "JsonValue", "as_json", "parse", "read", "write"]

_LIMIT: Final = 16 * MIB


def read(path: Path) -> BootInfo:
    """Read a document from a file.

    Raises:
        PathFailed: it can't be read, or has more than 16 MiB.
        DocumentInvalid: it isn't one; with every defect.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT + 1)
    except OSError as error:
        raise _failed(path, error) from error
    if len(data) > _LIMIT:
        raise PathFailed(tree="this machine", path=str(path), reason=f"it has more than {_LIMIT} bytes")
    return parse(data.decode(errors="replace"))


def write(info: BootInfo, path: Path) -> None:
    """Write a file that appears under its name only when it is complete and on the disk.

    Raises:
        PathFailed: it can't be written; what was there before is still there, and nothing else.
    """
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            with os.fdopen(descriptor, "wb") as file:
                file.write(as_json(info).encode())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)
    except OSError as error:
        raise _failed(path, error) from error


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failed(path: Path, error: OSError) -> PathFailed:
    return PathFailed(tree="this machine", path=str(path), reason=error.strerror or str(error))
