"""Deployments of one image onto a disk that boots another one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab.systemdisk import FILES
from libironic_disk import deploy
from libironic_disk.events import Cancellation, EventSink
from libironic_disk.images import ImageType
from libironic_disk.pure.report import DeployResult
from libironic_disk.pure.roles import Firmware, Role
from libironic_disk.request import DeployRequest, FirmwareEntry
from libironic_disk.units import MIB
from tests.support import oracles, wholedisks
from tests.support.disks import LoopDisk
from tests.support.faults.scenes import OldDisk, old_disk
from tests.support.faults.work import Of, Scene, State, Try

SIZE = 768 * MIB
WHOLE_SIZE = 8 * MIB
LARGER = 12 * MIB

DRIVE = {"meta_data": {"uuid": "9f1c2e9e-6f1b-4f0e-8f3e-000000000001", "name": "host"}}


def system_image(folder: Path, *, name: str = "new") -> Path:
    """Make a partition image: an ext4 with a kernel of sorts, and a file that says its name."""
    tree = folder / f"{name}.tree"
    for path, content in {**FILES, "/etc/hostname": name.encode()}.items():
        place = tree / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    image = folder / f"{name}.raw"
    argv = ["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", str(tree), str(image), "24M"]
    subprocess.run(argv, check=True)
    qcow2 = image.with_suffix(".qcow2")
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(image), str(qcow2)], check=True)
    return qcow2


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployTry:
    """A deployment onto a disk that boots something else."""

    disk: OldDisk
    scene: Scene
    request: DeployRequest

    def call(self, sink: EventSink, cancel: Cancellation) -> DeployResult:
        """Deploy."""
        return deploy.deploy(self.request, sink=sink, cancel=cancel)

    def found(self, result: object | None) -> State:
        """Look at the disk: is it as before, is nothing there, or all of the new system."""
        if self.disk.is_unchanged:
            return State.OLD
        if not wholedisks.opinions(Path(self.disk.disk.node), sector_size=self.disk.disk.sector_size):
            self.disk.assert_boots_nothing()
            return State.NOTHING
        if self.request.image_type is ImageType.WHOLE_DISK:
            assert_whole_disk_is_new(self.disk.disk, Path(str(self.request.image)))
        else:
            assert_partitions_are_new(self.disk.disk, self.request)
        return State.NEW


def assert_partitions_are_new(disk: LoopDisk, request: DeployRequest) -> None:
    """Assert that a disk has all that a request for a partition image asks for, and that firmware finds its loader."""
    planned = deploy.plan(request).disk
    table = oracles.sfdisk(disk.node)
    sizes = [(row.start * disk.sector_size, row.size * disk.sector_size) for row in table.rows]
    assert sizes == [(part.start, part.size) for part in planned.partitions]  # type: ignore[union-attr]
    if table.label == "gpt":
        oracles.check_gpt(disk.node)
    for part, (start, size) in zip(planned.partitions, sizes, strict=True):  # type: ignore[union-attr]
        with part_file(disk, start, size) as node:
            match part.role:
                case Role.ROOT:
                    oracles.check_filesystem("ext4", node)
                    said = oracles.output("debugfs", "-R", "cat /etc/hostname", node)
                    assert said == "new", f"the root partition is {said!r}'s"
                    assert "grub" in oracles.output("debugfs", "-R", "ls -p /boot", node)
                case Role.ESP:
                    assert "BOOTX64" in oracles.output("mdir", "-i", node, "::/EFI/BOOT")
                    oracles.check_filesystem("vfat", node)
                case Role.SWAP:
                    oracles.check_filesystem("swap", node)
                case Role.CONFIG_DRIVE:
                    assert oracles.blkid(node)["LABEL"] == "config-2"
    if request.firmware is Firmware.BIOS:
        with Path(disk.node).open("rb") as file:
            head = file.read(512)
        assert head[510:] == b"\x55\xaa"
        assert b"GRUB" in head


def assert_whole_disk_is_new(disk: LoopDisk, image: Path) -> None:
    """Assert that a disk has all of a raw whole-disk image, and a config drive behind it."""
    if disk.sector_size == 512:
        oracles.check_gpt(disk.node)
    rows = oracles.sfdisk(disk.node).rows
    with image.open("rb") as wanted, Path(disk.node).open("rb") as node:
        # What lies between the tables: these are changed, since the disk is larger and gets a partition more.
        wanted.seek(MIB)
        node.seek(MIB)
        size = image.stat().st_size - 2 * MIB
        same = wanted.read(size) == node.read(size)
        assert same, "the image's own partitions are not as in the image"
    labels = []
    for row in rows:
        with part_file(disk, row.start * disk.sector_size, row.size * disk.sector_size) as part:
            labels.append(oracles.blkid(part).get("LABEL"))
    assert "config-2" in labels, f"no config drive among {labels}"


@contextmanager
def part_file(disk: LoopDisk, start: int, size: int) -> Iterator[str]:
    """Give a part of a disk as a read-only device of its own, whatever the kernel knows of its partitions."""
    argv = ["losetup", "--find", "--show", "--read-only", "--offset", str(start), "--sizelimit", str(size)]
    subprocess.run(["blockdev", "--flushbufs", disk.node], check=True)
    node = oracles.output(*argv, str(disk.file)).strip()
    try:
        yield node
    finally:
        oracles.output("losetup", "--detach", node)


@contextmanager
def _begin(base: Path, image: Path, firmware: Firmware) -> Iterator[Try]:
    with old_disk(base) as (disk, scene):
        request = DeployRequest(
            device=disk.disk.node,
            image=image,
            firmware=firmware,
            swap_mb=16,
            ephemeral_mb=16,
            config_drive=DRIVE,
            firmware_entry=FirmwareEntry.NEVER,
            seed=b"the new one",
        )
        yield DeployTry(disk=disk, scene=scene, request=request)


@contextmanager
def _begin_whole(base: Path, image: Path) -> Iterator[Try]:
    with old_disk(base) as (disk, scene):
        request = DeployRequest(
            device=disk.disk.node,
            image=image,
            image_type=ImageType.WHOLE_DISK,
            config_drive=DRIVE,
            firmware_entry=FirmwareEntry.NEVER,
        )
        yield DeployTry(disk=disk, scene=scene, request=request)


def partition_image(folder: Path, firmware: Firmware) -> Of:
    """A partition image as qcow2, with swap, an ephemeral volume and a config drive, onto a disk of another system."""
    base = folder / f"old-{firmware}.img"
    with base.open("wb") as file:
        os.truncate(file.fileno(), SIZE)
    old = DeployRequest(
        device=str(base),
        file_sector_size=512,
        image=system_image(folder, name="old"),
        firmware=firmware,
        seed=b"the old one",
        firmware_entry=FirmwareEntry.NEVER,
    )
    deploy.deploy(old)
    image = system_image(folder)
    return Of(name=f"deploy a partition image, {firmware}", begin=partial(_begin, base, image, firmware))


def whole_disk_image(folder: Path) -> Of:
    """A raw whole-disk image with a config drive, onto a larger disk with other partitions."""
    base = wholedisks.make_disk(folder / "old-whole.img", LARGER, seed=2)
    image = wholedisks.make_disk(folder / "new-whole.raw", WHOLE_SIZE, seed=1)
    return Of(name="deploy a whole-disk image", begin=partial(_begin_whole, base, image))
