"""Disks of QEMU's that fail or are taken out: virtio, NVMe and SCSI, by blkdebug, nbdkit and the machine's own monitor.

What a failed command is to the kernel is said by a disk's own driver here, and not by device mapper.
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from lab import hotplug
from libironic_disk.errors import DeviceError, PathFailed, ProgramError
from libironic_disk.machine.trees import mounts
from libironic_disk.machine.trees.imagesetup import loader_entries
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.disks.layout import FileSystem
from tests.conftest import Bench
from tests.machines.inside.conftest import Told
from tests.support import faultydisk_walks, oracles, qemudisks
from tests.support.disks import mounted
from tests.support.faults.walking import Row
from tests.support.faultydisk_walks import Deployment, at_event, deployed, deployments, old_disk
from tests.support.qemudisks import Fault, Kind, Operation, QemuDisk
from tests.support.udevd import settle

pytestmark = [pytest.mark.inside, pytest.mark.timeout(300)]


FULL = pytest.mark.full
STEPS = [1, pytest.param(6, marks=[pytest.mark.walk, pytest.mark.timeout(900)])]
# Of each deployment here; the last ones come after the commit.
MOST_EVENTS = 16
# How many operations each deployment has at least; how the kernel joins writes is never the same twice.
FEWEST = {
    Operation.READ: {"uefi": 1500, "bios": 1500, "whole": 1500},
    Operation.WRITE: {"uefi": 100, "bios": 100, "whole": 30},
    Operation.FLUSH: {"uefi": 35, "bios": 35, "whole": 18},
}


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Deployment]:
    return dict(deployments(tmp_path_factory.mktemp("works")))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert faultydisk_walks.SIZE == hotplug.SIZE
    return old_disk(tmp_path_factory.mktemp("old"))


Plug = Callable[..., QemuDisk]


@pytest.fixture
def plug(bench: Bench, old: Path) -> Iterator[Plug]:
    """Plug in a disk that boots something."""
    with ExitStack() as stack:

        def plugged(kind: Kind, contents: str = hotplug.FILE) -> QemuDisk:
            disk = stack.enter_context(qemudisks.plugged(bench, kind, contents=contents))
            disk.fill(old)
            return disk

        yield plugged


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """A fault that meets a deployment at any of its operations on a disk."""

    kind: Kind
    work: str
    operation: Operation
    error: int
    is_lasting: bool = False

    @property
    def fault(self) -> str:
        """In the words of the table."""
        which = f"a {self.operation.said} and all that follow" if self.is_lasting else f"a {self.operation.said}"
        return f"{errno.errorcode[self.error]} of {which}, blkdebug under {self.kind}"

    def __str__(self) -> str:
        """Return it as a test's name."""
        return f"{self.kind}-{self.work}-{self.operation.said}-{errno.errorcode[self.error]}"

    def drawn(self, number: int) -> list[Fault]:
        """Draw faults, each of another operation."""
        numbers = random.Random(number).sample(range(1, FEWEST[self.operation][self.work] + 1), number)
        return [
            Fault(operation=self.operation, error=self.error, number=each, is_lasting=self.is_lasting)
            for each in numbers
        ]


