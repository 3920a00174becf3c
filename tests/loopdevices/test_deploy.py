"""Deployments that must not succeed: refused before the first write, or left so that the disk does not boot."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from lab.systemdisk import FILES
from libironic_disk import deploy
from libironic_disk.errors import (
    BootImpossible,
    Cancelled,
    ChecksumInvalid,
    ChecksumMismatch,
    ConfigDriveInvalid,
    ConfigDriveTooLarge,
    DeviceBusy,
    DiskError,
    DiskState,
    FormatMismatch,
    ImageDamaged,
    ImageRefused,
    ImageTooLarge,
    LayoutDoesNotFit,
    LayoutInvalid,
    ProgramFailed,
    SourceFailed,
    ToolMissing,
)
from libironic_disk.events import BytesMoved, Cancellation, Event, Phase, PhaseStarted
from libironic_disk.images import Engine, ImageFormat, ImageSource, ImageType
from libironic_disk.machine import process
from libironic_disk.machine.boot import grub_image
from libironic_disk.pure.disks.layout import FileSystem, Layout
from libironic_disk.pure.disks.presets import esp, root, swap
from libironic_disk.pure.disks.sizes import mib
from libironic_disk.pure.roles import Firmware, Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.request import BootLoader, DeployRequest
from libironic_disk.units import GIB, MIB
from tests.conftest import Bench
from tests.support import oracles, wholedisks
from tests.support.badserver import ImageServer
from tests.support.disks import LoopDisk, attached_to, mounted
from tests.support.webserver import serving
from tests.support.written import packed

pytestmark = pytest.mark.loopdevice


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw partition image: an ext4 with a kernel of sorts."""
    folder = tmp_path_factory.mktemp("system")
    for name, content in FILES.items():
        path = folder / "tree" / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    image = folder / "system.raw"
    argv = ["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", str(folder / "tree"), str(image), "64M"]
    subprocess.run(argv, check=True)
    return image


@pytest.fixture(scope="session")
def qcow2(system: Path) -> Path:
    """The same as qcow2."""
    path = system.with_suffix(".qcow2")
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(system), str(path)], check=True)
    return path


@pytest.fixture
def disk(bench: Bench) -> LoopDisk:
    """A disk that holds something already."""
    disk = bench.disk(2 * GIB, 512)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk.node], check=True)
    return disk


@pytest.fixture
def unchanged(disk: LoopDisk) -> Iterator[LoopDisk]:
    """The same disk, which must be as it was afterwards."""
    before = disk.digest()
    yield disk
    assert disk.digest() == before


def assert_unbootable(disk: LoopDisk) -> None:
    """Assert that neither firmware finds anything on the disk."""
    with disk.file.open("rb") as file:
        assert file.read(MIB) == bytes(MIB)
        file.seek(-MIB, os.SEEK_END)
        assert file.read() == bytes(MIB)
    assert not oracles.has_table(disk.node)


@contextmanager
def in_form(form: str, system: Path, qcow2: Path, folder: Path) -> Iterator[ImageSource]:
    """Give an image as a caller may have it."""
    raw_or_qcow2 = qcow2 if "qcow2" in form else system
    match form.split()[-1]:
        case "stream":
            with raw_or_qcow2.open("rb") as stream:
                yield stream
        case "URL":
            with serving() as server:
                yield ImageServer(server=server, body=raw_or_qcow2.read_bytes()).url
        case "gzip" | "zstd" as pack:
            yield packed(raw_or_qcow2, pack, folder)
        case _:
            yield raw_or_qcow2


