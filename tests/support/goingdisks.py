"""SCSI disks that are taken out of the machine, and put in again with what is on them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import Bench
from tests.support.disks import LoopDisk, attach
from tests.support.udevd import settle, until

_SCSI = Path("/sys/bus/pseudo/drivers/scsi_debug")
_SECTOR = 512


class GoingDisk:
    """A disk of the kernel's own SCSI adapter, whose memory stays when the disk goes."""

    def __init__(self, bench: Bench, node: str) -> None:
        self._bench = bench
        self.node = node

    def go(self) -> None:
        """Take it out."""
        Path("/sys/class/block", Path(self.node).name, "device/delete").write_text("1")

    def come_back(self) -> None:
        """Put it in again, if it is out; it may have another name then."""
        if not Path(self.node).exists():
            (host,) = _SCSI.glob("adapter*/host*")
            Path("/sys/class/scsi_host", host.name, "scan").write_text("- - -")
            self.node = _found()

    def fill(self, image: Path) -> None:
        """Give it the contents of a file of its size."""
        subprocess.run(["dd", f"if={image}", f"of={self.node}", "bs=1M", "conv=fsync", "status=none"], check=True)
        settle()

    def digest(self) -> str:
        """Return the SHA-256 of what is on it."""
        with self.really() as found:
            return found.digest()

    @contextmanager
    def really(self) -> Iterator[LoopDisk]:
        """Give what is on it, as a disk of its own; it is back then."""
        self.come_back()
        with copy_of(self._bench, self.node) as found:
            yield found


@contextmanager
def copy_of(bench: Bench, node: str) -> Iterator[LoopDisk]:
    """Give what is on a disk of 512-byte sectors as a loop disk, which stays whatever becomes of that one."""
    file = bench.blank_file(1)
    subprocess.run(["blockdev", "--flushbufs", node], check=True)
    subprocess.run(["cp", "--sparse=always", node, file], check=True)
    with attach(file, _SECTOR) as found:
        settle()
        yield found
        settle()
    file.unlink()


@contextmanager
def going(bench: Bench, size: int) -> Iterator[GoingDisk]:
    """Give a blank SCSI disk that can be taken out."""
    words = (f"sector_size={_SECTOR}", f"dev_size_mb={size >> 20}", "delay=0")
    subprocess.run(["modprobe", "scsi_debug", *words], check=True)
    try:
        yield GoingDisk(bench, _found())
        settle()
    finally:
        subprocess.run(["modprobe", "--remove", "scsi_debug"], check=True)


def _found() -> str:
    pattern = "adapter*/host*/target*/*/block/*"
    assert until(lambda: any(_SCSI.glob(pattern)), within=20), "the kernel shows no disk"
    settle()
    (block,) = _SCSI.glob(pattern)
    return f"/dev/{block.name}"
