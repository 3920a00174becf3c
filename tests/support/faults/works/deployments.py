"""Deployments of one image onto a disk that boots another one."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from libironic_disk import deploy
from libironic_disk.errors import DiskError
from libironic_disk.events import Cancellation, EventSink
from libironic_disk.images import Engine, ImageSource
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.report import DeployResult
from libironic_disk.pure.roles import Firmware, Role
from libironic_disk.pure.tables.bootrecord import BOOT_CODE_SIZE
from libironic_disk.request import DeployRequest, FirmwareEntry
from libironic_disk.units import MIB
from tests.support import deployments as images
from tests.support import oracles, wholedisks
from tests.support.disks import LoopDisk, looped
from tests.support.faults.scenes import OldDisk, old_disk
from tests.support.faults.work import Of, Scene, State, Try
from tests.support.isos import by_isoinfo

SIZE = 768 * MIB

_NO_SYSTEM = b"\xcd\x18\xf4\xeb\xfd"
"""INT 18h, by which a BIOS goes on to the next disk, and a halt."""

DRIVE = {"meta_data": {"uuid": "9f1c2e9e-6f1b-4f0e-8f3e-000000000001", "name": "host"}}


def system_image(folder: Path, *, name: str = "new") -> Path:
    """Make a partition image as qcow2, beside the raw one: an ext4 with a kernel of sorts, and its name."""
    return wholedisks.as_qcow2(images.system_image(folder / f"{name}.raw", name))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployTry:
    """A deployment onto a disk that boots something else."""

    disk: OldDisk
    scene: Scene
    request: DeployRequest
    image: Callable[[], ImageSource] | None = None
    """Gives the image to the call anew, where it can be read but once; the request has the same one as a file."""

    def call(self, sink: EventSink, cancel: Cancellation) -> DeployResult:
        """Deploy."""
        request = self.request if self.image is None else replace(self.request, image=self.image())
        return deploy.deploy(request, sink=sink, cancel=cancel)

    def found(self, result: object | None) -> State:
        """Look at the disk: is it as before, is nothing there, or all of the new system."""
        if found := self.disk.old_or_nothing():
            return found
        assert_partitions_are_new(self.disk.disk, self.request)
        return State.NEW

    def told(self, error: BaseException) -> None:
        """See that the error says what is on the disk."""
        assert_says_state(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepingTry(DeployTry):
    """A deployment onto a disk whose ephemeral volume is kept: its table stays, and the boot code comes last."""

    kept: ByteRange
    contents: str

    def found(self, result: object | None) -> State:
        """Look at the disk, and first of all at what was to be kept."""
        now = digest_of(self.disk.disk.file, self.kept)
        assert now == self.contents, "the volume that was to be kept has changed"
        if self.disk.is_unchanged:
            return State.OLD
        if head_of(self.disk.disk)[:BOOT_CODE_SIZE].rstrip(b"\0") == _NO_SYSTEM:
            return State.NOTHING
        assert_partitions_are_new(self.disk.disk, self.request)
        return State.NEW


def assert_says_state(error: BaseException) -> None:
    """Assert that an error of ours says what an operation on a whole disk has left there."""
    assert not isinstance(error, DiskError) or error.disk is not None, f"nothing is said of the disk: {error}"


def head_of(disk: LoopDisk) -> bytes:
    """Return the first sector."""
    subprocess.run(["blockdev", "--flushbufs", disk.node], check=True)
    with disk.file.open("rb") as file:
        return file.read(512)


def digest_of(file: Path, span: ByteRange) -> str:
    """Return the SHA-256 of a range of a file."""
    with file.open("rb") as opened:
        opened.seek(span.start)
        return hashlib.sha256(opened.read(span.size)).hexdigest()


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
                    _assert_is_system(node, "new")
                case Role.BIOS_BOOT:
                    _assert_starts(disk, start, node)
                case Role.ESP:
                    oracles.check_filesystem("vfat", node)
                    assert _on_fat(node, "/EFI/BOOT/BOOTX64.EFI").startswith(b"MZ")
                case Role.SWAP:
                    oracles.check_filesystem("swap", node)
                case Role.EPHEMERAL:
                    oracles.check_filesystem("ext4", node)
                case Role.CONFIG_DRIVE:
                    assert_is_drive(node)


def _assert_is_system(node: str, name: str) -> None:
    """Assert that a root has every file of the system of a name, and a menu that starts the newest of its kernels."""
    for path, content in images.files_of(name).items():
        found = oracles.output_of_bytes("debugfs", "-R", f"cat {path}", node)
        assert found == content, f"{path} is another file than that of {name!r}"
    menu = oracles.output("debugfs", "-R", "cat /boot/grub/grub.cfg", node)
    assert "/boot/vmlinuz-6.1.0-10-test" in menu, f"no menu of {name!r}: {menu!r}"


def _assert_starts(disk: LoopDisk, start: int, node: str) -> None:
    """Assert that a BIOS finds GRUB: boot.img in the first sector has the place of core.img, which is there."""
    head = head_of(disk)
    assert head[510:] == b"\x55\xaa"
    assert b"GRUB" in head
    # GRUB_BOOT_MACHINE_KERNEL_SECTOR, include/grub/i386/pc/boot.h: always in sectors of 512 bytes.
    assert int.from_bytes(head[0x5C:0x64], "little") * 512 == start
    with Path(node).open("rb") as file:
        # diskboot.img's own words; the compressed rest has no zeros to speak of.
        core = file.read(32768)
    assert b"loading" in core[:512]
    assert core.count(0) < len(core) // 4, "GRUB's core image has holes"


def assert_is_drive(node: str) -> None:
    """Assert that a config drive is :data:`DRIVE`; on a disk of larger sectors it is a FAT."""
    kind = oracles.blkid(node)
    # A FAT's labels have no small letters.
    assert kind["LABEL"].lower() == "config-2"
    path = "/openstack/latest/meta_data.json"
    found = by_isoinfo(Path(node), "-R", path) if kind["TYPE"] == "iso9660" else _on_fat(node, path)
    assert json.loads(found) == DRIVE["meta_data"], "the config drive has other metadata"


def _on_fat(node: str, path: str) -> bytes:
    return oracles.output_of_bytes("mtype", "-i", node, f"::{path}")


@contextmanager
def part_file(disk: LoopDisk, start: int, size: int) -> Iterator[str]:
    """Give a part of a disk as a read-only device of its own, whatever the kernel knows of its partitions."""
    subprocess.run(["blockdev", "--flushbufs", disk.node], check=True)
    with looped(disk.file, "--read-only", "--offset", str(start), "--sizelimit", str(size)) as node:
        yield node


@contextmanager
def _begin(
    base: Path, image: Path, source: Callable[[], ImageSource] | None, firmware: Firmware, engine: Engine
) -> Iterator[Try]:
    with old_disk(base, sources=(image,)) as (disk, scene):
        request = DeployRequest(
            device=disk.disk.node,
            image=image,
            image_engine=engine,
            firmware=firmware,
            swap_mb=16,
            ephemeral_mb=16,
            config_drive=DRIVE,
            firmware_entry=FirmwareEntry.NEVER,
            seed=b"the new one",
        )
        yield DeployTry(disk=disk, scene=scene, request=request, image=source)


@contextmanager
def _begin_keeping(base: Path, image: Path, kept: ByteRange) -> Iterator[Try]:
    with old_disk(base, sources=(image,)) as (disk, scene):
        request = DeployRequest(
            device=disk.disk.node,
            image=image,
            firmware=Firmware.BIOS,
            swap_mb=16,
            ephemeral_mb=16,
            preserve_ephemeral=True,
            config_drive=DRIVE,
            firmware_entry=FirmwareEntry.NEVER,
        )
        contents = digest_of(disk.disk.file, kept)
        yield KeepingTry(disk=disk, scene=scene, request=request, kept=kept, contents=contents)


def _old(folder: Path, firmware: Firmware, *, ephemeral_mb: int = 0) -> tuple[Path, DeployResult]:
    """Make a disk with another system, and with the same partitions if it has an ephemeral volume."""
    base = folder / f"old-{firmware}.img"
    with base.open("wb") as file:
        os.truncate(file.fileno(), SIZE)
    request = DeployRequest(
        device=str(base),
        file_sector_size=512,
        image=system_image(folder, name="old"),
        firmware=firmware,
        swap_mb=16 if ephemeral_mb else 0,
        ephemeral_mb=ephemeral_mb,
        config_drive=DRIVE if ephemeral_mb else None,
        seed=b"the old one",
        firmware_entry=FirmwareEntry.NEVER,
    )
    return base, deploy.deploy(request)


def partition_image(folder: Path, firmware: Firmware) -> Of:
    """A partition image as qcow2, with swap, an ephemeral volume and a config drive, onto a disk of another system."""
    base, _ = _old(folder, firmware)
    begin = partial(_begin, base, system_image(folder), None, firmware, Engine.NATIVE)
    return Of(name=f"deploy a partition image, {firmware}", begin=begin)


def by_qemu_img(folder: Path) -> Of:
    """The same, written by qemu-img."""
    base, _ = _old(folder, Firmware.BIOS)
    begin = partial(_begin, base, system_image(folder), None, Firmware.BIOS, Engine.QEMU_IMG)
    return Of(name="deploy a partition image by qemu-img", begin=begin)


def by_http(folder: Path, url: str) -> Of:
    """The same, from a server that has the folder."""
    base, _ = _old(folder, Firmware.BIOS)
    image = system_image(folder)
    begin = partial(_begin, base, image, lambda: f"{url}/{image.name}", Firmware.BIOS, Engine.NATIVE)
    return Of(name="deploy a partition image by HTTP", begin=begin)


def by_iterator(folder: Path) -> Of:
    """The same, raw and piece by piece from the caller."""
    base, _ = _old(folder, Firmware.BIOS)
    image = system_image(folder).with_suffix(".raw")
    begin = partial(_begin, base, image, lambda: _pieces(image), Firmware.BIOS, Engine.NATIVE)
    return Of(name="deploy a partition image from an iterator", begin=begin)


def _pieces(image: Path) -> Iterator[bytes]:
    with image.open("rb") as file:
        while piece := file.read(MIB):
            yield piece


def beside_a_kept_volume(folder: Path) -> Of:
    """The same onto a disk with the same partitions, of which the ephemeral one is kept."""
    base, made = _old(folder, Firmware.BIOS, ephemeral_mb=16)
    (kept,) = (ByteRange(part.start, part.start + part.size) for part in made.partitions if part.role is Role.EPHEMERAL)
    begin = partial(_begin_keeping, base, system_image(folder), kept)
    return Of(name="deploy a partition image beside a kept volume", begin=begin)
