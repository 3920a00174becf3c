"""A config drive on the disk of a whole-disk image: where it goes, and what is refused before the image is written.

Tests named ``ironic_9_N`` are the defects of today's systems, by their numbers in the project's research notes.
"""

from __future__ import annotations

import gzip
import io
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from libironic_disk import configdrive, deploy, wholedisk
from libironic_disk.errors import DeviceFailed, DiskState, ImageRefused, LayoutDoesNotFit, LayoutInvalid, TableLimit
from libironic_disk.images import ImageType
from libironic_disk.pure.report import DeployResult
from libironic_disk.pure.roles import Role
from libironic_disk.units import KIB, MIB, TIB
from tests.conftest import Bench
from tests.support import oracles, wholedisks
from tests.support.disks import LoopDisk, attach

pytestmark = pytest.mark.loopdevice

METADATA = {"meta_data": {"uuid": "f0f0"}, "user_data": "#!/bin/sh\n"}


def image(path: Path, size: int, script: str, *, sector_size: int = 512) -> Path:
    """Make an image of a disk with sfdisk."""
    with path.open("wb") as file:
        file.truncate(size)
    with attach(path, sector_size) as disk:
        argv = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never", disk.node]
        subprocess.run(argv, input=script, text=True, check=True)
        subprocess.run(["blockdev", "--flushbufs", disk.node], check=True)
    return path


def gpt(folder: Path, *rows: str, size: int = 8 * MIB, sector_size: int = 512) -> Path:
    return image(folder / "gpt.raw", size, "\n".join(["label: gpt", *rows]), sector_size=sector_size)


def mbr(folder: Path, *rows: str, size: int = 8 * MIB) -> Path:
    return image(folder / "mbr.raw", size, "\n".join(["label: dos", *rows]))


def put(source: Path | io.BytesIO, disk: LoopDisk, *, drive: configdrive.Source = METADATA) -> DeployResult:
    return deploy.deploy(replace(wholedisks.request_for(disk, source), config_drive=drive))


def drive_of(result: DeployResult, sector_size: int = 512) -> bytes:
    """Return the bytes of the partition with the config drive, after blkid found it by its label."""
    part = result.partition(Role.CONFIG_DRIVE)
    assert part is not None
    facts = oracles.blkid(part.node)
    assert facts["LABEL"].lower() == "config-2"
    assert facts["PART_ENTRY_UUID"] == part.partuuid
    (row,) = [row for row in oracles.sfdisk(result.device).rows if row.start * sector_size == part.start]
    assert row.size * sector_size == part.size
    return Path(part.node).read_bytes()


def wanted(sector_size: int = 512) -> bytes:
    return configdrive.load(METADATA, sector_size=sector_size).data


