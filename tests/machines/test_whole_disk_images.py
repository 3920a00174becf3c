"""Whole-disk images that others' tools made boot from the disk that they were written to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from lab import cache_directory, isoimages, textscreen
from lab.debian import parse_deploy_report
from lab.debiandisk import DebianDisk, Form, build_disk_images
from lab.isoimages import LIVE_SAYS, Packaged
from lab.qemu import booted
from libironic_disk import deploy
from libironic_disk.images import ImageFormat, ImageType
from libironic_disk.pure.report import DeployResult
from libironic_disk.pure.roles import Firmware, Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.request import DeployRequest
from libironic_disk.units import GIB, MIB
from tests.conftest import Bench
from tests.support import oracles

pytestmark = [pytest.mark.machine, pytest.mark.timeout(900)]

FULL = pytest.mark.full
BIOS, UEFI = Firmware
MBR, GPT = TableKind.MBR, TableKind.GPT
TIMEOUT = 300


def request_for(disk: Path, image: Path, declared: ImageFormat | None = None) -> DeployRequest:
    """Ask for a whole-disk image on a disk in a plain file."""
    return DeployRequest(
        device=str(disk),
        file_sector_size=512,
        image=image,
        image_format=declared,
        image_type=ImageType.WHOLE_DISK,
    )


def written(disk: Path, image: Path, declared: ImageFormat | None = None) -> DeployResult:
    """Write a whole-disk image and nothing else."""
    return deploy.deploy(request_for(disk, image, declared))


@pytest.fixture(scope="module")
def debians() -> Mapping[TableKind, DebianDisk]:
    """Debian 12 with Debian's GRUB."""
    return build_disk_images(cache_directory())


# With a config drive, the forms that aren't here boot below.
@pytest.mark.parametrize(
    ("table", "form", "firmware"),
    [
        pytest.param(MBR, Form.RAW, BIOS, id="mbr-raw-bios", marks=FULL),
        pytest.param(MBR, Form.QCOW2, BIOS, id="mbr-qcow2-bios", marks=FULL),
        pytest.param(MBR, Form.XZ, BIOS, id="mbr-xz-bios"),
        pytest.param(GPT, Form.RAW, BIOS, id="gpt-raw-bios"),
        pytest.param(GPT, Form.RAW, UEFI, id="gpt-raw-uefi", marks=FULL),
        pytest.param(GPT, Form.PACKED_QCOW2, UEFI, id="gpt-packed-qcow2-uefi", marks=FULL),
        pytest.param(GPT, Form.ZST, UEFI, id="gpt-zst-uefi"),
    ],
)
def test_debian_boots(
    bench: Bench, debians: Mapping[TableKind, DebianDisk], table: TableKind, form: Form, firmware: Firmware
) -> None:
    image = debians[table]
    disk = bench.blank_file(2 * GIB)
    result = written(disk, image.forms[form])
    assert (result.table, result.disk_id) == (table, image.table.disk_id)
    # What sfdisk wrote into the image, sfdisk finds on the disk.
    made = oracles.sfdisk(str(image.forms[Form.RAW]))
    assert oracles.sfdisk(str(disk)) == made
    assert [part.start // 512 for part in result.partitions] == [row.start for row in made.rows]
    with booted(disk, firmware=firmware) as machine:
        said = machine.wait_for("DEPLOY-REPORT done", timeout=TIMEOUT)
    report = parse_deploy_report(said)
    assert report is not None
    assert report.firmware == firmware
    assert report.root_uuid == image.root_uuid
    assert report.root_source == "/dev/vda1"


@pytest.mark.parametrize(
    ("table", "form", "firmware"), [(MBR, Form.QCOW2, BIOS), (GPT, Form.PACKED_QCOW2, UEFI)], ids=["bios", "uefi"]
)
def test_debian_boots_with_a_config_drive_and_a_larger_root(
    bench: Bench, debians: Mapping[TableKind, DebianDisk], table: TableKind, form: Form, firmware: Firmware
) -> None:
    image = debians[table]
    disk = bench.blank_file(3 * GIB)
    metadata = {"meta_data": {"uuid": "an instance"}}
    result = deploy.deploy(replace(request_for(disk, image.forms[form]), config_drive=metadata, grow=True))
    root, drive = result.partition(Role.ROOT), result.partition(Role.CONFIG_DRIVE)
    assert root is not None
    assert drive is not None
    assert (root.filesystem_uuid, drive.label.lower()) == (image.root_uuid, "config-2")
    with booted(disk, firmware=firmware) as machine:
        said = machine.wait_for("DEPLOY-REPORT done", timeout=TIMEOUT)
    report = parse_deploy_report(said)
    assert report is not None
    assert (report.firmware, report.root_uuid) == (firmware, image.root_uuid)


@pytest.mark.parametrize(
    ("image", "firmware", "marker"),
    [
        # None of them is said before the image's own program runs.
        pytest.param(Packaged.GRUB_RESCUE, BIOS, "FreeBSD (or GNU/kFreeBSD), direct boot", id="grub-rescue-bios"),
        pytest.param(
            Packaged.GRUB_RESCUE_FLOPPY, BIOS, "FreeBSD (or GNU/kFreeBSD), direct boot", id="grub-floppy-bios"
        ),
        pytest.param(Packaged.IPXE, BIOS, "Press Ctrl-B for the iPXE command line", id="ipxe-bios"),
        pytest.param(Packaged.IPXE, UEFI, "Press Ctrl-B for the iPXE command line", id="ipxe-uefi"),
    ],
)
def test_a_packaged_image_boots(bench: Bench, image: Packaged, firmware: Firmware, marker: str) -> None:
    disk = bench.blank_file(64 * MIB)
    written(disk, isoimages.packaged(cache_directory(), image), ImageFormat.RAW)
    with booted(disk, firmware=firmware, memory_mib=256) as machine:
        machine.wait_for(marker, timeout=TIMEOUT)


@pytest.mark.parametrize(
    ("image", "firmware"),
    [
        pytest.param(Packaged.MEMTEST_64, BIOS, id="64-bios"),
        pytest.param(Packaged.MEMTEST_32, BIOS, id="32-bios", marks=FULL),
        pytest.param(Packaged.MEMTEST_64, UEFI, id="64-uefi"),
    ],
)
def test_the_memory_tester_boots(bench: Bench, image: Packaged, firmware: Firmware) -> None:
    disk = bench.blank_file(64 * MIB)
    written(disk, isoimages.packaged(cache_directory(), image), ImageFormat.RAW)
    # OVMF doesn't do with less, and what there is gets tested.
    memory_mib = 128 if firmware is UEFI else 64
    with (
        textscreen.readable(memory_mib) as screen,
        booted(disk, firmware=firmware, memory_mib=memory_mib, more=screen.arguments) as machine,
    ):
        screen.wait_for("Memtest86+ v", machine, timeout=TIMEOUT)
        screen.wait_for("Status: Testing", machine, timeout=TIMEOUT)


@pytest.mark.parametrize("firmware", [pytest.param(BIOS, marks=FULL), UEFI])
def test_a_live_system_boots(bench: Bench, tmp_path: Path, firmware: Firmware) -> None:
    disk = bench.blank_file(64 * MIB)
    result = written(disk, isoimages.live(cache_directory(), tmp_path / "live.iso"), ImageFormat.RAW)
    assert result.table is GPT
    with booted(disk, firmware=firmware, memory_mib=512) as machine:
        machine.wait_for(LIVE_SAYS, timeout=TIMEOUT)
