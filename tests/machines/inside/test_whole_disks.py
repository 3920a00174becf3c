"""A whole-disk image with a config drive, its root grown, on each kind of disk: partitions are found through sysfs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from libironic_disk import configdrive, deploy
from libironic_disk.images import ImageType
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.roles import Role
from libironic_disk.request import DeployRequest
from libironic_disk.units import KIB
from tests.support import oracles
from tests.support.disks import mounted
from tests.support.machinedisks import blank, children, mapped, mirror, reread, scsi
from tests.support.rooted_images import bytes_of, rooted_image
from tests.support.udevd import settle

pytestmark = pytest.mark.inside

SERIALS = {
    "nvme-512": "nvme-512",
    "nvme-4096": "nvme-4096",
    "virtio-512": "virtio-512",
    "mmc": "0xdeadbeef",
}
KINDS = (*SERIALS, "scsi-512", "multipath", "md")
# Partitions that the kernel makes, and that device mapper does.
ALSO_MBR = ("nvme-512", "multipath")
METADATA = {"meta_data": {"uuid": "an instance"}}


@contextmanager
def blank_disk(kind: str) -> Iterator[str]:
    match kind:
        case "scsi-512":
            with scsi(512) as node:
                yield node
        case "multipath":
            with mapped("nvme-512", "mpatha", "mpath-3600a") as node:
                yield node
        case "md":
            with mirror("nvme-512", "virtio-512") as node:
                yield node
        case _:
            yield blank(SERIALS[kind])


@pytest.mark.parametrize(
    ("kind", "label"),
    [(kind, "gpt") for kind in KINDS]
    + [pytest.param(kind, "dos", marks=() if kind in ALSO_MBR else pytest.mark.full) for kind in KINDS],
)
def test_a_drive_and_a_larger_root_on_a_disk_of_any_kind(kind: str, label: str, tmp_path: Path) -> None:
    sector = 4096 if kind.endswith("4096") else 512
    raw = rooted_image(tmp_path / "image", FileSystem.EXT4, label=label, sector_size=sector)
    with blank_disk(kind) as node:
        request = DeployRequest(
            device=node, image=raw, image_type=ImageType.WHOLE_DISK, config_drive=METADATA, grow=True
        )
        result = deploy.deploy(request)
        settle()
        assert result.warnings == ()
        root, drive = result.partition(Role.ROOT), result.partition(Role.CONFIG_DRIVE)
        assert root is not None
        assert drive is not None
        assert oracles.blkid(root.node)["UUID"] == result.root_uuid
        assert oracles.blkid(drive.node)["LABEL"].lower() == configdrive.LABEL
        assert root.start + root.size == drive.start
        assert root.size - bytes_of(FileSystem.EXT4, root.node) < 64 * KIB
        oracles.check_filesystem(FileSystem.EXT4, root.node)
        with mounted(drive.node, tmp_path / "drive", "-o", "ro") as where:
            assert '"an instance"' in (where / "openstack/latest/meta_data.json").read_text()
        if label == "gpt":
            oracles.check_gpt(node)
        if kind not in ("multipath", "md"):
            # What the kernel's own parser makes of the table is what it was told.
            told = children(node)
            reread(node)
            assert children(node) == told
            assert {child.node for child in told} == {part.node for part in result.partitions}
