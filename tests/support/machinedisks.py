"""The disks of the test machine, and those that its kernel makes up; found by what they say of themselves."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.oracles import output
from tests.support.udevd import settle, until

NOTHING_STARTS_BY_ITSELF = "activation {\nauto_activation_volume_list = []\n}\n"
"""A configuration of LVM: else udevd starts the volumes of a disk that is only looked at."""

_SCSI = Path("/sys/bus/pseudo/drivers/scsi_debug")


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A partition as lsblk sees it, in bytes; its PARTUUID comes from udev."""

    node: str
    start: int
    size: int
    uuid: str


def blank(serial: str) -> str:
    """Return the node of the machine's disk with this serial number; what the last test left there is gone."""
    rows = json.loads(output("lsblk", "--nodeps", "--json", "--output", "PATH,SERIAL"))["blockdevices"]
    (node,) = (str(row["path"]) for row in rows if row["serial"] == serial)
    nodes = [child.node for child in children(node)]
    _locked(node, "wipefs", "--quiet", "--all", "--force", *nodes, node)
    reread(node)
    return node


@contextmanager
def scsi(sector_size: int, *, removable: bool = False) -> Iterator[str]:
    """Give a SCSI disk of 400 MiB, in the kernel's memory."""
    words = (f"sector_size={sector_size}", f"removable={int(removable)}", "dev_size_mb=400", "delay=0")
    subprocess.run(["modprobe", "scsi_debug", *words], check=True)
    try:
        assert until(lambda: any(_SCSI.glob("adapter*/host*/target*/*/block/*")), within=20)
        (block,) = _SCSI.glob("adapter*/host*/target*/*/block/*")
        settle()
        yield f"/dev/{block.name}"
        settle()
    finally:
        subprocess.run(["modprobe", "--remove", "scsi_debug"], check=True)


@contextmanager
def mapped(serial: str, name: str, uuid: str) -> Iterator[str]:
    """Give a disk of device mapper's, all of which is on the machine's disk with this serial number."""
    beneath = blank(serial)
    table = f"0 {output('blockdev', '--getsz', beneath).strip()} linear {beneath} 0"
    output("dmsetup", "create", name, *(["--uuid", uuid] if uuid else []), "--table", table)
    node = f"/dev/mapper/{name}"
    try:
        settle()
        yield node
        settle()
    finally:
        output("kpartx", "-d", "-p", "-part", node)
        output("dmsetup", "remove", "--retry", name)
        blank(serial)


@contextmanager
def mirror(*serials: str) -> Iterator[str]:
    """Give a RAID-1 of whole disks, as a disk that gets partitions."""
    disks = [blank(serial) for serial in serials]
    argv = ("--level=1", f"--raid-devices={len(disks)}", "--metadata=1.0", "--run", "--assume-clean")
    output("mdadm", "--create", "/dev/md/whole", *argv, *disks)
    node = str(Path("/dev/md/whole").resolve())
    try:
        settle()
        yield node
        settle()
    finally:
        output("mdadm", "--stop", node)
        output("mdadm", "--zero-superblock", *disks)
        for serial in serials:
            blank(serial)


@contextmanager
def lvm_configured(text: str) -> Iterator[None]:
    """Have LVM configured otherwise for a while; the file is the machine's own."""
    path = Path("/etc/lvm/lvm.conf")
    before = path.read_text()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(before)


def children(node: str) -> tuple[Child, ...]:
    """Return the partitions that the kernel has of a disk, as lsblk tells them, in their order on the disk."""
    settle()
    argv = ("lsblk", "--json", "--bytes", "--list", "--output", "PATH,TYPE,START,SIZE,PARTUUID", node)
    found = json.loads(output(*argv))["blockdevices"]
    parts = (
        Child(node=row["path"], start=row["start"] * 512, size=row["size"], uuid=row["partuuid"])
        for row in found
        if row["type"] == "part"
    )
    # lsblk's own order is that in which the kernel was told of them, or in which it found them.
    return tuple(sorted(parts, key=lambda part: part.start))


def reread(node: str) -> None:
    """Let the kernel read a disk's table."""
    _locked(node, "blockdev", "--rereadpt", node)
    settle()


def _locked(node: str, *argv: str) -> None:
    """Run a program while udevd looks at nothing of a disk: what udevd has open is busy."""
    subprocess.run(["udevadm", "lock", f"--device={node}", *argv], check=True)
