from __future__ import annotations

import pytest

from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.multiboot.arranging import arrange
from libironic_disk.pure.multiboot.document import read
from libironic_disk.pure.roles import Firmware, Role
from tests.unit.pure.multiboot.documents import CENTOS, UBUNTU, of_the_specification, on_volumes, partition

BOTH = frozenset(Firmware)


def test_the_first_disk_begins_with_what_boots() -> None:
    """The first one that is referred to, whatever its name (research/bareon.md, 3)."""
    document = of_the_specification()
    second = {
        "type": "disk",
        "id": {"type": "name", "value": "sda"},
        "volumes": [partition("/data", CENTOS, size="10")],
    }
    document["partitions"].append(second)
    first, other = arrange(read(document), firmwares=BOTH).storage.disks
    assert [part.role for part in first.partitions[:4]] == [Role.BIOS_BOOT, Role.ESP, Role.MULTIBOOT, Role.DATA]
    assert [part.role for part in other.partitions] == [Role.DATA]


@pytest.mark.parametrize(
    ("firmware", "roles"),
    [(Firmware.BIOS, [Role.BIOS_BOOT, Role.MULTIBOOT]), (Firmware.UEFI, [Role.ESP, Role.MULTIBOOT])],
)
def test_only_what_the_firmware_needs(firmware: Firmware, roles: list[Role]) -> None:
    (layout,) = arrange(read(of_the_specification()), firmwares=frozenset({firmware})).storage.disks
    assert [part.role for part in layout.partitions[:2]] == roles
    multiboot = layout.partitions[1]
    assert (multiboot.size.size, multiboot.filesystem) == (100 * 1024 * 1024, FileSystem.EXT4)  # type: ignore[union-attr]


def test_an_image_brings_its_own_file_system() -> None:
    arranged = arrange(read(of_the_specification()), firmwares=BOTH)
    (layout,) = arranged.storage.disks
    assert [part.filesystem for part in layout.partitions[3:]] == [None, None, FileSystem.EXT4]
    assert arranged.root_of(CENTOS).volume.images == (CENTOS,)
    arranged.storage.check()


def test_volumes_are_mounted_by_their_depth_and_the_multiboot_partition_never() -> None:
    document = of_the_specification()
    document["partitions"][0]["volumes"] += [
        {"type": "partition", "mount": "swap", "images": [UBUNTU], "size": "100"},
        partition("/usr", UBUNTU, size="100"),
        partition("none", UBUNTU, size="100"),
    ]
    mounts = [placed.volume.mount for placed in arrange(read(document), firmwares=BOTH).of(UBUNTU)]
    assert mounts[:3] == ["/", "/usr", "/usr/share/common"]
    assert set(mounts[3:]) == {"swap", None}


def test_logical_volumes() -> None:
    arranged = arrange(read(on_volumes()), firmwares=BOTH, seed=b"x")
    arranged.storage.check()
    assert arranged.root_of(UBUNTU).partition == "os/ubuntu"
    assert arranged.root_of(UBUNTU).key == "os/ubuntu"
    (group,) = arranged.storage.groups
    assert [(volume.role, volume.filesystem) for volume in group.volumes] == [
        (Role.DATA, None),
        (Role.DATA, None),
        (Role.SWAP, FileSystem.SWAP),
        (Role.DATA, FileSystem.EXT4),
    ]
