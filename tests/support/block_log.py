"""A disk whose every write and flush is noted, on any kernel with FUSE and loop devices: QEMU's blklogwrites under one.

Device mapper isn't needed. The loop device's file is one that qemu-storage-daemon exports, so what is seen is what the
kernel sends to a disk: the process' own writes once they leave the page cache, those of mkfs, and a file system's.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from libironic_disk.pure.ranges import ByteRange
from tests.support import dm_log
from tests.support.disks import attach
from tests.support.write_log import WriteLog

_ROOM = 1 << 40
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedDisk:
    """The loop device, the file in which its bytes are, and the log.

    Of several disks of one file the log is one as well: all that was written, in one order.
    """

    node: str
    file: Path
    log: Path
    sector_size: int

    def written(self) -> WriteLog:
        """Return what was written and flushed so far; what waits in the page cache wasn't."""
        return dm_log.read(self.log)

    def settle(self) -> None:
        """Bring all that waits in the page cache to the disk: the log's end."""
        subprocess.run(["blockdev", "--flushbufs", self.node], check=True)
        descriptor = os.open(self.node, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def logged(file: Path, sector_size: int = 512) -> Iterator[LoggedDisk]:
    """Attach a file as a disk, and note beside it what happens to it."""
    with logged_disks(file, [ByteRange(0, file.stat().st_size)], sector_size) as (disk,):
        yield disk


@contextmanager
def logged_disks(file: Path, places: Sequence[ByteRange], sector_size: int = 512) -> Iterator[tuple[LoggedDisk, ...]]:
    """Attach parts of a file as disks, and note beside it what happens to them; a flush of one is one of all."""
    log, door = file.with_suffix(".log"), file.with_suffix(".door")
    with ExitStack() as releases:
        for path in (log, door):
            releases.callback(path.unlink, missing_ok=True)
            path.touch()
        # Holes until they are written.
        os.truncate(log, _ROOM)
        releases.enter_context(_exported(file, log, door))
        disks = [releases.enter_context(attach(door, sector_size, place=(place.start, place.size))) for place in places]
        yield tuple(LoggedDisk(node=disk.node, file=file, log=log, sector_size=sector_size) for disk in disks)


@contextmanager
def _exported(file: Path, log: Path, door: Path) -> Iterator[None]:
    argv = [
        "qemu-storage-daemon",
        *("--blockdev", f"driver=file,node-name=disk,filename={file},discard=unmap"),
        *("--blockdev", f"driver=file,node-name=notes,filename={log}"),
        # The number of entries is in the log's first sector, which is written anew after so many of them.
        *("--blockdev", "driver=blklogwrites,node-name=seen,file=disk,log=notes,log-super-update-interval=1"),
        *("--export", f"type=fuse,id=door,node-name=seen,mountpoint={door},writable=on"),
    ]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as daemon:
        _wait_for(door, file.stat().st_size, daemon)
        try:
            yield
        finally:
            daemon.terminate()
            assert daemon.wait(_PATIENCE) == 0


def _wait_for(door: Path, size: int, daemon: subprocess.Popen[str]) -> None:
    until = time.monotonic() + _PATIENCE
    while door.stat().st_size != size:
        if daemon.poll() is not None or time.monotonic() > until:
            daemon.kill()
            pytest.fail(f"qemu-storage-daemon shows no disk: {daemon.communicate()[1]}")
        time.sleep(0.01)