def test_a_gpt_gets_a_partition_of_the_drives_size_at_its_end(bench: Bench, tmp_path: Path, sector_size: int) -> None:
    raw = gpt(tmp_path, f"start={MIB // sector_size}, size={2 * MIB // sector_size}", sector_size=sector_size)
    disk = bench.disk(64 * MIB, sector_size)
    wholedisks.fill(disk)
    result = put(raw, disk)
    found, data = drive_of(result, sector_size), wanted(sector_size)
    assert found == data.ljust(-(-len(data) // sector_size) * sector_size, b"\0")
    oracles.check_gpt(disk.node)
    part = result.partition(Role.CONFIG_DRIVE)
    assert part is not None
    assert (part.start % MIB, part.name, part.number) == (0, "config-2", 2)
    assert part.start > 62 * MIB
    assert result.warnings == ()


@pytest.mark.parametrize("label", ["config-2", "CONFIG-2"])
@pytest.mark.parametrize("form", ["file", "stream"])
def test_the_images_own_partition_is_used(bench: Bench, tmp_path: Path, label: str, form: str) -> None:
    raw = gpt(tmp_path, "start=2048, size=4096", "start=6144, size=4096")
    oracles.output("mkfs.vfat", "-n", label, "--offset", "6144", str(raw), "2048")
    disk = bench.disk(64 * MIB, 512)
    result = put(raw if form == "file" else io.BytesIO(raw.read_bytes()), disk)
    part = result.partition(Role.CONFIG_DRIVE)
    assert part is not None
    assert (part.number, part.start, part.size) == (2, 3 * MIB, 2 * MIB)
    assert drive_of(result)[: len(wanted())] == wanted()
    assert len(result.partitions) == 2


def test_an_empty_partition_that_is_named_for_it_is_used(bench: Bench, tmp_path: Path) -> None:
    raw = gpt(tmp_path, "start=2048, size=4096", 'start=6144, size=4096, name="Config-2"')
    result = put(raw, bench.disk(64 * MIB, 512))
    assert len(result.partitions) == 2
    assert drive_of(result)[: len(wanted())] == wanted()


def test_an_own_partition_that_is_too_small_is_no_config_drive_any_more(bench: Bench, tmp_path: Path) -> None:
    raw = gpt(tmp_path, "start=2048, size=4096", "start=6144, size=256")
    oracles.output("mkfs.vfat", "-n", "CONFIG-2", "--offset", "6144", str(raw), "128")
    larger = {"meta_data": {"uuid": "f0f0"}, "user_data": "#" * (200 * KIB)}
    result = put(raw, bench.disk(64 * MIB, 512), drive=larger)
    assert [part.label.lower() for part in result.partitions] == ["", "", "config-2"]
    assert oracles.blkid(result.partitions[1].node).get("TYPE") is None
    assert drive_of(result) == configdrive.load(larger).data


def test_two_own_partitions_are_refused(bench: Bench, tmp_path: Path) -> None:
    raw = gpt(tmp_path, "start=2048, size=4096", "start=6144, size=4096")
    for at in ("2048", "6144"):
        oracles.output("mkfs.vfat", "-n", "CONFIG-2", "--offset", at, str(raw), "2048")
    disk = bench.disk(64 * MIB, 512)
    before = disk.digest()
    with pytest.raises(ImageRefused, match="partitions 1 and 2 are both labelled config-2") as refused:
        put(raw, disk)
    assert (refused.value.disk, disk.digest()) == (DiskState.UNCHANGED, before)
    with pytest.raises(ImageRefused, match="partitions 1 and 2") as refused:
        put(io.BytesIO(raw.read_bytes()), disk)
    assert refused.value.disk is DiskState.UNBOOTABLE


def test_an_mbr_with_a_free_entry_gets_a_primary_partition(bench: Bench, tmp_path: Path) -> None:
    raw = mbr(tmp_path, "start=2048, size=4096, type=83, bootable")
    result = put(raw, bench.disk(64 * MIB, 512))
    part = result.partition(Role.CONFIG_DRIVE)
    assert part is not None
    assert (part.number, drive_of(result)) == (2, wanted())
    assert [row.type_id for row in oracles.sfdisk(result.device).rows] == ["83", "83"]


def test_an_mbr_without_a_free_entry_gets_a_logical_partition(bench: Bench, tmp_path: Path) -> None:
    rows = (
        "start=2048, size=2048, type=83",
        "start=4096, size=1024, type=83",
        "start=5120, size=1024, type=83",
        "start=6144, size=6000, type=f",
        "start=6148, size=2000, type=83",
    )
    result = put(mbr(tmp_path, *rows), bench.disk(64 * MIB, 512))
    part = result.partition(Role.CONFIG_DRIVE)
    assert part is not None
    assert (part.number, drive_of(result)) == (6, wanted())
    container = next(row for row in oracles.sfdisk(result.device).rows if row.type_id == "f")
    assert (container.start + container.size) * 512 == part.start + part.size


def test_four_primary_partitions_are_too_many(bench: Bench, tmp_path: Path) -> None:
    raw = mbr(tmp_path, *(f"start={2048 * at}, size=2048, type=83" for at in range(1, 4)), "start=8192, size=2048")
    disk = bench.disk(64 * MIB, 512)
    before = disk.digest()
    sources: tuple[Path | io.BytesIO, ...] = (
        raw,
        io.BytesIO(raw.read_bytes()),
        io.BytesIO(gzip.compress(raw.read_bytes(), 1)),
    )
    for source in sources:
        with pytest.raises(TableLimit, match="all four primary partitions") as refused:
            put(source, disk)
        assert (refused.value.disk, disk.digest()) == (DiskState.UNCHANGED, before)


def test_ironic_9_2_an_mbr_on_3_tib_ends_its_drive_at_2_tib(bench: Bench, tmp_path: Path) -> None:
    """Others pass sectors for megabytes there, and the drive is too small and in the wrong place."""
    raw = mbr(tmp_path, "start=2048, size=4096, type=83")
    drive = {"meta_data": {"uuid": "f0f0"}, "user_data": "#" * (31 * MIB)}
    result = put(raw, bench.disk(3 * TIB, 512), drive=drive)
    part = result.partition(Role.CONFIG_DRIVE)
    assert part is not None
    size = configdrive.load(drive).size
    assert size > 62 * MIB
    assert part.size == size
    assert 2 * TIB - MIB < part.start + part.size <= 2 * TIB
    assert oracles.blkid(part.node)["LABEL"] == "config-2"


@pytest.mark.parametrize("form", ["file", "stream", "qcow2"])
def test_a_full_disk_is_refused_before_the_image_is_written(bench: Bench, tmp_path: Path, form: str) -> None:
    last = 8 * MIB // 512 - 34
    raw = gpt(tmp_path, f"start=2048, size={last - 2048}")
    disk = bench.disk(8 * MIB, 512)
    before = disk.digest()
    stream = io.BytesIO(raw.read_bytes())
    sources: dict[str, Path | io.BytesIO] = {"file": raw, "stream": stream, "qcow2": wholedisks.as_qcow2(raw)}
    with pytest.raises(LayoutDoesNotFit, match="config drive beside the 1 partitions") as refused:
        put(sources[form], disk)
    assert (refused.value.disk, disk.digest()) == (DiskState.UNCHANGED, before)
    size = configdrive.load(METADATA).size
    assert (refused.value.wanted, refused.value.available < size) == (size, True)


def test_a_disk_with_exactly_enough_room_has_a_drive(bench: Bench, tmp_path: Path) -> None:
    size = len(wanted())
    end = 8 * MIB // 512 - 33 - size // 512
    raw = gpt(tmp_path, f"start=2048, size={end - 2048}")
    assert drive_of(put(raw, bench.disk(8 * MIB, 512))) == wanted()
    raw = gpt(tmp_path, f"start=2048, size={end + 1 - 2048}")
    with pytest.raises(LayoutDoesNotFit):
        put(raw, bench.disk(8 * MIB, 512))


def test_an_image_without_a_table_is_refused(bench: Bench, tmp_path: Path) -> None:
    raw = tmp_path / "sector.raw"
    raw.write_bytes((b"\xeb\xfe".ljust(510, b"\x90") + b"\x55\xaa").ljust(MIB, b"\0"))
    disk = bench.disk(8 * MIB, 512)
    with pytest.raises(ImageRefused, match="no partition table, but a config drive was asked for") as refused:
        put(raw, disk)
    assert refused.value.disk is DiskState.UNCHANGED


def test_the_plan_says_where_it_goes(bench: Bench, tmp_path: Path) -> None:
    raw = gpt(tmp_path, "start=2048, size=4096")
    disk = bench.disk(64 * MIB, 512)
    request = replace(wholedisks.request_for(disk, raw), config_drive=METADATA, seed=b"seed")
    planned = deploy.plan(request)
    size = configdrive.load(METADATA).size
    assert f"config drive of {size // KIB} KiB on the new partition 2, {size // KIB} KiB at 63 MiB" in str(planned)
    first = deploy.apply(planned)
    second = deploy.deploy(request)
    assert first.partitions == second.partitions


def test_a_partition_image_can_not_grow(bench: Bench, tmp_path: Path) -> None:
    raw = gpt(tmp_path, "start=2048, size=4096")
    request = replace(wholedisks.request_for(bench.disk(64 * MIB, 512), raw), grow=True, image_type=ImageType.PARTITION)
    with pytest.raises(LayoutInvalid, match="grow was given for a partition image"):
        deploy.plan(request)


@pytest.mark.parametrize("form", ["file", "stream"])
def test_an_own_drive_in_the_last_mib_of_the_disk_is_found(bench: Bench, tmp_path: Path, form: str) -> None:
    """That is where this library puts one: a disk that it made is an image for another of the same size."""
    older = {**METADATA, "meta_data": {"uuid": "0000"}}
    made = bench.disk(64 * MIB, 512)
    put(mbr(tmp_path, "start=2048, size=4096, type=83"), made, drive=older)
    raw = tmp_path / "captured.raw"
    raw.write_bytes(Path(made.node).read_bytes())
    result = put(raw if form == "file" else io.BytesIO(raw.read_bytes()), bench.disk(64 * MIB, 512))
    assert [part.label for part in result.partitions] == ["", "config-2"]
    assert drive_of(result) == wanted()


@pytest.mark.parametrize("form", ["file", "qcow2", "stream"])
def test_a_gpt_with_its_entries_elsewhere_gets_a_drive(bench: Bench, tmp_path: Path, form: str) -> None:
    raw = gpt(tmp_path, "start=4096, size=4096")
    oracles.output("sgdisk", "--move-main-table=2048", str(raw))
    stream = io.BytesIO(raw.read_bytes())
    sources: dict[str, Path | io.BytesIO] = {"file": raw, "stream": stream, "qcow2": wholedisks.as_qcow2(raw)}
    result = put(sources[form], bench.disk(64 * MIB, 512))
    assert drive_of(result) == wanted()
    oracles.check_gpt(result.device)


@pytest.mark.parametrize("form", ["file", "stream"])
def test_an_own_drive_that_is_last_and_too_small_does_not_grow(bench: Bench, tmp_path: Path, form: str) -> None:
    raw = gpt(tmp_path, "start=2048, size=4096", "start=6144, size=256")
    oracles.output("mkfs.vfat", "-n", "CONFIG-2", "--offset", "6144", str(raw), "128")
    larger = {"meta_data": {"uuid": "f0f0"}, "user_data": "#" * (200 * KIB)}
    source = raw if form == "file" else io.BytesIO(raw.read_bytes())
    request = replace(wholedisks.request_for(bench.disk(64 * MIB, 512), source), config_drive=larger, grow=True)
    result = deploy.deploy(request)
    assert "the last partition, 2, is a config drive: nothing grows" in result.warnings
    assert drive_of(result) == configdrive.load(larger).data


@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_a_drive_is_never_put_before_the_first_partition(bench: Bench, tmp_path: Path, label: str) -> None:
    """There is the boot loader of many a small machine, which no table names."""
    end = 16 * MIB // 512 - 34
    raw = image(tmp_path / "image.raw", 16 * MIB, f"label: {label}\nstart=24576, size={end - 24576}")
    disk = bench.disk(16 * MIB, 512)
    with pytest.raises(LayoutDoesNotFit) as refused:
        put(raw, disk)
    assert refused.value.disk is DiskState.UNCHANGED


def test_a_disk_that_was_captured_has_one_drive_again(bench: Bench, tmp_path: Path) -> None:
    """A superseded drive isn't one by its name either."""
    raw = gpt(tmp_path, "start=2048, size=4096", 'start=6144, size=64, name="config-2"')
    disk = bench.disk(64 * MIB, 512)
    first = put(raw, disk)
    assert [part.name for part in first.partitions] == ["", "", "config-2"]
    captured = tmp_path / "captured.raw"
    captured.write_bytes(Path(disk.node).read_bytes())
    again = put(captured, bench.disk(96 * MIB, 512), drive={"meta_data": {"uuid": "0001"}})
    assert [(part.name, part.role) for part in again.partitions][2] == ("config-2", Role.CONFIG_DRIVE)
    assert len(again.partitions) == 3


def test_a_disk_a_little_too_small_for_the_backup_has_one_all_the_same(bench: Bench, tmp_path: Path) -> None:
    raw = gpt(tmp_path, "start=2048, size=4096")
    image_size = raw.stat().st_size
    with raw.open("r+b") as file:
        file.truncate(image_size - 20 * 512)
    disk = bench.disk(image_size - 20 * 512, 512)
    result = put(raw, disk)
    oracles.check_gpt(disk.node)
    assert drive_of(result) == wanted()
    assert all(warning.endswith("so in the image, and put right on the disk") for warning in result.warnings)
    assert result.warnings


def test_another_partition_than_planned_is_never_made(bench: Bench, tmp_path: Path) -> None:
    raw = gpt(tmp_path, "start=2048, size=4096")
    disk = bench.disk(64 * MIB, 512)
    planned = deploy.plan(replace(wholedisks.request_for(disk, raw), config_drive=METADATA))
    assert isinstance(planned.disk, wholedisk.WholeDiskPlan)
    assert planned.disk.changes is not None
    fewer = replace(planned.disk.changes, partitions=planned.disk.changes.partitions[:1])
    with pytest.raises(DeviceFailed, match="its partitions would be others than planned") as refused:
        deploy.apply(replace(planned, disk=replace(planned.disk, changes=fewer)))
    assert refused.value.disk is DiskState.UNBOOTABLE