@pytest.mark.parametrize(
    ("form", "firmware", "engine"),
    [
        ("raw", Firmware.UEFI, Engine.NATIVE),
        ("raw", Firmware.BIOS, Engine.NATIVE),
        ("raw", Firmware.UEFI, Engine.QEMU_IMG),
        ("raw stream", Firmware.UEFI, Engine.NATIVE),
        ("raw stream", Firmware.BIOS, Engine.NATIVE),
        ("raw URL", Firmware.UEFI, Engine.NATIVE),
        ("raw in zstd", Firmware.UEFI, Engine.NATIVE),
        ("qcow2", Firmware.UEFI, Engine.NATIVE),
        ("qcow2", Firmware.BIOS, Engine.NATIVE),
        ("qcow2", Firmware.BIOS, Engine.QEMU_IMG),
        ("qcow2 stream", Firmware.UEFI, Engine.NATIVE),
        ("qcow2 stream", Firmware.UEFI, Engine.QEMU_IMG),
        ("qcow2 URL", Firmware.UEFI, Engine.NATIVE),
        ("qcow2 in gzip", Firmware.UEFI, Engine.NATIVE),
    ],
)
@pytest.mark.parametrize("verify", [False, True], ids=["", "verified"])
def test_an_image_arrives_whole_in_every_form(
    disk: LoopDisk,
    system: Path,
    qcow2: Path,
    tmp_path: Path,
    firmware: Firmware,
    form: str,
    engine: Engine,
    verify: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with in_form(form, system, qcow2, tmp_path) as image:
        result = deploy.deploy(
            DeployRequest(
                device=disk.node,
                image=image,
                image_engine=engine,
                firmware=firmware,
                boot_loader=BootLoader.NONE,
                root_mb=200,
                verify=verify,
            )
        )
    part = result.partition(Role.ROOT)
    assert part is not None
    assert part.size == 200 * MIB
    assert (part.filesystem, part.filesystem_uuid) == ("ext4", oracles.blkid(str(system))["UUID"])
    subprocess.run(["cmp", "--bytes", str(64 * MIB), part.node, str(system)], check=True)
    assert oracles.sfdisk(disk.node).label == ("gpt" if firmware is Firmware.UEFI else "dos")


def test_the_loader_is_on_the_esp_and_the_menu_in_the_image(disk: LoopDisk, system: Path, tmp_path: Path) -> None:
    result = deploy.deploy(DeployRequest(device=disk.node, image=system))
    esp_part, root_part = result.partition(Role.ESP), result.partition(Role.ROOT)
    assert esp_part is not None
    assert root_part is not None
    listing = oracles.output("mdir", "-b", "-i", esp_part.node, "::/EFI/BOOT")
    assert listing.split() == ["::/EFI/BOOT/BOOTX64.EFI"]
    with mounted(root_part.node, tmp_path / "mnt", "-o", "ro") as top:
        menu = (top / "boot/grub/grub.cfg").read_text()
    assert f"root=UUID={result.root_uuid}" in menu
    assert result.boot_entries[0] in menu
    oracles.check_filesystem("ext4", root_part.node)
    oracles.check_filesystem("vfat", esp_part.node)


def bad(image: Path, folder: Path, how: str) -> Path:
    """Return an image with one thing wrong."""
    path = folder / f"{how}.qcow2"
    match how:
        case "backing file":
            argv = ["qemu-img", "create", "-f", "qcow2", "-b", str(image), "-F", "raw", str(path)]
        case "data file":
            argv = ["qemu-img", "create", "-f", "qcow2", "-o", f"data_file={path}.data", str(path), "64M"]
        case "encrypted":
            secret = ["--object", "secret,id=s,data=x"]
            options = "encrypt.format=aes,encrypt.key-secret=s"
            argv = ["qemu-img", "create", *secret, "-f", "qcow2", "-o", options, str(path), "64M"]
        case "truncated":
            argv = ["qemu-img", "convert", "-O", "qcow2", str(image), str(path)]
        case _:
            raise AssertionError(how)
    subprocess.run(argv, check=True, capture_output=True)
    if how == "truncated":
        os.truncate(path, path.stat().st_size - 100_000)
    return path


@pytest.mark.parametrize("how", ["backing file", "data file", "encrypted", "truncated"])
def test_an_image_that_is_not_safe_is_refused_first(
    unchanged: LoopDisk, system: Path, tmp_path: Path, how: str
) -> None:
    with pytest.raises(ImageDamaged if how == "truncated" else ImageRefused) as refused:
        deploy.deploy(DeployRequest(device=unchanged.node, image=bad(system, tmp_path, how)))
    assert refused.value.disk is DiskState.UNCHANGED


def test_requests_that_contradict_themselves_or_the_disk_are_refused_first(
    unchanged: LoopDisk, system: Path, qcow2: Path
) -> None:
    node = unchanged.node
    blank = Layout(table=TableKind.GPT, partitions=(esp(), root()))
    rootless = Layout(table=TableKind.GPT, partitions=(esp(), swap(mib(64))))
    cases: tuple[tuple[DeployRequest, type[DiskError], str], ...] = (
        (DeployRequest(device=node, image=system, root_mb=32), ImageTooLarge, "64 MiB"),
        (DeployRequest(device=node, image=qcow2, root_mb=32), ImageTooLarge, "64 MiB"),
        (DeployRequest(device=node, image=qcow2, image_format=ImageFormat.RAW), FormatMismatch, "qcow2"),
        (DeployRequest(device=node, image=system, image_format=ImageFormat.QCOW2), FormatMismatch, "raw"),
        (DeployRequest(device=node, image=system, image_checksum="sha256:0"), ChecksumInvalid, "64 hexadecimal digits"),
        (DeployRequest(device=node, image=system, image_size=64 * MIB + 1), SourceFailed, "were announced"),
        (DeployRequest(device=node, image=io.BytesIO(b"x"), image_size=2), SourceFailed, "it ended early"),
        (
            DeployRequest(device=node, image=system, image_type=ImageType.WHOLE_DISK, swap_mb=8),
            LayoutInvalid,
            "swap_mb was given, but a whole-disk image can only be taken as it is",
        ),
        (
            DeployRequest(device=node, image=system, image_type=ImageType.WHOLE_DISK, image_engine=Engine.QEMU_IMG),
            ImageRefused,
            "a whole-disk image needs the native engine",
        ),
        (DeployRequest(device=node, image=system, swap_mb=-1), LayoutInvalid, "negative"),
        (DeployRequest(device=node, image=system, root_mb=0), LayoutInvalid, "positive"),
        (DeployRequest(device=node, image=system, swap_mb=4096), LayoutDoesNotFit, "swap 4 GiB"),
        (DeployRequest(device=node, image=system, ephemeral_mb=9, ephemeral_format="zfs"), LayoutInvalid, "zfs"),
        (DeployRequest(device=node, image=system, layout=rootless), LayoutInvalid, "root"),
        (
            DeployRequest(device=node, image=system, layout=blank, swap_mb=8),
            LayoutInvalid,
            "swap_mb was given beside a layout",
        ),
        (
            DeployRequest(device=node, image=system, layout=blank, config_drive={"meta_data": {}}),
            LayoutInvalid,
            "drive",
        ),
        (DeployRequest(device=node, image=system, layout=blank, firmware=Firmware.BIOS), BootImpossible, "BIOS boot"),
        (
            DeployRequest(
                device=node,
                image=system,
                layout=Layout(table=TableKind.MBR, partitions=(root(),)),
                firmware=Firmware.UEFI,
            ),
            BootImpossible,
            "EFI system partition",
        ),
        (DeployRequest(device=node, image=system, config_drive=b"no drive"), ConfigDriveInvalid, "malformed"),
        (
            DeployRequest(
                device=node, image=system, config_drive={"meta_data": {"x": "y" * 9000}}, config_drive_limit=5000
            ),
            ConfigDriveTooLarge,
            "limit",
        ),
    )
    for request, wanted, words in cases:
        with pytest.raises(wanted) as refused:
            deploy.deploy(request)
        assert words in str(refused.value), refused.value
        assert refused.value.disk is DiskState.UNCHANGED


def test_a_whole_disk_image_brings_its_own_table(disk: LoopDisk, tmp_path: Path) -> None:
    image = no_partition_image(tmp_path, "whole disk")
    result = deploy.deploy(DeployRequest(device=disk.node, image=image, image_type=ImageType.WHOLE_DISK))
    wholedisks.assert_has_image(disk, image)
    table = oracles.sfdisk(disk.node)
    assert (result.disk_id, result.table) == (table.disk_id, TableKind.GPT)
    assert [(part.start, part.partuuid) for part in result.partitions] == [(MIB, table.rows[0].uuid)]
    assert "TYPE" not in oracles.blkid(disk.node)


def test_a_missing_program_is_found_first(
    unchanged: LoopDisk, qcow2: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mtools = ("mcopy", "mdel", "mdir", "mmd", "mren")
    for name in ("mke2fs", "mkswap", "mkfs.vfat", *mtools, "grub-fstest", "grub-mkimage", "setpriv", "prlimit"):
        found = oracles.output("which", name).strip()
        (tmp_path / name).symlink_to(found)
    monkeypatch.setattr(process, "_search_path", lambda: str(tmp_path))
    request = DeployRequest(device=unchanged.node, image=qcow2, swap_mb=8, image_engine=Engine.QEMU_IMG)
    with pytest.raises(ToolMissing, match="qemu-img is not installed; it comes with the package qemu-utils"):
        deploy.deploy(request)
    # Nobody else needs it.
    assert deploy.plan(replace(request, image_engine=Engine.NATIVE)).image.virtual_size == 64 * MIB


def test_a_mounted_disk_is_refused_first(unchanged: LoopDisk, system: Path, tmp_path: Path) -> None:
    request = DeployRequest(device=unchanged.node, image=system)
    with mounted(unchanged.node, tmp_path / "mnt", "-o", "ro,noload"), pytest.raises(DeviceBusy, match="is mounted on"):
        deploy.deploy(request)


@pytest.mark.parametrize(
    ("firmware", "table"),
    [(Firmware.BIOS, TableKind.MBR), (Firmware.BIOS, TableKind.GPT), (Firmware.UEFI, TableKind.GPT)],
)
def test_a_rebuild_keeps_the_ephemeral_volume_and_the_table(
    disk: LoopDisk, system: Path, qcow2: Path, tmp_path: Path, firmware: Firmware, table: TableKind
) -> None:
    first = DeployRequest(
        device=disk.node,
        image=system,
        ephemeral_mb=64,
        swap_mb=32,
        config_drive={"meta_data": {"uuid": "first"}},
        firmware=firmware,
        table=table,
    )
    before = deploy.deploy(first)
    kept = before.partition(Role.EPHEMERAL)
    assert kept is not None
    with mounted(kept.node, tmp_path / "mnt") as top:
        (top / "precious").write_text("do not lose me")
    head = first_bytes(disk, 440)
    assert any(head) == (firmware is Firmware.BIOS)

    rebuilt = replace(first, image=qcow2, preserve_ephemeral=True, config_drive={"meta_data": {"uuid": "second"}})
    after = deploy.deploy(rebuilt)

    assert first_bytes(disk, 440) == head
    assert [part.partuuid for part in after.partitions] == [part.partuuid for part in before.partitions]
    assert after.partition(Role.EPHEMERAL) == kept
    with mounted(kept.node, tmp_path / "mnt", "-o", "ro") as top:
        assert (top / "precious").read_text() == "do not lose me"
    drive = after.partition(Role.CONFIG_DRIVE)
    assert drive is not None
    assert b"second" in Path(drive.node).read_bytes()


def first_bytes(disk: LoopDisk, count: int) -> bytes:
    """Return the first bytes of a disk."""
    with disk.file.open("rb") as file:
        return file.read(count)


class DyingStream(io.RawIOBase):
    """A stream that breaks off with an error."""

    def __init__(self, data: bytes, *, after: int) -> None:
        self._left = data[:after]

    def read(self, size: int = -1) -> bytes:
        if not self._left:
            raise OSError(104, "Connection reset by peer")
        piece, self._left = self._left[:size], self._left[size:]
        return piece


def test_a_source_that_dies_leaves_an_unbootable_disk(disk: LoopDisk, system: Path) -> None:
    stream = DyingStream(system.read_bytes(), after=40 * MIB + 17)
    with pytest.raises(SourceFailed, match="Connection reset by peer") as failed:
        deploy.deploy(DeployRequest(device=disk.node, image=stream))
    assert failed.value.offset == 40 * MIB + 17
    assert failed.value.disk is DiskState.UNBOOTABLE
    assert "does not boot" in str(failed.value)
    assert_unbootable(disk)


def test_an_image_without_a_kernel_leaves_an_unbootable_disk(disk: LoopDisk, tmp_path: Path) -> None:
    image = tmp_path / "empty.raw"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", str(image), "16M"], check=True)
    with pytest.raises(BootImpossible, match="vmlinuz"):
        deploy.deploy(DeployRequest(device=disk.node, image=image))
    assert_unbootable(disk)


@pytest.mark.parametrize("engine", Engine)
def test_an_image_with_another_checksum_leaves_an_unbootable_disk(disk: LoopDisk, qcow2: Path, engine: Engine) -> None:
    request = DeployRequest(device=disk.node, image=qcow2, image_checksum="0" * 64, image_engine=engine)
    with pytest.raises(ChecksumMismatch, match=oracles.output("sha256sum", str(qcow2)).split()[0]) as failed:
        deploy.deploy(request)
    assert failed.value.disk is DiskState.UNBOOTABLE
    assert_unbootable(disk)


def test_a_stream_that_turns_out_to_be_no_file_system_leaves_an_unbootable_disk(disk: LoopDisk, tmp_path: Path) -> None:
    """Planning can't look into it: its tables are behind all that may be read of a stream beforehand."""
    path = tmp_path / "late.qcow2"
    oracles.output("qemu-img", "create", "-q", "-f", "qcow2", str(path), "8M")
    oracles.output("qemu-io", "-f", "qcow2", "-c", "write -q -P 1 0 8M", str(path))
    oracles.output("qemu-img", "snapshot", "-c", "first", str(path))
    oracles.output("qemu-io", "-f", "qcow2", "-c", "write -q -P 2 0 64k", str(path))
    with path.open("rb") as stream, pytest.raises(ImageRefused, match="no file system") as failed:
        deploy.deploy(DeployRequest(device=disk.node, image=stream, firmware=Firmware.BIOS))
    assert failed.value.disk is DiskState.UNBOOTABLE
    assert_unbootable(disk)


def no_partition_image(folder: Path, what: str) -> Path:
    """Return a file that holds something else than one file system."""
    path = folder / "image"
    match what:
        case "script":
            path.write_text("#!/usr/bin/env python3\nprint('not an image')\n")
        case "zeros":
            path.write_bytes(bytes(8 * MIB))
        case "whole disk":
            path.write_bytes(bytes(8 * MIB))
            subprocess.run(["sfdisk", "-q", str(path)], input=b"label: gpt\nstart=2048\n", check=True)
        case _:
            raise AssertionError(what)
    return path


def as_qcow2(raw: Path) -> Path:
    """Return the same as qcow2."""
    path = raw.with_name(f"{raw.name}.qcow2")
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(path)], check=True)
    return path


