"""Every write that reaches a disk, in order, file system's own included: device mapper's log-writes target.

The log's layout is the kernel's drivers/md/dm-log-writes.c: a super block, then for each write an entry in one sector
and the data behind it.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")
_MAGIC = 0x6A736677736872
_SECTOR = 512
_DISCARD, _MARK = 4, 8
_NAME = "libironic_disk-test-log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Bytes that reached the disk; zeros where it was told to discard."""

    offset: int
    data: bytes


@contextmanager
def logged(node: str, log: str) -> Iterator[str]:
    """Give a device upon ``node`` whose writes are noted on ``log``."""
    sectors = subprocess.run(["blockdev", "--getsz", node], check=True, capture_output=True, text=True).stdout.strip()
    table = f"0 {sectors} log-writes {node} {log}"
    subprocess.run(["modprobe", "dm-log-writes"], check=True)
    subprocess.run(["dmsetup", "create", _NAME, "--table", table], check=True)
    try:
        yield f"/dev/mapper/{_NAME}"
    finally:
        subprocess.run(["dmsetup", "remove", "--retry", _NAME], check=True)


def writes(log: str) -> Iterator[Write]:
    """Yield what was written, in the order in which it was complete."""
    with Path(log).open("rb") as file:
        magic, _, entries, sector_size = _SUPER.unpack(file.read(_SUPER.size))
        assert magic == _MAGIC
        at = sector_size
        for _ in range(entries):
            file.seek(at)
            sector, count, flags, length = _ENTRY.unpack(file.read(_ENTRY.size))
            at += sector_size
            if flags & _MARK:
                at += -(-length // sector_size) * sector_size
                continue
            if flags & _DISCARD:
                yield Write(offset=sector * _SECTOR, data=bytes(count * _SECTOR))
                continue
            file.seek(at)
            if count:
                yield Write(offset=sector * _SECTOR, data=file.read(count * _SECTOR))
            at += count * _SECTOR
