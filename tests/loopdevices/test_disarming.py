"""Several disks: before the first of them is changed none starts anything, and before that not one byte is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from libironic_disk import partitioner, volumes
from libironic_disk.errors import Cancelled, DeviceBusy, DiskState
from libironic_disk.events import Cancellation, Event, Phase, PhaseStarted
from libironic_disk.machine.disks import committing
from libironic_disk.pure.disks.layout import FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.planning import Existing
from libironic_disk.pure.disks.sizes import mib
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.pure.volumes.planning import StoragePlan
from libironic_disk.pure.volumes.storage import Storage
from libironic_disk.units import KIB, MIB
from tests.conftest import Bench
from tests.support import oracles
from tests.support.disks import LoopDisk
from tests.unit.pure.tables.disks import disk_of
from tests.unit.pure.tables.forging import forge_entry

pytestmark = pytest.mark.loopdevice

LAYOUT = Layout(
    table=TableKind.GPT,
    partitions=(
        PartitionSpec(role=Role.ESP, size=mib(8), filesystem=FileSystem.VFAT),
        PartitionSpec(role=Role.ROOT, size=mib(8)),
    ),
)


@pytest.fixture
def pair(bench: Bench) -> tuple[LoopDisk, LoopDisk]:
    """Two disks that were made already."""
    disks = (bench.disk(32 * MIB, 512), bench.disk(32 * MIB, 512))
    volumes.apply(plan_for(disks))
    return disks


def plan_for(disks: tuple[LoopDisk, LoopDisk]) -> StoragePlan:
    """Plan both anew."""
    facts = volumes.observe([disk.node for disk in disks])
    return volumes.plan(Storage(disks=(LAYOUT, LAYOUT)), facts, existing=Existing.REPLACE)


def esp_of(disk: LoopDisk) -> bytes:
    """Return the first sector of the EFI system partition, past the kernel's cache."""
    oracles.output("blockdev", "--flushbufs", disk.node)
    with Path(disk.node).open("rb", buffering=0) as node:
        return os.pread(node.fileno(), 512, oracles.sfdisk(disk.node).rows[0].start * 512)


@contextmanager
def opened(node: str, more: int = 0) -> Iterator[int]:
    """Open a device to be read and written."""
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC | more)
    try:
        yield fd
    finally:
        os.close(fd)


def test_a_partition_of_the_last_disk_that_stays_open_costs_none_of_them_a_byte(
    pair: tuple[LoopDisk, LoopDisk],
) -> None:
    wanted = plan_for(pair)
    last = max(pair, key=lambda disk: Path(disk.node))
    before = [disk.digest() for disk in pair]
    with opened(f"{last.node}p2"), pytest.raises(DeviceBusy, match="partition 2 is open") as busy:
        volumes.apply(wanted)
    assert busy.value.disk is DiskState.UNCHANGED
    assert [disk.digest() for disk in pair] == before
    for disk in pair:
        # The kernel knows the partitions again.
        assert oracles.output("blockdev", "--getsize64", f"{disk.node}p2").strip() == str(8 * MIB)
    volumes.apply(wanted)


def test_what_stays_as_it_is_is_not_given_to_be_filled_while_somebody_uses_it(pair: tuple[LoopDisk, LoopDisk]) -> None:
    wanted = volumes.plan(Storage(disks=(LAYOUT, LAYOUT)), volumes.observe([disk.node for disk in pair]))
    assert wanted.is_empty
    # As a mount in another namespace claims it.
    with (
        opened(f"{pair[1].node}p2", os.O_EXCL),
        pytest.raises(DeviceBusy, match=f"{pair[1].node} is claimed by a mount") as busy,
    ):
        volumes.apply(wanted)
    assert busy.value.disk is DiskState.UNCHANGED
    volumes.apply(wanted)


def test_boot_code_for_a_disk_that_is_not_there_is_refused(pair: tuple[LoopDisk, LoopDisk]) -> None:
    with pytest.raises(KeyError, match="/dev/another"), volumes.stage(plan_for(pair)) as staged:
        staged.commit({pair[0].node: (), "/dev/another": ()})
    assert not any(oracles.has_table(disk.node) for disk in pair)


def test_no_disk_starts_anything_when_the_first_is_wiped(pair: tuple[LoopDisk, LoopDisk]) -> None:
    cancel = Cancellation()
    assert all(esp_of(disk)[510:] == b"\x55\xaa" for disk in pair)

    def stop(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase is Phase.WIPE:
            assert [esp_of(disk) for disk in pair] == [bytes(512), bytes(512)]
            cancel.cancel()

    with pytest.raises(Cancelled) as cancelled:
        volumes.apply(plan_for(pair), sink=stop, cancel=cancel)
    assert cancelled.value.disk is DiskState.UNBOOTABLE
    volumes.apply(plan_for(pair))


def test_what_an_old_table_says_of_places_that_no_partition_can_have_keeps_nobody_off(
    pair: tuple[LoopDisk, LoopDisk],
) -> None:
    for disk, place in zip(pair, ("0", str(32 * MIB // 512)), strict=True):
        forge_first_partition(disk, int(place))
        assert partitioner.observe(disk.node).table is not None
    volumes.apply(plan_for(pair))
    assert [len(oracles.sfdisk(disk.node).rows) for disk in pair] == [2, 2]


def forge_first_partition(disk: LoopDisk, lba: int) -> None:
    """Have the first partition of both copies of the GPT lie in one sector, with checksums that are right."""
    forged = disk_of(Path(disk.node))
    before = len(forged.extents)
    forge_entry(forged, 1, 32, lba.to_bytes(8, "little") * 2)
    with opened(disk.node) as fd:
        for offset, data in forged.extents[before:]:
            os.pwrite(fd, data, offset)
        os.fsync(fd)


def test_an_iso_image_without_a_table_is_none_any_more(bench: Bench, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"x" * 100 * KIB)
    disk = bench.blank_file(0)
    disk.unlink()
    oracles.output("xorriso", "-as", "mkisofs", "-quiet", "-o", str(disk), str(tree))
    assert oracles.blkid(str(disk))["TYPE"] == "iso9660"
    with disk.open("r+b", buffering=0) as file:
        committing.disarm(file.fileno(), str(disk), size=disk.stat().st_size, sector_size=512)
    assert oracles.blkid(str(disk)) == {}