@pytest.mark.parametrize("loader", list(BootLoader))
@pytest.mark.parametrize("form", ["raw", "qcow2", "raw stream", "qcow2 stream", "raw in gzip"])
@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("script", "holds no file system that is known here"),
        ("zeros", "holds no file system that is known here"),
        ("whole disk", "has a partition table: it looks like a whole-disk image"),
    ],
)
def test_what_is_no_partition_image_is_refused_first(
    unchanged: LoopDisk, tmp_path: Path, what: str, words: str, form: str, loader: BootLoader
) -> None:
    raw = no_partition_image(tmp_path, what)
    with in_form(form, raw, as_qcow2(raw), tmp_path) as image, pytest.raises(ImageRefused, match=words) as refused:
        deploy.deploy(DeployRequest(device=unchanged.node, image=image, boot_loader=loader))
    assert refused.value.disk is DiskState.UNCHANGED


def test_an_image_whose_first_clusters_are_damaged_is_refused_first(
    unchanged: LoopDisk, system: Path, tmp_path: Path
) -> None:
    path = tmp_path / "image.qcow2"
    oracles.output("qemu-img", "convert", "-c", "-O", "qcow2", str(system), str(path))
    with path.open("r+b") as file:
        # Behind the header and two levels each of reference counts and of mapping.
        file.seek(5 * 64 * 1024)
        file.write(b"\xff" * 1000)
    with pytest.raises(ImageDamaged, match="can't be unpacked") as refused:
        deploy.deploy(DeployRequest(device=unchanged.node, image=path))
    assert refused.value.disk is DiskState.UNCHANGED


