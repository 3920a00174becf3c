"""What must not happen: each refused request names what is wrong and leaves every byte as it was."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from libironic_disk import partitioner
from libironic_disk.errors import (
    DeviceBusy,
    DeviceLocked,
    DeviceReadOnly,
    LayoutDoesNotFit,
    NotABlockDevice,
    PlanOutdated,
    PreservationRefused,
    TableLimit,
    ToolMissing,
)
from libironic_disk.machine import process
from libironic_disk.pure.disks.layout import FileSystem, Layout
from libironic_disk.pure.disks.planning import Existing
from libironic_disk.pure.disks.presets import config_drive, ephemeral, root, swap
from libironic_disk.pure.disks.sizes import mib
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import GIB, MIB
from tests.conftest import Bench
from tests.support.disks import LoopDisk, mounted

pytestmark = pytest.mark.loopdevice


def layout(table: TableKind = TableKind.GPT, *, keep: bool = False, drive: bool = True, scratch: int = 128) -> Layout:
    """Return a small layout."""
    drives = (config_drive(MIB),) if drive else ()
    return Layout(table=table, partitions=(ephemeral(mib(scratch), keep=keep), swap(mib(64)), *drives, root()))


@pytest.fixture
def made(bench: Bench) -> LoopDisk:
    """A disk with that layout."""
    disk = bench.disk(GIB, 512)
    partitioner.apply(partitioner.plan(layout(), partitioner.observe(disk.node)))
    return disk


@pytest.fixture
def unchanged(made: LoopDisk) -> Iterator[LoopDisk]:
    """The same disk, which a test must leave exactly as it is."""
    before = made.digest()
    yield made
    assert made.digest() == before


def replace(disk: LoopDisk) -> None:
    """Make the disk anew."""
    partitioner.apply(partitioner.plan(layout(), partitioner.observe(disk.node), existing=Existing.REPLACE))


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (layout(keep=True, drive=False), "partition 4 of"),
        (layout(keep=True, scratch=127), "has 134217728 bytes, not 133169152"),
        (layout(TableKind.MBR, keep=True), "the table is gpt, not mbr"),
        (
            Layout(table=TableKind.GPT, partitions=(swap(mib(64)), ephemeral(mib(128), keep=True), root())),
            "(ephemeral) starts at byte 135266304",
        ),
    ],
    ids=["no config drive any more", "other size", "other table", "other order"],
)
def test_an_ephemeral_volume_that_is_not_exactly_there_is_not_kept(
    unchanged: LoopDisk, wanted: Layout, words: str
) -> None:
    facts = partitioner.observe(unchanged.node)
    with pytest.raises(PreservationRefused) as refused:
        partitioner.plan(wanted, facts)
    assert words in str(refused.value)


def test_ironic_9_13_an_ephemeral_volume_is_not_kept_when_a_config_drive_is_new(bench: Bench) -> None:
    disk = bench.disk(GIB, 512)
    partitioner.apply(partitioner.plan(layout(drive=False), partitioner.observe(disk.node)))
    before = disk.digest()
    with pytest.raises(PreservationRefused, match="config-drive"):
        partitioner.plan(layout(keep=True), partitioner.observe(disk.node))
    assert disk.digest() == before


def test_an_ephemeral_volume_is_not_kept_under_a_damaged_table(made: LoopDisk) -> None:
    with Path(made.node).open("r+b") as node:
        node.seek(1024 + 64)
        node.write(b"\xff" * 16)
    before = made.digest()
    with pytest.raises(PreservationRefused):
        partitioner.plan(layout(keep=True), partitioner.observe(made.node))
    assert made.digest() == before


def test_a_mounted_partition_is_named(unchanged: LoopDisk, tmp_path: Path) -> None:
    plan = partitioner.plan(layout(), partitioner.observe(unchanged.node), existing=Existing.REPLACE)
    where = tmp_path / "a mount point"
    with mounted(f"{unchanged.node}p1", where, "-o", "ro,noload"):
        with pytest.raises(DeviceBusy) as busy:
            partitioner.apply(plan)
        assert busy.value.users == (f"{unchanged.node}p1 is mounted on {where}",)


def test_a_swap_area_in_use_is_named(unchanged: LoopDisk) -> None:
    subprocess.run(["swapon", f"{unchanged.node}p2"], check=True)
    try:
        with pytest.raises(DeviceBusy) as busy:
            replace(unchanged)
    finally:
        subprocess.run(["swapoff", f"{unchanged.node}p2"], check=True)
    assert busy.value.users == (f"{unchanged.node}p2 is swapped on",)


def test_a_mount_in_another_namespace_is_found(unchanged: LoopDisk, tmp_path: Path) -> None:
    script = f"mount -o ro,noload {unchanged.node}p1 {tmp_path} && echo ready && read answer"
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(DeviceBusy, match="another namespace"):
            replace(unchanged)
        other.communicate("go\n")


def test_the_holder_of_the_lock_is_named(unchanged: LoopDisk) -> None:
    plan = partitioner.plan(layout(), partitioner.observe(unchanged.node), existing=Existing.REPLACE)
    with subprocess.Popen(
        ["flock", unchanged.node, "sh", "-c", "echo ready && read answer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(DeviceLocked) as locked:
            partitioner.apply(plan, lock_timeout=0.1)
        other.communicate("go\n")
    assert locked.value.holders == (f"flock (pid {other.pid})",)


def test_a_read_only_disk_is_refused_in_planning(bench: Bench) -> None:
    disk = bench.attach(bench.blank_file(GIB), 512, read_only=True)
    facts = partitioner.observe(disk.node)
    with pytest.raises(DeviceReadOnly):
        partitioner.plan(layout(), facts)


def test_what_is_no_whole_disk_is_refused(made: LoopDisk, tmp_path: Path) -> None:
    for path, found in (
        (str(made.file), "a plain file"),
        (str(tmp_path), "a directory"),
        ("/dev/null", "a character device"),
        (str(tmp_path / "missing"), "can't be reached"),
        (f"{made.node}p1", "a partition of"),
    ):
        with pytest.raises(NotABlockDevice) as refused:
            partitioner.observe(path)
        assert found in str(refused.value)
    with pytest.raises(NotABlockDevice):
        partitioner.observe(made.node, file_sector_size=512)


def test_a_disk_that_got_a_file_system_after_planning_is_left_alone(made: LoopDisk) -> None:
    plan = partitioner.plan(layout(), partitioner.observe(made.node), existing=Existing.REPLACE)
    subprocess.run(["mkfs.ext4", "-q", "-F", f"{made.node}p4"], check=True)
    before = made.digest()
    with pytest.raises(PlanOutdated, match="other file systems"):
        partitioner.apply(plan)
    assert made.digest() == before


def test_a_disk_with_another_table_after_planning_is_left_alone(made: LoopDisk) -> None:
    plan = partitioner.plan(layout(), partitioner.observe(made.node), existing=Existing.REPLACE)
    argv = ["sfdisk", "--no-reread", "--no-tell-kernel", "--part-label", made.node, "2", "renamed"]
    subprocess.run(argv, check=True, capture_output=True)
    before = made.digest()
    with pytest.raises(PlanOutdated, match="partition table is another"):
        partitioner.apply(plan)
    assert made.digest() == before


def test_another_disk_under_the_same_name_is_left_alone(bench: Bench) -> None:
    first = bench.disk(GIB, 512)
    plan = partitioner.plan(layout(), partitioner.observe(first.node))
    subprocess.run(["losetup", "--detach", first.node], check=True)
    subprocess.run(["losetup", first.node, str(first.file)], check=True)
    with pytest.raises(PlanOutdated, match="another disk took its name"):
        partitioner.apply(plan)


def test_a_missing_program_is_found_before_anything_is_written(
    unchanged: LoopDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Layout(table=TableKind.GPT, partitions=(ephemeral(mib(200), FileSystem.BTRFS), root()))
    plan = partitioner.plan(wanted, partitioner.observe(unchanged.node))
    monkeypatch.setattr(process, "_search_path", lambda: "/nonexistent")
    with pytest.raises(ToolMissing, match=r"mkfs\.btrfs is not installed; it comes with the package btrfs-progs"):
        partitioner.apply(plan)


def test_sizes_that_the_disk_or_the_table_cannot_hold(bench: Bench) -> None:
    small = partitioner.observe(bench.disk(190 * MIB, 512).node)
    with pytest.raises(LayoutDoesNotFit, match="ephemeral 128 MiB, swap 64 MiB, config-drive 1 MiB"):
        partitioner.plan(layout(scratch=128), small)
    large = partitioner.observe(bench.disk(3072 * GIB, 512).node)
    wanted = Layout(table=TableKind.MBR, partitions=(root(mib(2500 * 1024)),))
    with pytest.raises(TableLimit, match="use gpt"):
        partitioner.plan(wanted, large)
    assert not partitioner.plan(Layout(table=TableKind.GPT, partitions=wanted.partitions), large).is_empty


def test_observing_opens_the_disk_read_only(made: LoopDisk, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    script = (
        "import sys; from libironic_disk import ironic_layout, partitioner;"
        "partitioner.plan(ironic_layout(), partitioner.observe(sys.argv[1]))"
    )
    argv = [
        "strace",
        "-f",
        "-e",
        "trace=openat,open,openat2",
        "-o",
        str(trace),
        sys.executable,
        "-c",
        script,
        made.node,
    ]
    subprocess.run(argv, check=True, capture_output=True)
    opened = [line for line in trace.read_text().splitlines() if f'"{made.node}"' in line]
    assert opened
    assert all("O_RDONLY" in line for line in opened)
