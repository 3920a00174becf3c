"""The single parts of a deployment, each as a call of its own."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from libironic_disk import configdrive, images, partitioner
from libironic_disk.configdrive import ConfigDrive
from libironic_disk.events import Cancellation, EventSink
from libironic_disk.pure.disks.layout import Layout
from libironic_disk.pure.disks.planning import Existing, Plan
from libironic_disk.pure.disks.presets import ephemeral, esp, root, swap
from libironic_disk.pure.disks.sizes import mib
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import MIB
from tests.support import oracles, wholedisks
from tests.support.disks import LoopDisk
from tests.support.faults.scenes import OldDisk, old_disk
from tests.support.faults.work import Of, Scene, State, Try
from tests.support.faults.works.deployments import DRIVE, part_file, system_image

SIZE = 192 * MIB
_ROOM = 64 * MIB
_PARTITION = 32 * MIB
_LARGE = {**DRIVE, "user_data": random.Random(1).randbytes(9 * MIB)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitioningTry:
    """A new table and its file systems, on a disk that boots something else."""

    disk: OldDisk
    scene: Scene

    def call(self, sink: EventSink, cancel: Cancellation) -> None:
        """Partition."""
        partitioner.apply(self._plan(), sink=sink, cancel=cancel)

    def _plan(self) -> Plan:
        parts = (esp(mib(48)), ephemeral(mib(32)), swap(mib(16)), root())
        facts = partitioner.observe(self.disk.disk.node)
        return partitioner.plan(Layout(table=TableKind.GPT, partitions=parts), facts, existing=Existing.REPLACE)

    def found(self, result: object | None) -> State:
        """Look at the disk: is it as before, is nothing there, or all that was planned."""
        if found := self.disk.old_or_nothing():
            return found
        disk = self.disk.disk
        oracles.check_gpt(disk.node)
        rows = oracles.sfdisk(disk.node).rows
        kinds = ("vfat", "ext4", "swap", "")
        assert len(rows) == len(kinds)
        for row, kind in zip(rows, kinds, strict=True):
            with part_file(disk, row.start * disk.sector_size, row.size * disk.sector_size) as part:
                if kind:
                    oracles.check_filesystem(kind, part)
                else:
                    assert "TYPE" not in oracles.blkid(part)
        return State.NEW


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeTry:
    """Something written to one volume, on which another thing is; the disk is the volume."""

    disk: OldDisk
    scene: Scene
    write: Callable[[str, EventSink, Cancellation], object]
    whole: Callable[[LoopDisk], bool]
    """Whether all of the new thing is there."""
    old: Callable[[LoopDisk], bool]
    """Whether all of the old thing is still there: where it has zeros, zeros may have been written."""
    may_be_half: bool = False
    """Whether a part of it may be left by an error, as its documentation says."""

    def call(self, sink: EventSink, cancel: Cancellation) -> None:
        """Write it."""
        self.write(self.disk.disk.node, sink, cancel)

    def found(self, result: object | None) -> State:
        """Look at the volume: who mounts it finds the old thing, the new one, or nothing that he could mount."""
        if self.disk.is_unchanged:
            return State.OLD
        disk = self.disk.disk
        if self.whole(disk):
            return State.NEW
        if self.old(disk):
            return State.OLD
        said = oracles.blkid(disk.node)
        assert self.may_be_half or "TYPE" not in said, f"half of something is taken for {said['TYPE']}"
        return State.NOTHING


@contextmanager
def _begin_partitioning(base: Path) -> Iterator[Try]:
    with old_disk(base) as (disk, scene):
        yield PartitioningTry(disk=disk, scene=scene)


@contextmanager
def _begin_volume(
    base: Path,
    sector_size: int,
    sources: Sequence[Path],
    write: Callable[[str, EventSink, Cancellation], object],
    whole: Callable[[LoopDisk], bool],
    old: Callable[[LoopDisk], bool],
    may_be_half: bool,
) -> Iterator[Try]:
    with old_disk(base, sector_size=sector_size, sources=tuple(sources)) as (disk, scene):
        yield VolumeTry(disk=disk, scene=scene, write=write, whole=whole, old=old, may_be_half=may_be_half)


def partitioning(folder: Path) -> Of:
    """A table and file systems onto a disk with another table."""
    base = wholedisks.make_disk(folder / "old.img", SIZE, seed=2)
    return Of(name="partition a disk", begin=partial(_begin_partitioning, base))


def config_drive(folder: Path, *, sector_size: int = 512) -> Of:
    """A config drive in the form that the disk's sectors ask for, onto a partition that has another one."""
    old = configdrive.load({"meta_data": {"uuid": "old", "name": "old"}}, sector_size=sector_size)
    new = configdrive.load(_LARGE, sector_size=sector_size)
    base = folder / "old.img"
    base.write_bytes(old.data)
    os.truncate(base, _PARTITION)
    write, whole, still = partial(_place, new, sector_size), partial(_begins_with, new), partial(_begins_with, old)
    begin = partial(_begin_volume, base, sector_size, (), write, whole, still, False)
    return Of(name=f"place a config drive, {new.kind}", begin=begin)


def _place(drive: ConfigDrive, sector_size: int, node: str, sink: EventSink, cancel: Cancellation) -> None:
    # Built in the call itself, as its making has steps too.
    made = configdrive.load(_LARGE, sector_size=sector_size, cancel=cancel)
    assert made.data == drive.data
    configdrive.place(made, node, capacity=_PARTITION)


def _begins_with(drive: ConfigDrive, disk: LoopDisk) -> bool:
    subprocess.run(["blockdev", "--flushbufs", disk.node], check=True)
    with disk.file.open("rb") as file:
        return file.read(drive.size) == drive.data


def image(folder: Path) -> Of:
    """A qcow2 image onto a volume."""
    base = folder / "old-volume.img"
    with base.open("wb") as file:
        os.truncate(file.fileno(), _ROOM)
    source = system_image(folder)
    write, whole = partial(_write_image, source), partial(_has_all_of, source)
    begin = partial(_begin_volume, base, 512, (source,), write, whole, lambda _: False, True)
    return Of(name="write an image to a volume", begin=begin)


def _write_image(source: Path, node: str, sink: EventSink, cancel: Cancellation) -> None:
    inspected = images.inspect(source, cancel=cancel)
    images.write_image(inspected, node, capacity=_ROOM, sink=sink, cancel=cancel, verify=True)


def _has_all_of(source: Path, disk: LoopDisk) -> bool:
    subprocess.run(["blockdev", "--flushbufs", disk.node], check=True)
    wanted = source.with_suffix(".raw").read_bytes()
    with disk.file.open("rb") as file:
        return file.read(len(wanted)) == wanted