def test_a_file_that_is_two_file_systems_at_once_is_refused_first(unchanged: LoopDisk, tmp_path: Path) -> None:
    image, other = tmp_path / "image", tmp_path / "swap"
    for path, maker in ((image, "mkfs.btrfs"), (other, "mkswap")):
        path.touch()
        os.truncate(path, 128 * MIB)
        subprocess.run([maker, "-q", str(path)], check=True, capture_output=True)
    with image.open("r+b") as file:
        file.write(other.read_bytes()[:4096])
    with pytest.raises(ImageRefused, match="it is swap and btrfs at the same time"):
        deploy.deploy(DeployRequest(device=unchanged.node, image=image, boot_loader=BootLoader.NONE))


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_what_grub_cannot_start_from_is_refused_first_and_fine_without_it(
    unchanged: LoopDisk, tmp_path: Path, form: str
) -> None:
    image = no_partition_image(tmp_path, "zeros")
    subprocess.run(["mkfs.vfat", str(image)], check=True, capture_output=True)
    image = image if form == "raw" else as_qcow2(image)
    request = DeployRequest(device=unchanged.node, image=image)
    with pytest.raises(BootImpossible, match="holds vfat, and GRUB can't start from it") as refused:
        deploy.deploy(request)
    assert refused.value.disk is DiskState.UNCHANGED
    assert deploy.plan(replace(request, boot_loader=BootLoader.NONE)).boot is None


