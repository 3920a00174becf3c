"""Loop devices in memory: the disks that are worked on."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IN_MEMORY = Path("/dev/shm")  # noqa: S108  a tmpfs is what we want: no disk's speed is to be measured


@contextmanager
def loop_disk(size: int) -> Iterator[str]:
    """Attach a sparse file of ``size`` bytes in memory as a disk with 512-byte sectors; detach it afterwards."""
    with tempfile.TemporaryDirectory(prefix="libironic_disk-bench-", dir=IN_MEMORY) as directory:
        file = Path(directory) / "disk"
        file.touch()
        os.truncate(file, size)
        argv = ["losetup", "--find", "--show", "--partscan", str(file)]
        node = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        try:
            yield node
        finally:
            subprocess.run(["losetup", "--detach", node], check=True)


def backing_file(node: str) -> Path:
    """Return the file behind a loop device."""
    return Path(Path("/sys/block", Path(node).name, "loop/backing_file").read_text().rstrip("\n"))


def blank(node: str) -> None:
    """Throw away all that a loop device in memory holds.

    Raises:
        SystemExit: something is left.
    """
    subprocess.run(["blkdiscard", "--force", node], check=True)
    if backing_file(node).stat().st_blocks:
        raise SystemExit(f"{node} isn't blank after blkdiscard: is its file on a tmpfs?")
