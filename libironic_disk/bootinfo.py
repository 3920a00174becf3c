"""boot-info.json: which systems a machine has, for whoever manages it.

It is the document of the multi-image specification; Bareon's own ``boot_entries.json`` is read too::

    info = bootinfo.read(Path("/tmp/boot-info.json"))
    bootinfo.write(info, Path("/tmp/boot-info.json"))
    info.element("ubuntu").grub_id
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from libironic_disk.errors import DocumentInvalid, PathFailed
from libironic_disk.machine.paths import HERE, read_plain
from libironic_disk.machine.replacing import replacing
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
        data = read_plain(path, _LIMIT + 1)
    except (OSError, ValueError) as error:
        raise PathFailed.of(HERE, str(path), error) from error
    if data is None:
        raise PathFailed(tree=HERE, path=str(path), reason="it is not a regular file")
    if len(data) > _LIMIT:
        raise PathFailed(tree=HERE, path=str(path), reason=f"it has more than {_LIMIT} bytes")
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
    with replacing(Path(path)) as temporary, temporary.open("r+b") as file:
        # Whatever the process's mask is.
        os.fchmod(file.fileno(), _MODE)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
