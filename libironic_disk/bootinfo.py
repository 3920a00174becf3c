"""boot-info.json: which systems a machine has, for whoever manages it.

It is the document of the multi-image specification; Bareon's own ``boot_entries.json`` is read too::

    info = bootinfo.read(Path("/tmp/boot-info.json"))
    bootinfo.write(info, Path("/tmp/boot-info.json"))
    info.element("ubuntu").grub_id
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from libironic_disk.errors import DocumentInvalid, PathFailed
from libironic_disk.machine.paths import removed_on_error
from libironic_disk.pure.multiboot.bootinfo import KIND
from libironic_disk.pure.multiboot.bootinfo import BootElement as BootElement
from libironic_disk.pure.multiboot.bootinfo import BootInfo as BootInfo
from libironic_disk.pure.multiboot.bootinfo import as_json as as_json
from libironic_disk.pure.multiboot.bootinfo import parse as parse
from libironic_disk.pure.multiboot.jsonvalues import JsonValue as JsonValue
from libironic_disk.units import MIB

__all__ = ["BootElement", "BootInfo", "JsonValue", "as_json", "parse", "read", "write"]

_LIMIT: Final = 16 * MIB
_MODE: Final = 0o644


def read(path: Path | str) -> BootInfo:
    """Read a document from a file.

    Raises:
        PathFailed: it can't be read, is no regular file, or has more than 16 MiB.
        DocumentInvalid: it isn't one; with every defect.
    """
    try:
        data = _read(path)
    except (OSError, ValueError) as error:
        raise _failed(path, error) from error
    if len(data) > _LIMIT:
        raise PathFailed(tree="this machine", path=str(path), reason=f"it has more than {_LIMIT} bytes")
    try:
        return parse(data.decode())
    except UnicodeDecodeError as error:
        raise DocumentInvalid(kind=KIND, problems=(f"byte {error.start} is no UTF-8",)) from error


def write(info: BootInfo, path: Path | str) -> None:
    """Write a file that appears under its name only when it is complete and on the disk; everybody may read it.

    Raises:
        DocumentInvalid: the value has defects; nothing was written.
        PathFailed: it can't be written. What was there before is still there and nothing else, unless only the
            directory could not be brought to the disk: then the new file is there, and may not outlast a power cut.
    """
    text = as_json(info)
    try:
        _replace(Path(path), text.encode())
        _sync_directory(Path(path).parent)
    except (OSError, ValueError) as error:
        # ValueError is Python's own answer to a path with a NUL in it.
        raise _failed(path, error) from error


def _read(path: Path | str) -> bytes:
    """Read a regular file, and one byte more than it may have."""
    # Directories for everybody's files hold other things too: a pipe would be waited for, a device act on being opened.
    if stat.S_ISREG(os.stat(path).st_mode):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return file.read(_LIMIT + 1)
    raise PathFailed(tree="this machine", path=str(path), reason="it is not a regular file")


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    with removed_on_error(temporary):
        with os.fdopen(descriptor, "wb") as file:
            # The mode that open() is given is less what the process's mask takes away.
            os.fchmod(descriptor, _MODE)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failed(path: Path | str, error: OSError | ValueError) -> PathFailed:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return PathFailed(tree="this machine", path=str(path), reason=reason)
