"""A deployed disk boots: the system on it says over its serial console what it found."""

from __future__ import annotations

import pytest

from lab import cache_directory
from lab.debian import DebianImage, build_partition_image, parse_deploy_report
from lab.qemu import booted
from libironic_disk import deploy
from libironic_disk.grub import SerialConsole
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.roles import Firmware, Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.request import DeployRequest
from libironic_disk.units import GIB
from tests.conftest import Bench
from tests.support import oracles

pytestmark = [pytest.mark.machine, pytest.mark.timeout(900)]

INSTANCE = "5d3a7c0e-1111-4222-8333-444455556666"


@pytest.fixture(scope="session")
def debian() -> DebianImage:
    """The Debian 12 partition image that the demo deploys too."""
    return build_partition_image(cache_directory())


@pytest.mark.parametrize(
    ("firmware", "table", "sector_size"),
    [
        (Firmware.BIOS, TableKind.MBR, 512),
        (Firmware.BIOS, TableKind.GPT, 512),
        pytest.param(Firmware.UEFI, TableKind.GPT, 512, marks=pytest.mark.full),
        (Firmware.UEFI, TableKind.GPT, 4096),
    ],
)
def test_a_partition_image_boots(
    bench: Bench, debian: DebianImage, firmware: Firmware, table: TableKind, sector_size: int
) -> None:
    disk = bench.blank_file(4 * GIB)
    result = deploy.deploy(
        DeployRequest(
            device=str(disk),
            file_sector_size=sector_size,
            image=debian.path,
            swap_mb=256,
            ephemeral_mb=256,
            config_drive={"meta_data": {"uuid": INSTANCE}},
            firmware=firmware,
            table=table,
            kernel_parameters=KernelParameters.parse('console=ttyS0 a.test="$one {two}; three"'),
            menu_timeout=1,
            serial=SerialConsole(),
        )
    )
    assert result.root_uuid == debian.root_uuid
    with booted(disk, firmware=firmware, sector_size=sector_size) as machine:
        said = machine.wait_for("DEPLOY-REPORT done", timeout=600)
    report = parse_deploy_report(said)
    assert report is not None
    root, swap, ephemeral = (result.partition(role) for role in (Role.ROOT, Role.SWAP, Role.EPHEMERAL))
    assert root is not None
    assert swap is not None
    assert ephemeral is not None
    assert report.firmware == firmware
    assert report.root_uuid == result.root_uuid
    assert [area.size for area in report.swap] == [swap.size - 4096]
    assert report.config_drive_uuid == INSTANCE
    assert report.ephemeral_uuid == ephemeral.filesystem_uuid
    assert f"root=UUID={result.root_uuid}" in report.cmdline
    assert '"a.test=$one {two}; three"' in report.cmdline


def test_the_keys_that_ironic_expects(bench: Bench, debian: DebianImage) -> None:
    disk = bench.disk(4 * GIB, 512)
    result = deploy.deploy(DeployRequest(device=disk.node, image=debian.path, swap_mb=64, firmware=Firmware.UEFI))
    keys = result.as_ironic()
    assert keys == {
        "root uuid": debian.root_uuid,
        "efi system partition uuid": result.esp_uuid,
        "partitions": {
            "efi system partition": f"{disk.node}p1",
            "swap": f"{disk.node}p2",
            "root": f"{disk.node}p3",
        },
    }
    assert oracles.blkid(f"{disk.node}p1")["UUID"] == result.esp_uuid
    oracles.check_gpt(disk.node)
    for kind, number in (("vfat", 1), ("swap", 2), ("ext4", 3)):
        oracles.check_filesystem(kind, f"{disk.node}p{number}")
