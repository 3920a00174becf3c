"""Whole-disk images that are refused before the first write: each says why and leaves every byte as it was."""

from __future__ import annotations

import functools
import hashlib
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from libironic_disk import deploy, images, partitioner, wholedisk
from libironic_disk.errors import (
    DeviceBusy,
    DeviceFailed,
    DeviceLocked,
    DeviceReadOnly,
    DiskState,
    GeometryMismatch,
    ImageDamaged,
    ImageRefused,
    ImageTooLarge,
    LayoutInvalid,
    PlanOutdated,
    SourceFailed,
)
from libironic_disk.events import Event
from libironic_disk.images import Engine, ImageType
from libironic_disk.machine.disks import blkid
from libironic_disk.pure.boot.grubcfg import SerialConsole
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.disks.layout import Layout
from libironic_disk.pure.disks.presets import root
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.request import DeployRequest
from libironic_disk.units import KIB, MIB
from tests.conftest import Bench
from tests.support import oracles, wholedisks
from tests.support.disks import LoopDisk, mounted

pytestmark = pytest.mark.loopdevice

SIZE = 8 * MIB
LARGER = 11 * MIB
WRONG = f"sha256:{hashlib.sha256(b'another image').hexdigest()}"


def test_a_cut_qcow2_file_is_refused_first(unchanged: LoopDisk, qcow2: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.qcow2"
    cut.write_bytes(qcow2.read_bytes()[:-100_000])
    with pytest.raises(ImageDamaged, match="truncated") as refused:
        deploy.deploy(wholedisks.request_for(unchanged, cut))
    assert refused.value.disk is DiskState.UNCHANGED


def test_an_image_that_libblkid_cannot_read_is_a_source_and_no_device(
    unchanged: LoopDisk, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = blkid.signatures

    def unreadable(fd: int, span: ByteRange, *, device: str, sector_size: int, partition: int = 0) -> object:
        if device == str(raw):
            raise DeviceFailed(device=device, action="probing", reason="libblkid could not read")
        return really(fd, span, device=device, sector_size=sector_size, partition=partition)

    monkeypatch.setattr(blkid, "signatures", unreadable)
    request = replace(wholedisks.request_for(unchanged, raw), config_drive={"meta_data": {"uuid": "1", "name": "a"}})
    with pytest.raises(SourceFailed, match="libblkid") as refused:
        deploy.deploy(request)
    assert refused.value.source == str(raw)
    assert refused.value.disk is DiskState.UNCHANGED


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_ironic_9_8_an_image_that_is_larger_than_the_disk_is_refused_first(
    bench: Bench, raw: Path, qcow2: Path, form: str
) -> None:
    small = bench.attach(wholedisks.make_disk(bench.blank_file(SIZE - 512), SIZE - 512, seed=7), 512)
    before = small.digest()
    with pytest.raises(ImageTooLarge) as refused:
        deploy.deploy(wholedisks.request_for(small, {"raw": raw, "qcow2": qcow2}[form]))
    assert (refused.value.wanted, refused.value.available) == (SIZE, SIZE - 512)
    assert refused.value.disk is DiskState.UNCHANGED
    assert small.digest() == before


@pytest.mark.parametrize(
    ("form", "made_for", "label"),
    [
        *((form, made_for, "gpt") for form in ("raw", "qcow2", "raw.gz") for made_for in (512, 4096)),
        *((form, 512, "dos") for form in ("raw", "qcow2")),
    ],
)
def test_ironic_9_11_an_image_for_other_sectors_is_refused_first(
    bench: Bench, tmp_path: Path, form: str, made_for: int, label: str
) -> None:
    other = 4096 + 512 - made_for
    raw = wholedisks.make_disk(tmp_path / "other.raw", SIZE, sector_size=made_for, label=label, seed=8)
    oracles.output("gzip", "--keep", str(raw))
    images_of = {"raw": raw, "qcow2": wholedisks.as_qcow2(raw), "raw.gz": tmp_path / "other.raw.gz"}
    disk = bench.attach(wholedisks.make_disk(bench.blank_file(LARGER), LARGER, sector_size=other, seed=9), other)
    before = disk.digest()
    with pytest.raises(GeometryMismatch) as refused:
        deploy.deploy(wholedisks.request_for(disk, images_of[form]))
    assert (refused.value.made_for, refused.value.sector_size) == (made_for, other)
    assert refused.value.disk is DiskState.UNCHANGED
    assert disk.digest() == before


def test_an_image_of_a_larger_disk_is_refused_first(bench: Bench, raw: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.raw"
    cut.write_bytes(raw.read_bytes()[: 6 * MIB])
    small = bench.attach(wholedisks.make_disk(bench.blank_file(7 * MIB), 7 * MIB, seed=7), 512)
    before = small.digest()
    with pytest.raises(ImageRefused, match="its partition table is for a disk of at least") as refused:
        deploy.deploy(wholedisks.request_for(small, cut))
    assert refused.value.disk is DiskState.UNCHANGED
    assert small.digest() == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("preserve_ephemeral", True),
        ("ephemeral_mb", 64),
        ("ephemeral_format", "xfs"),
        ("swap_mb", 8),
        ("layout", Layout(table=TableKind.GPT, partitions=(root(),))),
        ("table", TableKind.GPT),
        ("kernel_parameters", KernelParameters(words=("quiet",))),
        ("menu_timeout", 3),
        ("serial", SerialConsole()),
    ],
)
def test_what_a_whole_disk_image_has_to_bring_itself_is_refused_by_name(
    unchanged: LoopDisk, raw: Path, field: str, value: object
) -> None:
    request: Callable[..., DeployRequest] = functools.partial(replace, wholedisks.request_for(unchanged, raw))
    with pytest.raises(LayoutInvalid) as refused:
        deploy.deploy(request(**{field: value}))
    assert refused.value.problems == (f"{field} was given, but a whole-disk image can only be taken as it is",)
    assert refused.value.disk is DiskState.UNCHANGED


def test_all_that_is_wrong_is_told_at_once_and_a_size_of_root_isnt(unchanged: LoopDisk, raw: Path) -> None:
    request = replace(
        wholedisks.request_for(unchanged, raw), root_mb=100, swap_mb=8, preserve_ephemeral=True, menu_timeout=1
    )
    with pytest.raises(LayoutInvalid) as refused:
        deploy.deploy(request)
    assert [problem.split()[0] for problem in refused.value.problems] == [
        "swap_mb",
        "preserve_ephemeral",
        "menu_timeout",
    ]


def test_an_engine_that_begins_with_the_first_sector_is_refused_first(
    unchanged: LoopDisk, raw: Path, tmp_path: Path
) -> None:
    vmdk = tmp_path / "image.vmdk"
    oracles.output("qemu-img", "convert", "-O", "vmdk", str(raw), str(vmdk))
    for image in (raw, vmdk):
        request = replace(wholedisks.request_for(unchanged, image), image_engine=Engine.QEMU_IMG)
        with pytest.raises(ImageRefused, match="a whole-disk image needs the native engine") as refused:
            deploy.deploy(request)
        assert refused.value.disk is DiskState.UNCHANGED


def test_a_disk_in_use_is_refused_first(disk: LoopDisk, raw: Path, tmp_path: Path) -> None:
    request = DeployRequest(device=disk.node, image=raw, image_type=ImageType.WHOLE_DISK)
    (first, *_) = deploy.deploy(request).partitions
    oracles.output("mke2fs", "-q", first.node)
    wanted = deploy.plan(request)
    before = disk.digest()
    with mounted(first.node, tmp_path / "mnt", "-o", "ro"):
        for _ in range(2):
            with pytest.raises(DeviceBusy, match="is mounted on") as busy:
                deploy.apply(wanted)
            assert busy.value.disk is DiskState.UNCHANGED
    assert disk.digest() == before
    assert Path(first.node).exists()


def test_a_disk_that_somebody_has_locked_is_refused_first(unchanged: LoopDisk, raw: Path, tmp_path: Path) -> None:
    plan = wholedisk.plan(images.inspect(raw), partitioner.observe(unchanged.node))
    with subprocess.Popen(["flock", unchanged.node, "cat"], stdin=subprocess.PIPE) as holder:
        while subprocess.run(["flock", "--nonblock", unchanged.node, "true"], check=False).returncode == 0:
            pass
        with pytest.raises(DeviceLocked, match=r"flock|cat") as locked:
            wholedisk.apply(plan, lock_timeout=0.05)
        assert holder.stdin is not None
        holder.stdin.close()
    assert locked.value.disk is DiskState.UNCHANGED
    entered, leave = threading.Event(), threading.Event()

    def hold(event: Event) -> None:
        entered.set()
        leave.wait(20)
        raise KeyboardInterrupt

    def other() -> None:
        with pytest.raises(KeyboardInterrupt):
            wholedisk.apply(plan, sink=hold, lock_path=tmp_path)

    thread = threading.Thread(target=other)
    thread.start()
    assert entered.wait(20)
    with pytest.raises(DeviceLocked, match=str(tmp_path)) as locked:
        wholedisk.apply(plan, lock_timeout=0.05, lock_path=tmp_path)
    leave.set()
    thread.join()
    assert locked.value.disk is DiskState.UNCHANGED


@pytest.mark.parametrize("how", ["another table", "another volume", "another disk"])
def test_a_disk_that_changed_since_the_plan_is_left_alone(bench: Bench, disk: LoopDisk, raw: Path, how: str) -> None:
    wanted = deploy.plan(wholedisks.request_for(disk, raw))
    match how:
        case "another table":
            quietly = ("--quiet", "--no-reread", "--no-tell-kernel")
            oracles.output("sfdisk", *quietly, "--part-label", disk.node, "1", "another")
        case "another volume":
            oracles.output("mke2fs", "-q", "-F", "-E", f"offset={MIB}", disk.node, str(MIB // KIB))
        case _:
            wanted = replace(wanted, disk=replace(_whole(wanted), device=bench.disk(LARGER, 512).node))
    other = _whole(wanted).device
    before = hashlib.sha256(Path(other).read_bytes()).digest()
    with pytest.raises(PlanOutdated) as outdated:
        deploy.apply(wanted)
    assert outdated.value.disk is DiskState.UNCHANGED
    assert hashlib.sha256(Path(other).read_bytes()).digest() == before


def _whole(wanted: deploy.DeployPlan) -> wholedisk.WholeDiskPlan:
    assert isinstance(wanted.disk, wholedisk.WholeDiskPlan)
    return wanted.disk


def test_a_read_only_disk_is_refused_first(bench: Bench, raw: Path) -> None:
    disk = bench.disk(LARGER, 512, read_only=True)
    with pytest.raises(DeviceReadOnly) as refused:
        deploy.deploy(wholedisks.request_for(disk, raw))
    assert refused.value.disk is DiskState.UNCHANGED


@pytest.mark.parametrize("what", ["a page", "zeros", "ext4", "a cut table"])
def test_what_nothing_starts_from_is_no_image_of_a_disk(unchanged: LoopDisk, tmp_path: Path, what: str) -> None:
    image = tmp_path / "image"
    match what:
        case "a page":
            image.write_bytes(b"<html><body>Please log in to use this network.</body></html>")
        case "zeros":
            image.write_bytes(bytes(MIB))
        case "ext4":
            oracles.output("mke2fs", "-q", "-t", "ext4", str(image), "8M")
        case "a cut table":
            image.write_bytes(b"EFI PART")
    reason = "a file system without a partition table" if what == "ext4" else "nothing starts from it"
    with pytest.raises(ImageRefused, match=reason) as refused:
        deploy.deploy(wholedisks.request_for(unchanged, image))
    assert refused.value.disk is DiskState.UNCHANGED