@pytest.mark.parametrize("form", ["raw", "qcow2"])
@pytest.mark.parametrize("maker", ["mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"])
def test_partition_images_are_planned(unchanged: LoopDisk, tmp_path: Path, maker: str, form: str) -> None:
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, 320 * MIB)
    subprocess.run([maker, "-q", str(image)], check=True, capture_output=True)
    image = image if form == "raw" else as_qcow2(image)
    assert deploy.plan(DeployRequest(device=unchanged.node, image=image)).image.virtual_size == 320 * MIB


@pytest.mark.parametrize("phase", [Phase.FORMAT, Phase.CONFIG_DRIVE, Phase.IMAGE, Phase.BOOT_LOADER])
@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_cancelling_leaves_an_unbootable_disk(
    disk: LoopDisk, system: Path, qcow2: Path, phase: Phase, form: str
) -> None:
    switch = Cancellation()

    def sink(event: Event) -> None:
        if isinstance(event, PhaseStarted | BytesMoved) and event.phase is phase:
            switch.cancel()

    image = system if form == "raw" else qcow2
    request = DeployRequest(device=disk.node, image=image, swap_mb=8, config_drive={"meta_data": {"uuid": "u"}})
    with pytest.raises(Cancelled):
        deploy.deploy(request, sink=sink, cancel=switch)
    assert_unbootable(disk)


