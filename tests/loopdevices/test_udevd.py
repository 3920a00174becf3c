"""A running udevd takes no partition from us, and we wait for whoever looks at the disk.

udevd's stock rules hold. One of them makes the kernel read the table again when a node of the whole disk is closed,
which takes each partition's node away; the kernel gives it back where it can parse the table. A node that was away for
a moment is a new inode.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

import pytest

from libironic_disk import filesystems, partitioner
from libironic_disk.errors import DeviceBusy, DeviceLocked, DiskState, PlanOutdated
from libironic_disk.events import Cancellation
from libironic_disk.machine.disks import claims, partition_nodes
from libironic_disk.machine.disks.sysfs import BlockNode
from libironic_disk.pure.disks.layout import FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.planning import Plan, PlannedPartition
from libironic_disk.pure.disks.sizes import mib
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support import oracles
from tests.support.inside import is_inside
from tests.support.udevd import QUEUE, let_udevd_look, send_change, settle, under_udevd, until

pytestmark = pytest.mark.loopdevice

# In the machine there are two udevds, both emulated: 200 rounds took 31 minutes. There those that
# count are the 500 rounds with one udevd (tests/machines/inside/test_udevd_races.py).
ROUNDS = 20 if is_inside() else 200
DISK_SIZE = 64 * MIB
SLOW = 1.5


def layout(turn: int = 0) -> Layout:
    """Return one of two layouts, the same in their places and different in what lies there."""
    data = FileSystem.VFAT if turn % 2 else FileSystem.EXT4
    parts = (
        PartitionSpec(role=Role.DATA, name="data", size=mib(16), filesystem=data, label="TWO WORDS"),
        PartitionSpec(role=Role.SWAP, name="swap", size=mib(16), filesystem=FileSystem.SWAP, label="swap1"),
    )
    return Layout(table=TableKind.GPT, partitions=parts[::-1] if turn % 2 else parts)


def new_plan(node: str, turn: int = 0) -> Plan:
    """Plan for the disk as it is now; every UUID is a new one."""
    return partitioner.plan(layout(turn), partitioner.observe(node))


def inodes(nodes: Mapping[int, str]) -> dict[str, int]:
    """Return the inode of each node, 0 for one that is gone."""
    return {node: _inode(node) for node in nodes.values()}


def _inode(node: str) -> int:
    # Not by looking whether it is there first: udevd may take it in between.
    try:
        return Path(node).stat().st_ino
    except FileNotFoundError:
        return 0


class Kept(TypedDict):
    """Whether each node stayed the same."""

    noticed: bool
    while_staged: bool
    after_release: bool
    after_a_close_without_lock: bool


def stage_and_close(node: str) -> Kept:
    """Fill a staged disk, and close the whole disk's node again and again meanwhile."""
    with partitioner.stage(new_plan(node)) as disk:
        made = inodes(disk.nodes)
        partitioner.make_filesystems(disk)
        for _ in range(10):
            os.close(os.open(node, os.O_RDWR))
            let_udevd_look()
        noticed = QUEUE.exists()
        while_staged = inodes(disk.nodes) == made
        disk.commit()
    let_udevd_look()
    settle()
    after_release = inodes(disk.nodes) == made
    os.close(os.open(node, os.O_RDWR))
    struck = until(lambda: inodes(disk.nodes) != made, within=5)
    return Kept(
        noticed=noticed,
        while_staged=while_staged,
        after_release=after_release,
        after_a_close_without_lock=not struck,
    )


def test_udevd_takes_no_node_while_a_disk_is_staged_or_when_it_is_released(bench: Bench) -> None:
    kept = under_udevd(stage_and_close, bench.disk(DISK_SIZE, 512).node)
    assert kept == {
        "noticed": True,
        "while_staged": True,
        "after_release": True,
        "after_a_close_without_lock": False,  # else udevd would not have been a danger at all
    }


class Repartitioned(TypedDict):
    """What the rounds found wrong, and how much went on beside them."""

    problems: list[str]
    looks: int
    events: int


def repartition(node: str) -> Repartitioned:
    """Make a disk anew again and again while others look at it and udevd works."""
    problems: list[str] = []
    nodes: Mapping[int, str] = {}
    made: dict[str, int] = {}
    with busy(node) as (looks, events):
        for turn in range(ROUNDS):
            plan = new_plan(node, turn)
            if inodes(nodes) != made:
                problems.append(f"{turn}: {made} became {inodes(nodes)}")
            nodes = partitioner.apply(plan).nodes
            made = inodes(nodes)
            problems += [f"{turn}: {why}" for why in wrong(plan, nodes)]
        counts = len(looks.read_bytes()), len(events.read_bytes())
    settle()
    told = [probed(nodes[part.number]) for part in plan.partitions]
    if told != [[part.filesystem, part.label, part.filesystem_uuid] for part in plan.partitions]:
        problems.append(f"udev says {told} in the end")
    return Repartitioned(problems=problems, looks=counts[0], events=counts[1])


