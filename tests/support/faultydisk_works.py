"""More calls on disks that fail: several images, on logical volumes too, and a config drive on its partition."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libironic_disk import configdrive, multiboot
from libironic_disk.configdrive import ConfigDrive
from libironic_disk.events import Cancellation, EventSink
from libironic_disk.machine.disks import sysfs
from libironic_disk.machine.volumes import making
from libironic_disk.units import MIB
from tests.support import documents, oracles
from tests.support.faults.scenes import OldDisk
from tests.support.faults.work import State
from tests.support.faults.works import multiimage
from tests.support.faults.works.deployments import DRIVE

SEVERAL_SIZE = 256 * MIB
DRIVE_SIZE = 8 * MIB
_VERSIONS = ("4", "5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Several:
    """A file system and an archive of files, with a menu of both, on volumes of either kind."""

    name: str
    asked: Callable[[str], dict[str, Any]]
    """Describes them for a disk."""
    has_whole_disk: bool = True

    def call(self, node: str, sink: EventSink, cancel: Cancellation) -> object:
        """Deploy, and stop what runs upon the disk then."""
        # What os-prober's programs do is no work on the disk, and takes most of the time of an emulated machine.
        request = multiimage.request_for(self.asked(node), os_prober=False)
        result = multiboot.apply(multiboot.plan(request), sink=sink, cancel=cancel)
        # The disk may have failed since; to stop them none needs to be read.
        making.stop_all([sysfs.whole_disk(node)])
        return result

    def found(self, disk: OldDisk) -> State:
        """Look at a disk: is it as before, is nothing there, or all of the new systems."""
        return multiimage.found_on(disk, _VERSIONS)


def asked_with_volumes(device: str, images: Mapping[str, Path]) -> dict[str, Any]:
    """Return a description of the first system on a partition, the others on logical volumes, and one for all files."""
    first, *others = images

    def root(kind: str, name: str) -> dict[str, object]:
        named: dict[str, object] = {"type": kind, "name": f"root-{name}", "mount": "/", "images": [name]}
        return {**named, "size": "32", "file_system": "ext4"}

    shared = {"type": "lv", "name": "srv", "mount": "/srv", "images": [*images], "size": "16", "file_system": "ext4"}
    return {
        "images": documents.images(images),
        "partitions": [
            {
                "type": "disk",
                "id": {"type": "name", "value": device},
                "volumes": [root("partition", first), {"type": "pv", "vg": "faulty", "size": "remaining"}],
            },
            {"type": "vg", "id": "faulty", "volumes": [*(root("lv", name) for name in others), shared]},
        ],
        "partitions_policy": "clean",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """A config drive onto a partition, which is all of the disk."""

    drive: ConfigDrive
    before: ConfigDrive
    has_whole_disk: bool = False

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"place a config drive, {self.drive.kind}"

    def call(self, node: str, sink: EventSink, cancel: Cancellation) -> None:
        """Place it."""
        configdrive.place(self.drive, node, capacity=DRIVE_SIZE)

    def found(self, disk: OldDisk) -> State:
        """Look at a partition: who mounts it finds the old drive, the new one, or nothing that he could mount."""
        size = max(self.drive.size, self.before.size)
        subprocess.run(["blockdev", "--flushbufs", disk.disk.node], check=True)
        with disk.disk.file.open("rb") as file:
            found = file.read(size)
        # By its bytes: where it has zeros, zeros may have been written.
        for drive, state in ((self.drive, State.NEW), (self.before, State.OLD)):
            if found.startswith(drive.data):
                return state
        said = oracles.blkid(disk.disk.node)
        assert "TYPE" not in said, f"half of something is taken for {said['TYPE']}"
        return State.NOTHING


def several(folder: Path) -> Several:
    """Make the images; for a disk of :data:`SEVERAL_SIZE` bytes."""
    images = _images(folder)
    return Several(name="deploy two images", asked=lambda node: multiimage.asked(node, images, root="32"))


def on_volumes(folder: Path) -> Several:
    """Make the images; for a disk of :data:`SEVERAL_SIZE` bytes."""
    images = _images(folder)
    return Several(
        name="deploy an image onto a partition and one onto a logical volume",
        asked=lambda node: asked_with_volumes(node, images),
    )


def _images(folder: Path) -> Mapping[str, Path]:
    first, second = _VERSIONS
    return {"one": multiimage.file_system(folder, first), "two": multiimage.archive(folder, second)}


def placing(*, sector_size: int) -> Placing:
    """Make the drives; for a partition of :data:`DRIVE_SIZE` bytes."""
    contents = {**DRIVE, "user_data": random.Random(1).randbytes(2 * MIB)}
    return Placing(
        drive=configdrive.load(contents, sector_size=sector_size),
        before=configdrive.load({"meta_data": {"uuid": "old", "name": "old"}}, sector_size=sector_size),
    )


def partition(folder: Path, drive: ConfigDrive) -> Path:
    """Make the contents of a partition with a drive."""
    base = folder / "partition.img"
    base.write_bytes(drive.data)
    os.truncate(base, DRIVE_SIZE)
    return base
