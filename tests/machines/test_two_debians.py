"""Debian 12 and Debian 13 side by side, in SeaBIOS and OVMF from the same disk: each comes up with its volumes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from examples.several_systems import DISK_SIZE, description
from lab import cache_directory
from lab.debian import DebianImage, Release, build_partition_image, parse_deploy_report
from lab.partitions import partition
from lab.qemu import booted
from libironic_disk import multiboot, switching
from libironic_disk.grub import SerialConsole
from libironic_disk.multiboot import MultibootRequest, MultibootResult
from libironic_disk.multiboot.planning import BOTH
from libironic_disk.pure.roles import Firmware
from tests.support.disks import copied

pytestmark = [pytest.mark.machine, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def images() -> Mapping[str, DebianImage]:
    """Both systems, by the names that the description calls them."""
    return {f"debian-{release.number}": build_partition_image(cache_directory(), release) for release in Release}


def deploy(
    disk: Path, images: Mapping[str, DebianImage], *, firmwares: frozenset[Firmware] = BOTH, signed: bool = False
) -> MultibootResult:
    """Put both systems onto a disk in a plain file."""
    with disk.open("wb") as file:
        file.truncate(DISK_SIZE)
    document = description(dict(images)) | {"deploy_data": {"kernel_params": "console=ttyS0"}}
    request = MultibootRequest(
        description=multiboot.read(document),
        devices=(str(disk),),
        file_sector_size=512,
        firmwares=firmwares,
        signed=signed,
        menu_timeout=1,
        serial=SerialConsole(),
    )
    return multiboot.apply(multiboot.plan(request))


@pytest.fixture(scope="module")
def original(images: Mapping[str, DebianImage], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The deployed disk."""
    disk = tmp_path_factory.mktemp("debians") / "disk"
    result = deploy(disk, images)
    # os-prober finds both too.
    assert result.warnings == ()
    return disk


# The other one is started with UEFI below, where what is signed boots.
@pytest.mark.parametrize(
    ("name", "firmware"),
    [
        ("debian-12", Firmware.BIOS),
        pytest.param("debian-13", Firmware.UEFI, marks=pytest.mark.full),
        pytest.param("debian-12", Firmware.UEFI, marks=pytest.mark.full),
        pytest.param("debian-13", Firmware.BIOS, marks=pytest.mark.full),
    ],
)
def test_each_system_boots(
    original: Path, images: Mapping[str, DebianImage], tmp_path: Path, name: str, firmware: Firmware
) -> None:
    disk = copied(original, tmp_path / "disk")
    with partition(disk, "multiboot") as node:
        if name != "debian-12":
            switching.set_default(node, name, expect="debian-12")
        entries = switching.list_entries(node)
    with booted(disk, firmware=firmware) as machine:
        said = machine.wait_for("DEPLOY-REPORT done", timeout=600)
    report = parse_deploy_report(said)
    assert report is not None
    assert report.firmware == firmware
    assert report.root_uuid == images[name].root_uuid
    (entry,) = (entry for entry in entries if entry.image == name)
    assert f"multiboot.entry={entry.id}" in report.cmdline
    assert images[name].kernel_version in report.cmdline
    # Both systems' titles were on the screen.
    assert all(each.title in said for each in entries)


def test_secure_boot_starts_what_is_signed_and_grub_still_counts(
    images: Mapping[str, DebianImage], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    deploy(disk, images, firmwares=frozenset({Firmware.UEFI}), signed=True)
    with partition(disk, "multiboot") as node:
        switching.boot_once(node, "debian-13")
    with booted(disk, firmware=Firmware.UEFI, secure_boot=True, keep=True) as machine:
        said = machine.wait_for("DEPLOY-REPORT done", timeout=600)
    report = parse_deploy_report(said)
    assert report is not None
    assert report.root_uuid == images["debian-13"].root_uuid
    assert "secureboot: Secure boot enabled" in said
    with partition(disk, "multiboot") as node:
        assert switching.get_state(node).switch.once == ""


def test_secure_boot_starts_no_loader_of_ours(original: Path) -> None:
    with booted(original, firmware=Firmware.UEFI, secure_boot=True) as machine:
        said = machine.wait_for("Access Denied", timeout=120)
    assert "Linux version" not in said
