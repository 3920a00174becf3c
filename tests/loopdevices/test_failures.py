"""Failures half-way: the first error is kept, nothing is leaked, and the disk does not boot."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from libironic_disk import filesystems, partitioner
from libironic_disk.errors import (
    Cancelled,
    DeviceBusy,
    DeviceFailed,
    DeviceLocked,
    DiskError,
    DiskState,
    NodeMissing,
    ProgramFailed,
)
from libironic_disk.events import Cancellation, Event, Phase, PhaseFinished, PhaseStarted
from libironic_disk.machine.disks import disk_io, partition_nodes, staging, sysfs
from libironic_disk.machine.disks.sysfs import BlockNode
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
def test_ironic_9_17_a_mkfs_that_fails_leaves_a_blank_disk_and_its_own_error(
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

    def forgetful(fd: int, disk: BlockNode, number: int, span: ByteRange) -> None:
        if number != 3:
            add(fd, disk, number, span)

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
        # Interrupt 18h: a BIOS goes on to its next device, while in zeros it would hang.
        assert file.read(440) == b"\xcd\x18\xf4\xeb\xfd".ljust(440, b"\0")
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


def test_a_sink_that_fails_behind_the_commit_leaves_the_finished_disk(bench: Bench) -> None:
    disk = bench.disk(GIB, 512)

    def sink(event: Event) -> None:
        if isinstance(event, PhaseFinished) and event.phase is Phase.COMMIT:
            raise BrokenPipeError

    plan = planned(disk, TableKind.GPT)
    with pytest.raises(BrokenPipeError):
        partitioner.apply(plan, sink=sink)
    oracles.check_gpt(disk.node)
    assert [row.name for row in oracles.sfdisk(disk.node).rows] == [part.name for part in plan.partitions]


def test_a_loop_device_that_stays_open_is_told_and_does_not_hide_the_state_of_the_disk(bench: Bench) -> None:
    file = bench.blank_file(GIB)
    plan = partitioner.plan(layout(TableKind.GPT), partitioner.observe(str(file), file_sector_size=512))
    with ExitStack() as held:
        with (
            pytest.raises(DeviceFailed, match="somebody still has it open") as failed,
            partitioner.stage(plan) as staged,
        ):
            partitioner.make_filesystems(staged)
            staged.commit()
            held.enter_context(Path(staged.node).open("rb"))
        assert failed.value.disk is DiskState.FINISHED
    with ExitStack() as held:
        again = partitioner.plan(
            layout(TableKind.GPT), partitioner.observe(str(file), file_sector_size=512), existing=Existing.REPLACE
        )
        with pytest.raises(Cancelled) as cancelled, partitioner.stage(again) as staged:
            held.enter_context(Path(staged.node).open("rb"))
            raise Cancelled(during="the test")
        assert cancelled.value.disk is DiskState.UNBOOTABLE
        assert "somebody still has it open" in str(cancelled.value)


def test_a_disk_file_that_a_loop_device_has_is_in_use(bench: Bench) -> None:
    file = bench.blank_file(GIB)
    plan = partitioner.plan(layout(TableKind.GPT), partitioner.observe(str(file), file_sector_size=512))
    disk = bench.attach(file, 512)
    before = disk.digest()
    with pytest.raises(DeviceBusy) as busy:
        partitioner.apply(plan)
    assert busy.value.users == (f"it is attached to {disk.node}",)
    assert busy.value.disk is DiskState.UNCHANGED
    assert disk.digest() == before


def test_a_plan_that_was_edited_into_nonsense_is_refused_before_the_first_write(bench: Bench) -> None:
    disk = bench.disk(GIB, 512)
    partitioner.apply(planned(disk, TableKind.GPT))
    plan = planned(disk, TableKind.GPT)
    first, second, *others = plan.partitions
    edited = replace(plan, partitions=(first, replace(second, start=first.start), *others))
    before = disk.digest()
    with pytest.raises(DiskError) as refused:
        partitioner.apply(edited)
    assert refused.value.disk is DiskState.UNCHANGED
    assert disk.digest() == before


def test_no_table_is_on_the_disk_until_the_partitions_are_filled(bench: Bench) -> None:
    disk = bench.disk(GIB, 512)
    partitioner.apply(planned(disk, TableKind.MBR))
    seen: list[tuple[Phase, bool]] = []

    def sink(event: Event) -> None:
        if isinstance(event, PhaseStarted | PhaseFinished) and event.phase not in {Phase.CHECK, Phase.COMMIT}:
            seen.append((event.phase, oracles.has_table(disk.node)))

    partitioner.apply(planned(disk, TableKind.MBR), sink=sink)
    # The old one is there when the wipe begins, and none after it.
    assert seen[0] == (Phase.WIPE, True)
    assert {there for _, there in seen[1:]} == {False}


def test_waiting_for_a_lock_can_be_cancelled(bench: Bench, tmp_path: Path) -> None:
    disk = bench.disk(GIB, 512)
    plan = planned(disk, TableKind.GPT)
    for lock_path in (None, tmp_path):
        switch = Cancellation()
        with partitioner.stage(plan, lock_path=tmp_path):
            threading.Timer(0.2, switch.cancel).start()
            began = time.monotonic()
            with pytest.raises(Cancelled):
                partitioner.apply(plan, cancel=switch, lock_path=lock_path)
            assert time.monotonic() - began < 5
        plan = planned(disk, TableKind.GPT)


def test_a_host_lock_is_given_up_after_its_time(bench: Bench, tmp_path: Path) -> None:
    disk = bench.disk(GIB, 512)
    plan = planned(disk, TableKind.GPT)
    with partitioner.stage(plan, lock_path=tmp_path), pytest.raises(DeviceLocked, match=str(tmp_path)):
        partitioner.apply(plan, lock_path=tmp_path, lock_timeout=0.1)
