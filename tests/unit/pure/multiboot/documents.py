"""Documents of the multi-image specification, valid ones; a test breaks them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

UBUNTU, CENTOS = "ubuntu 14.04", "centos 7.1"


def of_the_specification() -> dict[str, Any]:
    """The specification's two examples in one: its images, and its volumes on a disk."""
    return deepcopy(
        {
            "images": [
                {
                    "name": CENTOS,
                    "boot": True,
                    "image_name": "centos-7.1.1503",
                    "image_uuid": "2a86b00d-cfa4-49d9-a008-13c7940ed02d",
                    "image_pull_url": "http://10.211.55.8:8080/v1/AUTH_319",
                    "target": "/",
                },
                {
                    "name": UBUNTU,
                    "boot": False,
                    "image_name": "ubuntu",
                    "image_uuid": "157636d8-62ad-499d-aecc-2ea4917ee396",
                    "image_pull_url": "http://10.211.55.8:8080/v1/AUTH_319",
                    "target": "/",
                },
            ],
            "partitions": [
                {
                    "type": "disk",
                    "id": {"type": "name", "value": "vda"},
                    "size": "20 GiB",
                    "volumes": [
                        partition("/", UBUNTU, size="4000"),
                        partition("/", CENTOS, size="5000"),
                        partition("/usr/share/common", CENTOS, UBUNTU, size="5000"),
                    ],
                }
            ],
        }
    )


def on_volumes() -> dict[str, Any]:
    """Roots and data on logical volumes of a group on two disks."""
    document = of_the_specification()
    document["partitions"] = [
        {
            "type": "disk",
            "id": {"type": "scsi", "value": "0:0:0:0"},
            "volumes": [{"type": "pv", "vg": "os", "size": "10 GiB"}],
        },
        {
            "type": "disk",
            "id": {"type": "path", "value": "disk/by-id/ata-QEMU_HARDDISK"},
            "volumes": [{"type": "pv", "vg": "os", "size": "remaining"}],
        },
        {
            "type": "vg",
            "id": "os",
            "volumes": [
                volume("centos", "/", CENTOS, size="40%"),
                volume("ubuntu", "/", UBUNTU, size="40%"),
                volume("swap", "swap", CENTOS, UBUNTU, size="512 MiB"),
                volume("srv", "/srv", UBUNTU, size="remaining"),
            ],
        },
    ]
    return document


def partition(mount: str, *images: str, size: str) -> dict[str, Any]:
    return {"type": "partition", "mount": mount, "images": list(images), "file_system": "ext4", "size": size}


def volume(name: str, mount: str, *images: str, size: str) -> dict[str, Any]:
    return {"type": "lv", "name": name, "mount": mount, "images": list(images), "file_system": "ext4", "size": size}
