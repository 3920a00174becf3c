"""Failures half-way: the first error is kept, nothing is leaked, and the disk does not boot."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from libironic_disk import filesystems, partitioner
from libironic_disk.errors import Cancelled, DeviceFailed, DiskError, NodeMissing, ProgramFailed
from libironic_disk.events import Cancellation, Event, Phase, PhaseStarted
from libironic_disk.machine.disks import disk_io, partition_nodes, staging, sysfs
from libironic_disk.pure.disks.layout import Layout
from libironic_disk.pure.disks.planning import Existing, Plan
from libironic_disk.pure.disks.presets import ephemeral, esp, root, swap
from libironic_disk.pure.disks.sizes import mib
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import GIB, MIB
from tests.conftest import Bench
from tests.support import oracles
from tests.support.disks import LoopDisk, attached_to

pytestmark = pytest.mark.loopdevice


def layout(table: TableKind, *, keep: bool = False) -> Layout:
    """Return a layout with something to fail at."""
    partitions = (esp(mib(64)), ephemeral(mib(128), keep=keep), swap(mib(64)), root())
    return Layout(table=table, partitions=partitions)


def planned(disk: LoopDisk, table: TableKind, *, keep: bool = False) -> Plan:
    """Plan the disk anew."""
    return partitioner.plan(layout(table, keep=keep), partitioner.observe(disk.node), existing=Existing.REPLACE)


def assert_blank(disk: LoopDisk) -> None:
    """Assert that no firmware and no kernel finds anything to start from, and that the kernel forgot the partitions."""
    with disk.file.open("rb") as file:
        assert file.read(MIB) == bytes(MIB)
        file.seek(-MIB, os.SEEK_END)
        assert file.read() == bytes(MIB)
    assert not oracles.has_table(disk.node)
    assert sysfs.partitions(sysfs.whole_disk(disk.node)) == ()


def open_descriptors() -> set[str]:
    """Return what this process has open, by target."""
    return {str(link.resolve()) for link in Path("/proc/self/fd").iterdir() if link.exists()}


@pytest.mark.parametrize("table", list(TableKind))
def test_a_mkfs_that_fails_leaves_a_blank_disk_and_its_own_error(
    bench: Bench, table: TableKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = bench.disk(GIB, 512)
    partitioner.apply(planned(disk, table))
    before = open_descriptors()
    command = filesystems._command
    monkeypatch.setattr(
        filesystems,
        "_command",
        lambda kind, node, label, uuid: (
            ["mkswap", "--no-such-option"] if kind == "swap" and node else command(kind, node, label, uuid)
        ),
    )
    with pytest.raises(ProgramFailed) as failed:
        partitioner.apply(planned(disk, table))
    assert failed.value.argv[0] == "mkswap"
    assert "unrecognized option" in failed.value.stderr
    assert "does not boot" in str(failed.value)
    assert_blank(disk)
    assert open_descriptors() == before


def test_a_node_that_never_appears_is_an_error_that_says_what_was_there(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = bench.disk(GIB, 512)
    add = partition_nodes.add

    def forgetful(fd: int, device: str, number: int, span: ByteRange) -> None:
        if number != 3:
            add(fd, device, number, span)

    monkeypatch.setattr(partition_nodes, "add", forgetful)
    monkeypatch.setattr(staging, "_NODE_TIMEOUT", 0.1)
    with pytest.raises(
        NodeMissing, match=r"partition 3 of .* did not appear within 0\.1 s: the kernel does not know it"
    ):
        partitioner.apply(planned(disk, TableKind.GPT))
    assert_blank(disk)


def test_a_failing_clean_up_is_told_beside_the_first_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = bench.disk(GIB, 512)
    plan = planned(disk, TableKind.GPT)
    zero = disk_io.zero

    def broken(*arguments: object) -> int:
        raise DeviceFailed(device=disk.node, action="writing", reason="Input/output error", offset=0)

    with pytest.raises(ValueError, match="the image source died") as failed, partitioner.stage(plan):
        monkeypatch.setattr(disk_io, "zero", broken)
        raise ValueError("the image source died")
    assert failed.value.__notes__ == [
        f"{disk.node} could not be made unbootable: writing {disk.node} at byte 0 failed: Input/output error"
    ]
    monkeypatch.setattr(disk_io, "zero", zero)


def test_a_kept_volume_survives_a_failure_and_nothing_else_does(bench: Bench) -> None:
    disk = bench.disk(GIB, 512)
    nodes = partitioner.apply(planned(disk, TableKind.MBR)).nodes
    with Path(disk.node).open("r+b") as node:
        node.write(b"\xeb\x63\x90 boot code")
    with Path(nodes[2]).open("r+b") as node:
        node.seek(64 * MIB)
        node.write(b"precious")
    plan = planned(disk, TableKind.MBR, keep=True)
    with pytest.raises(RuntimeError), partitioner.stage(plan) as staged:
        partitioner.make_filesystems(staged)
        raise RuntimeError
    with disk.file.open("rb") as file:
        assert file.read(440) == bytes(440)
        file.seek(plan.partitions[1].start + 64 * MIB)
        assert file.read(8) == b"precious"
    assert [oracles.blkid(nodes[number]).get("TYPE") for number in (1, 2, 3, 4)] == [None, "ext4", None, None]
    # The table is what proves the volume to the next try.
    assert planned(disk, TableKind.MBR, keep=True).partitions[1].keep


def test_leaving_without_a_commit_leaves_a_blank_disk(bench: Bench) -> None:
    disk = bench.disk(GIB, 4096)
    with partitioner.stage(planned(disk, TableKind.GPT)) as staged:
        assert not oracles.has_table(disk.node)
        assert len(staged.nodes) == 4
    assert_blank(disk)


@pytest.mark.parametrize("phase", [Phase.CHECK, Phase.WIPE, Phase.PARTITION, Phase.FORMAT, Phase.COMMIT])
def test_cancelling_in_any_phase_leaves_a_blank_disk_or_the_old_one(bench: Bench, phase: Phase) -> None:
    disk = bench.disk(GIB, 512)
    partitioner.apply(planned(disk, TableKind.GPT))
    before = disk.digest()
    switch = Cancellation()

    def sink(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase is phase:
            switch.cancel()

    plan = planned(disk, TableKind.GPT)
    if phase is Phase.COMMIT:
        # The table is being written: too late to stop, and never half done.
        partitioner.apply(plan, sink=sink, cancel=switch)
        oracles.check_gpt(disk.node)
        return
    with pytest.raises(Cancelled):
        partitioner.apply(plan, sink=sink, cancel=switch)
    if phase is Phase.CHECK:
        assert disk.digest() == before
    else:
        assert_blank(disk)


def test_a_plain_file_is_detached_after_a_failure(bench: Bench) -> None:
    file = bench.blank_file(GIB)
    plan = partitioner.plan(layout(TableKind.GPT), partitioner.observe(str(file), file_sector_size=512))
    with pytest.raises(RuntimeError), partitioner.stage(plan):
        assert attached_to(file)
        raise RuntimeError
    assert attached_to(file) == []


def test_threads_that_want_the_same_disk_take_turns(bench: Bench) -> None:
    disk = bench.disk(GIB, 512)
    plan = planned(disk, TableKind.GPT)
    outcomes: list[str] = []

    def work() -> None:
        try:
            partitioner.apply(plan)
            outcomes.append("made")
        except DiskError as error:
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The first one changes the disk, so that the plan of the others is outdated.
    assert sorted(outcomes) == ["PlanOutdated", "PlanOutdated", "PlanOutdated", "made"]
    oracles.check_gpt(disk.node)


def test_threads_on_disks_of_their_own_do_not_disturb_each_other(bench: Bench) -> None:
    disks = [bench.disk(GIB, 512 if at % 2 else 4096) for at in range(6)]
    errors: list[BaseException] = []

    def work(disk: LoopDisk) -> None:
        try:
            for table in (TableKind.GPT, TableKind.MBR, TableKind.GPT):
                partitioner.apply(planned(disk, table))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(disk,)) for disk in disks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for disk in disks:
        oracles.check_gpt(disk.node)
