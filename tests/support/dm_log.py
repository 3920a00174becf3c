"""Every write that reaches a disk, in order, file system's own included: the log of device mapper's log-writes target.

The log's layout is the kernel's drivers/md/dm-log-writes.c: a super block, then for each write an entry in one sector
and the data behind it, all of them in sectors of the size that the disk has. QEMU's blklogwrites writes the same
(:mod:`tests.support.block_log`).
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.write_log import Change, WriteLog

_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")
_MAGIC = 0x6A736677736872
_FLUSH, _FUA, _DISCARD, _MARK = 1, 2, 4, 8
_NAME = "libironic_disk-test-log"


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


def writes(log: str | Path) -> Iterator[Change]:
    """Yield what was written, in the order in which it was complete; zeros where the disk was told to discard."""
    return (change for change in _changes(Path(log)) if change is not None)


def read(log: str | Path, *, changes: int | None = None) -> WriteLog:
    """Return what was written and flushed, the first ``changes`` writes of it."""
    groups: list[tuple[Change, ...]] = []
    group: list[Change] = []
    left = changes
    for change in _changes(Path(log)):
        if change is None:
            groups.append(tuple(group))
            group = []
            continue
        if left is not None:
            if not left:
                break
            left -= 1
        group.append(change)
    return WriteLog(groups=(*groups, tuple(group)))


def _changes(log: Path) -> Iterator[Change | None]:
    """Yield each write, and None for each flush, of what was written before it."""
    with log.open("rb") as file:
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
            # A flush that came with data was before them.
            if flags & _FLUSH:
                yield None
            if flags & _DISCARD:
                yield Change(sector * sector_size, count * sector_size, None)
                continue
            file.seek(at)
            if count:
                yield Change(sector * sector_size, count * sector_size, file.read(count * sector_size))
            at += count * sector_size
            if flags & _FUA:
                yield None
