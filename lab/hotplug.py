"""A machine into which its own system plugs disks: QEMU's monitor is one of its serial ports, and bays are free.

What a disk of QEMU's can do and the kernel's own can't (fail as blkdebug says, be an NVMe disk that is taken out), the
system in the machine asks for itself, in QEMU's own language. No disk is in a bay at first. What is to be on them are
two block nodes of QEMU's: a file, and what nbdkit serves, whose writes fail for as long as a shared file is there.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MONITOR = "monitor"
"""The name of the port; udev has it in /dev/virtio-ports."""

BAY = "bay"
"""The PCI port that is free, by QEMU's name."""

SCSI = "scsi"
"""The SCSI adapter, to which disks can be added."""

SIZE = 160 * 1024 * 1024
"""Bytes of each disk."""

FILE, SERVED = "file", "served"
"""The block nodes."""

FAILING = "served-writes-fail"
"""The shared file that says so."""

_LISTENING_SECONDS = 60


@contextmanager
def bays(folder: Path, share: Path) -> Iterator[list[str]]:
    """Give the arguments for QEMU, whose monitor and disks are in a folder; nbdkit ends with the ``with``.

    Args:
        folder: has room for a disk, and is there until the machine is off.
        share: the folder that the machine and the host share.
    """
    file, monitor, served = folder / FILE, folder / MONITOR, folder / SERVED
    with file.open("wb") as disk:
        disk.truncate(SIZE)
    with _nbdkit(served, share / FAILING):
        yield [
            # The monitor listens, and the port of the machine calls it: one QEMU speaks to itself.
            *("-chardev", f"socket,id=monitor,path={monitor},server=on,wait=off"),
            *("-mon", "chardev=monitor,mode=control"),
            *("-chardev", f"socket,id=port,path={monitor}"),
            *("-device", "virtio-serial-pci", "-device", f"virtserialport,chardev=port,name={MONITOR}"),
            *("-device", f"pcie-root-port,id={BAY},chassis=1", "-device", f"virtio-scsi-pci,id={SCSI}"),
            # As the other disks' flushes do, a flush of these ends in the host's memory.
            *("-blockdev", f"driver=file,node-name={FILE},filename={file},cache.no-flush=on,discard=unmap"),
            *("-blockdev", f"driver=nbd,node-name={SERVED},server.type=unix,server.path={served}"),
        ]


@contextmanager
def _nbdkit(socket: Path, failing: Path) -> Iterator[None]:
    rules = ("error=EIO", "error-pwrite-rate=100%", "error-zero-rate=100%", f"error-file={failing}")
    argv = ["nbdkit", "--foreground", "--exit-with-parent", "--unix", str(socket), "--filter=error", "memory"]
    with subprocess.Popen([*argv, str(SIZE), *rules]) as server:
        try:
            deadline = time.monotonic() + _LISTENING_SECONDS
            while not socket.exists():
                if server.poll() is not None or time.monotonic() > deadline:
                    raise OSError(f"nbdkit doesn't listen on {socket}")
                time.sleep(0.02)
            yield
        finally:
            server.terminate()