def wrong(plan: Plan, nodes: Mapping[int, str]) -> list[str]:
    """Say in what the nodes aren't the planned partitions, as the kernel and blkid see them."""
    return [f"{nodes[part.number]} {why}" for part in plan.partitions for why in differences(part, nodes[part.number])]


def differences(part: PlannedPartition, node: str) -> Iterator[str]:
    """Say in what a node isn't a planned partition."""
    sysfs = Path("/sys/class/block") / Path(node).name
    try:
        seen = [int((sysfs / name).read_text()) * 512 for name in ("start", "size")]
        status = os.stat(node)
        device = (sysfs / "dev").read_text().strip()
    except OSError as error:
        yield f"is gone: {error}"
        return
    if seen != [part.start, part.size]:
        yield f"has start and size {seen}"
    if device != f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}":
        yield "is another device"
    read = oracles.blkid(node)
    if (read.get("UUID"), read.get("PART_ENTRY_UUID")) != (part.filesystem_uuid, part.uuid):
        yield f"holds {read}, not {part.filesystem} {part.filesystem_uuid}"


@contextmanager
def busy(node: str) -> Iterator[tuple[Path, Path]]:
    """Let two processes run: one reads disk and partitions without end, one makes udevd look at all of them."""
    looks, events = Path("/run/looks"), Path("/run/events")
    sysfs = f"/sys/class/block/{Path(node).name}"
    loads = (
        f"blkid -p {node} {node}p*; dd if={node} of=/dev/null bs=1M count=8; printf . >>{looks}",
        f"udevadm trigger --action=change {sysfs} {sysfs}p*; printf . >>{events}; sleep 0.05",
    )
    silent = subprocess.DEVNULL
    running = [
        subprocess.Popen(["sh", "-c", f"while :; do {load}; done"], stdout=silent, stderr=silent) for load in loads
    ]
    try:
        assert until(lambda: looks.exists() and events.exists(), within=10)
        yield looks, events
    finally:
        for load in running:
            load.kill()
            load.wait()


@pytest.mark.timeout(300)
def test_repartitions_in_a_row_under_load_lose_no_node(bench: Bench) -> None:
    done = under_udevd(repartition, bench.disk(DISK_SIZE, 512).node)
    assert done["problems"] == []
    assert done["looks"] > ROUNDS
    assert done["events"] > ROUNDS


class Ended(TypedDict):
    """Whose end udevd had dealt with before, and once there are new partitions."""

    before: list[str]
    staged: list[str]


TOLD = 'KERNEL=="{disk}p*", ACTION=="remove", RUN+="/bin/sh -c \'echo %k >>/run/ended\'"'


def replace_partitions(node: str) -> Ended:
    """Stage a disk that has partitions and, as the check closes what it could write, events in udevd's queue."""
    partitioner.apply(new_plan(node))
    settle()
    before = ended()
    with partitioner.stage(new_plan(node, 1)) as disk:
        staged = ended()
        disk.commit()
    return Ended(before=before, staged=staged)


def ended() -> list[str]:
    """Return the partitions whose end the rule has written down."""
    told = Path("/run/ended")
    return sorted(told.read_text().split()) if told.exists() else []


def test_udevd_has_dealt_with_the_end_of_partitions_before_there_are_new_ones(bench: Bench) -> None:
    node = bench.disk(DISK_SIZE, 512).node
    done = under_udevd(replace_partitions, node, rules=TOLD)
    name = Path(node).name
    assert done == {"before": [], "staged": [f"{name}p1", f"{name}p2"]}


