"""Disks of QEMU's that are plugged into the running test machine, that fail as blkdebug or nbdkit says, and that go.

All state is QEMU's: whoever breaks a disk or takes it out may be another process than the one that mends it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lab.hotplug import BAY, FAILING, FILE, SCSI, SERVED
from lab.testmachine import SHARE
from tests.conftest import Bench
from tests.support.disks import LoopDisk
from tests.support.goingdisks import copy_of
from tests.support.oracles import output
from tests.support.qemu_monitor import Monitor, Value, monitor
from tests.support.udevd import settle, until

_ID = "plugged"
_FAULTY = "faulty"
_SECONDS = 60
_NVME_RETRIES = Path("/sys/module/nvme_core/parameters/max_retries")


class Kind(StrEnum):
    """What a disk is to the machine."""

    VIRTIO = "virtio"
    """It has one error only, whatever QEMU's was: EIO."""
    NVME = "nvme"
    """A read or write that failed is a medium error to the kernel: ENODATA past the page cache, and EIO through it."""
    SCSI = "scsi"
    """The one that can say ENOSPC."""


class Operation(StrEnum):
    """What fails: an event of blkdebug's, of a node in QEMU's format raw above it."""

    READ = "read_aio"
    WRITE = "write_aio"
    FLUSH = "flush_to_disk"

    @property
    def said(self) -> str:
        """In one word."""
        return self.name.lower()