def test_a_grub_that_fails_leaves_an_unbootable_disk(
    disk: LoopDisk, system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = deploy.plan(DeployRequest(device=disk.node, image=system, firmware=Firmware.BIOS))

    def fail(*_: object, **__: object) -> bytes:
        raise ProgramFailed(argv=("grub-mkimage",), stderr="no space", exit_code=1)

    monkeypatch.setattr(grub_image, "core_image", fail)
    with pytest.raises(ProgramFailed, match="no space"):
        deploy.apply(plan)
    assert_unbootable(disk)


def test_a_failed_deployment_onto_a_file_leaves_no_loop_device(bench: Bench, system: Path, tmp_path: Path) -> None:
    file = bench.blank_file(GIB)
    stream = DyingStream(system.read_bytes(), after=40 * MIB)
    with pytest.raises(SourceFailed) as failed:
        deploy.deploy(DeployRequest(device=str(file), file_sector_size=512, image=stream))
    assert failed.value.disk is DiskState.UNBOOTABLE
    assert attached_to(file) == []
    assert not any(tmp_path.glob("*tmp*"))


def test_a_plan_says_everything_that_will_happen(unchanged: LoopDisk, qcow2: Path) -> None:
    request = DeployRequest(
        device=unchanged.node,
        image=qcow2,
        swap_mb=64,
        ephemeral_mb=64,
        ephemeral_format=FileSystem.EXT3,
        config_drive={"meta_data": {"uuid": "u"}},
    )
    said = str(deploy.plan(request))
    for words in (
        "mkfs vfat",
        "mkfs ext3",
        "mkfs swap",
        "config-drive",
        "destroys ext4 on the disk",
        "qcow2",
        "BOOTX64",
    ):
        assert words in said