USUAL = (
    Walk(kind=Kind.NVME, work="bios", operation=Operation.WRITE, error=errno.EIO),
    Walk(kind=Kind.VIRTIO, work="whole", operation=Operation.FLUSH, error=errno.EIO),
)
OTHERS = (
    Walk(kind=Kind.VIRTIO, work="uefi", operation=Operation.WRITE, error=errno.EIO),
    Walk(kind=Kind.VIRTIO, work="bios", operation=Operation.FLUSH, error=errno.EIO),
    Walk(kind=Kind.VIRTIO, work="whole", operation=Operation.WRITE, error=errno.ENOSPC, is_lasting=True),
    Walk(kind=Kind.NVME, work="whole", operation=Operation.FLUSH, error=errno.EIO),
    Walk(kind=Kind.NVME, work="uefi", operation=Operation.WRITE, error=errno.ENOSPC),
    Walk(kind=Kind.NVME, work="bios", operation=Operation.READ, error=errno.EIO, is_lasting=True),
    Walk(kind=Kind.SCSI, work="bios", operation=Operation.WRITE, error=errno.ENOSPC, is_lasting=True),
    Walk(kind=Kind.SCSI, work="whole", operation=Operation.WRITE, error=errno.ENOSPC),
)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("walk", [*USUAL, *(pytest.param(each, marks=FULL) for each in OTHERS)], ids=str)
def test_an_operation_of_the_disk_fails(
    plug: Plug, old: Path, works: dict[str, Deployment], walk: Walk, steps: int, told: Told
) -> None:
    disk, work = plug(walk.kind), works[walk.work]
    outcomes: Counter[str] = Counter()
    for fault in walk.drawn(steps):
        failed = disk.done().failed[walk.operation]
        ended = deployed(work, disk, sink=at_event(1, partial(disk.break_by, fault)), is_lasting=walk.is_lasting)
        is_met = ended.error is not None or disk.done().failed[walk.operation] > failed
        outcomes[ended.outcome if is_met else "not met"] += 1
        before = disk.done().tried[walk.operation]
        assert deployed(work, disk).outcome == "done"
        places = disk.done().tried[walk.operation] - before
        disk.fill(old)
    assert set(outcomes) != {"not met"}
    told(Row.of(work.name, walk.fault, places, outcomes))


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Kind.NVME, "bios"),
        (Kind.VIRTIO, "whole"),
        *(
            pytest.param(*each, marks=FULL)
            for each in (
                (Kind.NVME, "whole"),
                (Kind.NVME, "uefi"),
                (Kind.VIRTIO, "bios"),
                (Kind.VIRTIO, "uefi"),
                (Kind.SCSI, "bios"),
            )
        ),
    ],
)
def test_the_disk_is_taken_out(
    plug: Plug, old: Path, works: dict[str, Deployment], kind: Kind, name: str, steps: int, told: Told
) -> None:
    disk, work = plug(kind), works[name]
    outcomes: Counter[str] = Counter()
    for step in range(steps):
        number = MOST_EVENTS * (2 * step + 1) // (2 * steps)
        ended = deployed(work, disk, sink=at_event(number, disk.go), is_lasting=True)
        assert isinstance(ended.error, DeviceError | ProgramError | PathFailed), "it blames something else"
        assert not isinstance(ended.error, DeviceError) or "No space left" not in str(ended.error)
        outcomes[ended.outcome] += 1
        disk.fill(old)
    told(Row.of(work.name, f"the {kind} disk is taken out", MOST_EVENTS, outcomes))


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", ["whole", pytest.param("bios", marks=FULL), pytest.param("uefi", marks=FULL)])
def test_a_server_of_the_disk_takes_no_more_writes(
    plug: Plug, old: Path, works: dict[str, Deployment], name: str, steps: int, told: Told
) -> None:
    disk, work = plug(Kind.VIRTIO, hotplug.SERVED), works[name]
    outcomes: Counter[str] = Counter()
    for step in range(steps):
        number = MOST_EVENTS * (2 * step + 1) // (2 * steps)
        ended = deployed(work, disk, sink=at_event(number, disk.break_writes), is_lasting=True)
        assert ended.error is not None
        outcomes[ended.outcome] += 1
        disk.fill(old)
    told(Row.of(work.name, "EIO of all writes from an event on, nbdkit under virtio", MOST_EVENTS, outcomes))


def test_a_directory_in_a_bad_place_of_an_nvme_disk_is_no_absent_one(bench: Bench, tmp_path: Path) -> None:
    """XFS passes on what the driver makes of a medium error, and that isn't EIO."""
    entries = "/boot/loader/entries"
    with qemudisks.plugged(bench, Kind.NVME) as disk:
        oracles.output("mkfs.xfs", "--unsupported", "-q", "-f", disk.node)
        with mounted(disk.node, tmp_path / "mount") as top:
            folder = top / entries[1:]
            folder.mkdir(parents=True)
            # Of a few names the directory would be in its inode.
            for number in range(64):
                (folder / f"{number:032}.conf").touch()
        settle()
        said = oracles.output("xfs_db", "-r", "-c", f"path {entries}", "-c", "dblock 0", "-c", "daddr", disk.node)
        sector = int(said.split()[-1])
        disk.break_by(Fault(operation=Operation.READ, error=errno.EIO, is_lasting=True, sector=sector))
        with (
            mounts.mounted(disk.node, FileSystem.XFS) as root,
            pytest.raises(PathFailed, match="No data available"),
        ):
            loader_entries(RootDir(root, tree=disk.node), "/boot")
        disk.mend()
        with mounts.mounted(disk.node, FileSystem.XFS) as root:
            assert len(loader_entries(RootDir(root, tree=disk.node), "/boot")) == 64