def test_a_disk_that_others_took_while_udevd_had_its_turn_is_not_touched(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = bench.disk(DISK_SIZE, 512)
    partitioner.apply(new_plan(disk.node))
    theirs = ""

    def use(fd: int, block: BlockNode, *, timeout: float, cancel: Cancellation) -> None:
        nonlocal theirs
        oracles.output("mkswap", block.node)
        theirs = disk.digest()

    monkeypatch.setattr(claims, "is_udevd_there", lambda: True)
    monkeypatch.setattr(claims, "let_udevd_finish", use)
    monkeypatch.setattr(claims, "let_udevd_notice", lambda: None)
    with pytest.raises(PlanOutdated) as outdated:
        partitioner.apply(new_plan(disk.node, 1))
    assert outdated.value.disk is DiskState.UNKNOWN
    assert disk.digest() == theirs != ""


class Probed(TypedDict):
    """What probe() said of two partitions, and what was true; each as kind, label and UUID."""

    marked: list[list[str]]
    uuids: list[str]
    plain: list[str]
    planned: list[str]


MARK = 'KERNEL=="{disk}p1", ENV{ID_FS_LABEL_ENC}="said-by-udev"'


def probe_while_udevd_is_idle_behind_and_idle_again(node: str) -> Probed:
    """Probe a file system whose label only udev gets wrong, and change its UUID on the way."""
    plan = new_plan(node, 1)
    nodes = partitioner.apply(plan).nodes
    swap, data = plan.partitions
    settle()
    marked, uuids = [probed(nodes[1])], [swap.filesystem_uuid]
    plain = probed(nodes[2])
    with Path(node).open("rb") as disk:
        fcntl.flock(disk, fcntl.LOCK_EX)
        uuids += [str(uuid.uuid4())] * 2
        subprocess.run(["swaplabel", "--uuid", uuids[1], nodes[1]], check=True)
        assert until(QUEUE.exists, within=5)
        marked.append(probed(nodes[1]))
    settle()
    marked.append(probed(nodes[1]))
    planned = [str(data.filesystem), data.label, data.filesystem_uuid]
    return Probed(marked=marked, uuids=uuids, plain=plain, planned=planned)


def probed(node: str) -> list[str]:
    """Return what probe() says."""
    found = filesystems.probe(node)
    return [found.kind, found.label, found.uuid] if found else []


def test_a_probe_takes_udevs_answer_unless_udevd_is_behind(bench: Bench) -> None:
    said = under_udevd(probe_while_udevd_is_idle_behind_and_idle_again, bench.disk(DISK_SIZE, 512).node, rules=MARK)
    labels = ["said-by-udev", "swap1", "said-by-udev"]
    assert said["marked"] == [["swap", label, uuid] for label, uuid in zip(labels, said["uuids"], strict=True)]
    assert said["plain"] == said["planned"]


class Waited(TypedDict):
    """How apply met a lock that was held for 1.5 s."""

    refused: str
    seconds: float
    problems: list[str]


SLOWLY = f'ENV{{SYNTH_ARG_SLOWLY}}=="1", PROGRAM="/bin/sleep {SLOW}"'


def apply_while_udevd_probes(node: str) -> Waited:
    """Apply while one of udevd's workers has its shared lock, first with little patience and then with enough."""
    plan = new_plan(node)
    begun = time.monotonic()
    send_change(Path(node).name, "fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed SLOWLY=1")
    assert until(lambda: is_locked(node), within=5)
    with pytest.raises(DeviceLocked) as caught:
        partitioner.apply(plan, lock_timeout=0.2)
    nodes = partitioner.apply(plan, lock_timeout=20).nodes
    seconds = time.monotonic() - begun
    return Waited(refused=str(caught.value), seconds=seconds, problems=wrong(plan, nodes))


def is_locked(node: str) -> bool:
    """Whether somebody else has a lock on the disk."""
    with Path(node).open("rb") as disk:
        try:
            fcntl.flock(disk, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_apply_waits_for_a_worker_of_udevd_and_goes_on(bench: Bench) -> None:
    waited = under_udevd(apply_while_udevd_probes, bench.disk(DISK_SIZE, 512).node, rules=SLOWLY)
    assert "is locked by (udev-worker) (pid " in waited["refused"]
    assert SLOW <= waited["seconds"] < SLOW + 2
    assert waited["problems"] == []


def apply_while_udevd_hangs(node: str) -> list[str]:
    """Apply while udevd answers nothing."""
    claims._PING_TIMEOUT = claims._EVENTS_TIMEOUT = 1  # 5 and 10 seconds show no more
    plan = new_plan(node)
    udevd = int(oracles.output("pidof", "systemd-udevd"))
    os.kill(udevd, signal.SIGSTOP)
    try:
        return wrong(plan, partitioner.apply(plan).nodes)
    finally:
        os.kill(udevd, signal.SIGCONT)


def test_a_udevd_that_hangs_fails_nothing(bench: Bench) -> None:
    assert under_udevd(apply_while_udevd_hangs, bench.disk(DISK_SIZE, 512).node) == []


def test_a_partition_that_somebody_looks_at_for_a_moment_is_waited_for(bench: Bench) -> None:
    disk = bench.disk(DISK_SIZE, 512)
    part = partitioner.apply(new_plan(disk.node)).nodes[1]
    plan = new_plan(disk.node, 1)
    looking = os.open(part, os.O_RDONLY)
    threading.Timer(0.3, os.close, [looking]).start()
    begun = time.monotonic()
    nodes = partitioner.apply(plan).nodes
    assert time.monotonic() - begun > 0.3
    assert wrong(plan, nodes) == []


def test_a_partition_that_stays_open_refuses_the_plan_and_loses_no_node(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = bench.disk(DISK_SIZE, 512)
    first = new_plan(disk.node)
    nodes = partitioner.apply(first).nodes
    before = disk.digest()
    monkeypatch.setattr(partition_nodes, "_BUSY_TIMEOUT", 0.2)
    with Path(nodes[2]).open("rb"), pytest.raises(DeviceBusy, match="partition 2 is open"):
        partitioner.apply(new_plan(disk.node, 1))
    assert disk.digest() == before
    assert wrong(first, nodes) == []
