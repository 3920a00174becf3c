"""Roots on a logical volume and on a mirror boot, by SeaBIOS and OVMF from the same disks.

The host's kernel may know neither device mapper nor md: the disks are made in the test machine and booted in others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lab import cache_directory, smallsystem
from lab.debian import DebianImage, build_partition_image, parse_deploy_report
from lab.partitions import partition
from lab.qemu import booted
from lab.testmachine import STATUS, Disk, running
from libironic_disk import switching
from libironic_disk.pure.roles import Firmware
from libironic_disk.units import MIB
from tests.support.deploy_on_volumes import SERIALS, SEVERAL
from tests.support.disks import copied

pytestmark = [pytest.mark.machine, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def debian() -> DebianImage:
    """A Debian 12 whose initial RAM disk starts volumes and arrays."""
    return build_partition_image(cache_directory(), more=("lvm2", "mdadm"))


@pytest.fixture(scope="module")
def disks(debian: DebianImage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Path]]:
    """The deployed disks, by their serial numbers."""
    small = smallsystem.build(tmp_path_factory.mktemp("small") / "image", "small")
    size = debian.virtual_size + 512 * MIB
    kinds = [
        Disk(serial=serial, arguments=f"-device virtio-blk-pci,serial={serial},drive={{drive}}", size=size)
        for serials in (*SERIALS.values(), (SEVERAL,))
        for serial in serials
    ]
    argv = [sys.executable, "-m", "tests.support.deploy_on_volumes", str(debian.path), str(small)]
    with running(argv, disks=kinds) as machine:
        said = machine.console.wait_until_off(timeout=900)
        assert (machine.share / STATUS).read_text().strip() == "0", said[-8000:]
        yield machine.disks


# What a firmware adds is GRUB's core image that reads LVM (BIOS), and an ESP that is one half of a mirror (UEFI).
@pytest.mark.parametrize(
    ("kind", "firmware"),
    [
        ("lvm", Firmware.BIOS),
        ("raid", Firmware.UEFI),
        pytest.param("lvm", Firmware.UEFI, marks=pytest.mark.full),
        pytest.param("raid", Firmware.BIOS, marks=pytest.mark.full),
    ],
)
def test_a_root_on_a_volume_boots(
    disks: Mapping[str, Path], debian: DebianImage, kind: str, firmware: Firmware
) -> None:
    first, *others = SERIALS[kind]
    more: list[str] = []
    for other in others:
        more += ["-drive", f"if=none,id={other},file={disks[other]},format=raw,snapshot=on"]
        more += ["-device", f"virtio-blk-pci,drive={other}"]
    with booted(disks[first], firmware=firmware, more=tuple(more)) as machine:
        said = machine.wait_for("DEPLOY-REPORT done", timeout=600)
    report = parse_deploy_report(said)
    assert report is not None
    assert report.firmware == firmware
    assert report.root_uuid == debian.root_uuid
    assert report.root_source.startswith({"lvm": "/dev/mapper/vg0-root", "raid": "/dev/md"}[kind])
    assert [area.size for area in report.swap] == ([64 * MIB - 4096] if kind == "lvm" else [])


@pytest.mark.parametrize("firmware", [Firmware.BIOS, pytest.param(Firmware.UEFI, marks=pytest.mark.full)])
def test_one_of_several_roots_on_a_volume_boots(
    disks: Mapping[str, Path], debian: DebianImage, firmware: Firmware
) -> None:
    """Bareon could find no such root: it loaded no module for LVM (research/bareon.md, 4.17 and 4.23)."""
    with booted(disks[SEVERAL], firmware=firmware) as machine:
        said = machine.wait_for("DEPLOY-REPORT done", timeout=600)
    report = parse_deploy_report(said)
    assert report is not None
    assert report.root_uuid == debian.root_uuid
    assert report.root_source == "/dev/mapper/several-big"
    assert "multiboot.entry=big-" in report.cmdline


def test_the_other_one_on_a_partition_boots(disks: Mapping[str, Path], tmp_path: Path) -> None:
    disk = copied(disks[SEVERAL], tmp_path / "disk")
    with partition(disk, "multiboot") as node:
        switching.set_default(node, "small")
    with booted(disk, memory_mib=512) as machine:
        assert "SYSTEM small " in machine.wait_for("READY", timeout=120)
