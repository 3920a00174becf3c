"""A file as QEMU shows it: written through a driver of its own, on any kernel with FUSE."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PATIENCE = 20.0


@contextmanager
def exported(door: Path, size: int, *nodes: str) -> Iterator[None]:
    """Show a block device of QEMU's as a file of so many bytes.

    Args:
        door: the file, which is there and empty.
        size: what it will have.
        nodes: as ``--blockdev`` takes them, each before what uses it; the last one is shown and named ``seen``.
    """
    argv = ["qemu-storage-daemon", *(word for node in nodes for word in ("--blockdev", node))]
    argv += ["--export", f"type=fuse,id=door,node-name=seen,mountpoint={door},writable=on"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as daemon:
        _wait_for(door, size, daemon)
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
