"""A disk whose every write and flush is noted, on any kernel with FUSE and loop devices: QEMU's blklogwrites under one.

Device mapper isn't needed. The loop device's file is one that qemu-storage-daemon exports, so what is seen is what the
kernel sends to a disk: the process' own writes once they leave the page cache, those of mkfs, and a file system's.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from libironic_disk.pure.ranges import ByteRange
from tests.support import dm_log
from tests.support.disks import attach
from tests.support.exports import exported
from tests.support.write_log import WriteLog

_ROOM = 1 << 40


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
        nodes = (
            f"driver=file,node-name=disk,filename={file},discard=unmap",
            f"driver=file,node-name=notes,filename={log}",
            # The number of entries is in the log's first sector, which is written anew after so many of them.
            "driver=blklogwrites,node-name=seen,file=disk,log=notes,log-super-update-interval=1",
        )
        releases.enter_context(exported(door, file.stat().st_size, *nodes))
        disks = [releases.enter_context(attach(door, sector_size, place=(place.start, place.size))) for place in places]
        yield tuple(LoggedDisk(node=disk.node, file=file, log=log, sector_size=sector_size) for disk in disks)
