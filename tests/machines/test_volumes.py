"""Roots on a logical volume and on a mirror boot, by SeaBIOS and OVMF from the same disks.

The host's kernel may know neither device mapper nor md: the disks are made in the test machine and booted in others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lab import cache_directory
from lab.debian import DebianImage, build_partition_image, parse_deploy_report
from lab.qemu import booted
from lab.testmachine import STATUS, Disk, running
from libironic_disk.pure.roles import Firmware
from libironic_disk.units import MIB
from tests.support.deploy_on_volumes import SERIALS

pytestmark = [pytest.mark.machine, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def debian() -> DebianImage:
    """A Debian 12 whose initial RAM disk starts volumes and arrays."""
    return build_partition_image(cache_directory(), more=("lvm2", "mdadm"))


@pytest.fixture(scope="module")
def disks(debian: DebianImage) -> Iterator[Mapping[str, Path]]:
    """The deployed disks, by their serial numbers."""
    size = debian.virtual_size + 256 * MIB
    kinds = [
        Disk(serial=serial, arguments=f"-device virtio-blk-pci,serial={serial},drive={{drive}}", size=size)
        for serials in SERIALS.values()
        for serial in serials
    ]
    with running([sys.executable, "-m", "tests.support.deploy_on_volumes", str(debian.path)], disks=kinds) as machine:
        said = machine.console.wait_until_off(timeout=900)
        assert (machine.share / STATUS).read_text().strip() == "0", said[-8000:]
        yield machine.disks


@pytest.mark.parametrize("firmware", Firmware)
@pytest.mark.parametrize("kind", SERIALS)
def test_a_root_on_a_volume_boots(
    disks: Mapping[str, Path], debian: DebianImage, kind: str, firmware: Firmware
) -> None:
    first, *others = SERIALS[kind]
    more: list[str] = []
    for other in others:
        more += ["-drive", f"if=none,id={other},file={disks[other]},format=raw,snapshot=on"]
        more += ["-device", f"virtio-blk-pci,drive={other}"]
    with booted(disks[first], firmware=firmware, more=tuple(more)) as machine:
        said = machine.wait_for("DEPLOY-REPORT done", timeout=300)
    report = parse_deploy_report(said)
    assert report is not None
    assert report.firmware == firmware
    assert report.root_uuid == debian.root_uuid
    assert report.root_source.startswith({"lvm": "/dev/mapper/vg0-root", "raid": "/dev/md"}[kind])
    assert [area.size for area in report.swap] == ([64 * MIB - 4096] if kind == "lvm" else [])
