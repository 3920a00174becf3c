"""Whole-disk images that others' tools made boot from the disk that they were written to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from lab import cache_directory
from lab.debian import parse_deploy_report
from lab.debiandisk import DebianDisk, Form, build_disk_images
from lab.qemu import booted
from libironic_disk import deploy
from libironic_disk.images import ImageType
from libironic_disk.pure.report import DeployResult
from libironic_disk.pure.roles import Firmware
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.request import DeployRequest
from libironic_disk.units import GIB
from tests.conftest import Bench
from tests.support import oracles

pytestmark = [pytest.mark.machine, pytest.mark.timeout(900)]

BIOS, UEFI = Firmware
MBR, GPT = TableKind.MBR, TableKind.GPT
TIMEOUT = 300


def written(disk: Path, image: Path) -> DeployResult:
    """Write a whole-disk image onto a disk in a plain file."""
    return deploy.deploy(
        DeployRequest(
            device=str(disk),
            file_sector_size=512,
            image=image,
            image_type=ImageType.WHOLE_DISK,
        )
    )


@pytest.fixture(scope="module")
def debians() -> Mapping[TableKind, DebianDisk]:
    """Debian 12 with Debian's GRUB."""
    return build_disk_images(cache_directory())


@pytest.mark.parametrize(
    ("table", "form", "firmware"),
    [
        pytest.param(MBR, Form.RAW, BIOS, id="mbr-raw-bios"),
        pytest.param(MBR, Form.QCOW2, BIOS, id="mbr-qcow2-bios"),
        pytest.param(MBR, Form.XZ, BIOS, id="mbr-xz-bios"),
        pytest.param(GPT, Form.RAW, BIOS, id="gpt-raw-bios"),
        pytest.param(GPT, Form.RAW, UEFI, id="gpt-raw-uefi"),
        pytest.param(GPT, Form.PACKED_QCOW2, UEFI, id="gpt-packed-qcow2-uefi"),
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