# What else fails with it, where it goes on failing.
_IO_TYPES = {
    Operation.READ: ("read",),
    Operation.WRITE: ("write", "write-zeroes", "discard"),
    Operation.FLUSH: ("flush",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An operation that fails."""

    operation: Operation
    error: int
    """An errno."""
    number: int = 1
    """Which one since the disk was broken; the first has the number 1."""
    is_lasting: bool = False
    """All that follow fail too."""
    sector: int | None = None
    """The one that has to be among those of the operation."""

    @property
    def rules(self) -> dict[str, Value]:
        """As blkdebug's options: a state for each operation until it fails."""
        event = str(self.operation)
        io_types = _IO_TYPES[self.operation] if self.is_lasting else _IO_TYPES[self.operation][:1]
        states: list[Value] = [{"event": event, "state": at, "new_state": at + 1} for at in range(1, self.number)]
        place: dict[str, Value] = {} if self.sector is None else {"sector": self.sector}
        errors: list[Value] = [
            {
                **place,
                "event": event,
                "state": self.number,
                "errno": self.error,
                "once": not self.is_lasting,
                "iotype": io_type,
            }
            for io_type in io_types
        ]
        # An empty list is an option that QEMU doesn't know.
        return {"inject-error": errors, **({"set-state": states} if states else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How many operations of each kind a disk has done, and how many failed, since it was plugged in."""

    tried: dict[Operation, int]
    failed: dict[Operation, int]


class QemuDisk:
    """A disk that is plugged in; :func:`plugged` makes one."""

    def __init__(self, bench: Bench, kind: Kind, contents: str) -> None:
        self.kind = kind
        self._bench = bench
        self._contents = contents
        self.node = ""

    def plug_in(self) -> None:
        """Put it into the machine, if it is out; it may have another name then."""
        if self.is_in():
            return
        with monitor() as qemu:
            match self.kind:
                case Kind.VIRTIO:
                    self._add(qemu, "virtio-blk-pci", bus=BAY, rerror="report", werror="report")
                case Kind.NVME:
                    self._add(qemu, "nvme", bus=BAY)
                case Kind.SCSI:
                    self._add(qemu, "scsi-hd", bus=f"{SCSI}.0", rerror="report", werror="report")
        assert until(lambda: len(_nodes()) == 1, within=_SECONDS), f"the kernel shows no disk {_ID}: {_nodes()}"
        (self.node,) = _nodes()
        settle()

    def go(self) -> None:
        """Take it out, whoever has it open; it has left the kernel then."""
        with monitor() as qemu:
            qemu.run("device_del", id=_ID)
        assert until(lambda: not self.is_in() and not _nodes(), within=_SECONDS), f"{self.node} doesn't leave"

    def is_in(self) -> bool:
        """Whether QEMU has it in the machine."""
        with monitor() as qemu:
            found = qemu.run("qom-list", path="/machine/peripheral")
        assert isinstance(found, list)
        return any(each["name"] == _ID for each in found)

    def break_by(self, fault: Fault) -> None:
        """Let it fail from now on."""
        with monitor() as qemu:
            file: dict[str, Value] = {"driver": "blkdebug", "image": self._contents, **fault.rules}
            qemu.run("blockdev-add", driver="raw", node_name=_FAULTY, file=file)
            self._lead_to(qemu, _FAULTY)

    def break_writes(self) -> None:
        """Let all writes of a disk fail that nbdkit serves."""
        assert self._contents == SERVED
        Path(SHARE, FAILING).touch()

    def mend(self) -> None:
        """Make it a sound disk again, with what is on it."""
        Path(SHARE, FAILING).unlink(missing_ok=True)
        with monitor() as qemu:
            self._lead_to(qemu, self._contents)
            _drop(qemu)

    def done(self) -> Done:
        """Return what it has done since it was plugged in."""
        with monitor() as qemu:
            found = qemu.run("query-blockstats")
        assert isinstance(found, list)
        # What has the disk is the device, or a part of it that QEMU made.
        (stats,) = (each["stats"] for each in found if _ID in Path(each.get("qdev", "")).parts)
        names = {Operation.READ: "rd", Operation.WRITE: "wr", Operation.FLUSH: "flush"}
        return Done(
            tried={each: stats[f"{name}_operations"] for each, name in names.items()},
            failed={each: stats[f"failed_{name}_operations"] for each, name in names.items()},
        )

    def fill(self, image: Path) -> None:
        """Give it the contents of a file of its size."""
        output("blkdiscard", "--force", "--zeroout", self.node)
        output("dd", f"if={image}", f"of={self.node}", "bs=1M", "conv=sparse,notrunc,fsync", "status=none")
        settle()

    def digest(self) -> str:
        """Return the SHA-256 of what is on it."""
        with self.really() as found:
            return found.digest()

    @contextmanager
    def really(self) -> Iterator[LoopDisk]:
        """Give what is on it, as a disk of its own; it is in, and sound, then."""
        self.plug_in()
        self.mend()
        with copy_of(self._bench, self.node) as found:
            yield found

    def _add(self, qemu: Monitor, driver: str, **properties: Value) -> None:
        qemu.run("device_add", driver=driver, id=_ID, serial=_ID, drive=self._contents, **properties)

    def _lead_to(self, qemu: Monitor, node: str) -> None:
        path = f"/machine/peripheral/{_ID}"
        # QEMU 7.2 ends in an assertion when a disk is led to where it leads to.
        if qemu.run("qom-get", path=path, property="drive") != node:
            qemu.run("qom-set", path=path, property="drive", value=node)


@contextmanager
def plugged(bench: Bench, kind: Kind, *, contents: str = FILE) -> Iterator[QemuDisk]:
    """Plug a disk in; it is out when the ``with`` ends, and sound if it is plugged in again.

    ``contents`` is the node of QEMU's that has what is on the disk (lab/hotplug.py); what was on it is still there.
    """
    disk = QemuDisk(bench, kind, contents)
    retries = _NVME_RETRIES.read_text()
    # Linux would try a command of an NVMe disk five times more, and no fault of one operation would be seen.
    _NVME_RETRIES.write_text("0")
    try:
        disk.plug_in()
        yield disk
        settle()
    finally:
        _NVME_RETRIES.write_text(retries)
        Path(SHARE, FAILING).unlink(missing_ok=True)
        if disk.is_in():
            disk.go()
        with monitor() as qemu:
            _drop(qemu)


def _drop(qemu: Monitor) -> None:
    """Take away what makes a disk fail."""
    nodes = qemu.run("query-named-block-nodes", flat=True)
    assert isinstance(nodes, list)
    if any(each["node-name"] == _FAULTY for each in nodes):
        qemu.run("blockdev-del", node_name=_FAULTY)


def _nodes() -> list[str]:
    """Return the nodes of the disks with our serial number."""
    return [f"/dev/{block.name}" for block in Path("/sys/class/block").iterdir() if _serial(block) == _ID]


def _serial(block: Path) -> str:
    """Read the serial number of a whole disk, which each driver has somewhere else."""
    if (block / "partition").exists():
        return ""
    for file, head in (("serial", 0), ("device/serial", 0), ("device/vpd_pg80", 4)):
        try:
            return (block / file).read_bytes()[head:].decode(errors="replace").strip("\0 \n")
        except OSError:
            # It isn't there, or the disk is just leaving.
            continue
    return ""
