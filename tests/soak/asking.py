"""From what was chosen to a call of the library, and to what it has to lead to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from libironic_disk import deploy, multiboot, partitioner
from libironic_disk.images import ImageSource, ImageType
from libironic_disk.multiboot import MultibootRequest
from libironic_disk.pure.disks.layout import Layout
from libironic_disk.pure.disks.planning import Existing
from libironic_disk.pure.disks.presets import ironic_layout
from libironic_disk.pure.roles import Firmware
from libironic_disk.request import DeployRequest, FirmwareEntry
from tests.soak.choosing import Chosen, Kind
from tests.support.deployments import Planned


def plan(chosen: Chosen, device: str, image: ImageSource) -> Planned:
    """Plan a deployment."""
    match chosen.kind:
        case Kind.TABLE:
            return partitioner.plan(_layout(chosen), partitioner.observe(device), existing=Existing.REPLACE)
        case Kind.SYSTEMS:
            return multiboot.plan(_systems(chosen, device, image))
        case Kind.PARTITION:
            return deploy.plan(_of_partition(chosen, device, image))
        case Kind.WHOLE | Kind.GROWN:
            return deploy.plan(
                DeployRequest(
                    device=device,
                    image=image,
                    image_type=ImageType.WHOLE_DISK,
                    grow=chosen.kind is Kind.GROWN,
                    firmware=chosen.firmware,
                    firmware_entry=FirmwareEntry.NEVER,
                    config_drive=_drive(chosen),
                    verify=chosen.verify,
                )
            )


def _of_partition(chosen: Chosen, device: str, image: ImageSource) -> DeployRequest:
    request = DeployRequest(
        device=device,
        image=image,
        firmware=chosen.firmware,
        firmware_entry=FirmwareEntry.NEVER,
        table=chosen.table,
        swap_mb=chosen.swap_mb,
        root_mb=chosen.root_mb,
        ephemeral_mb=chosen.ephemeral_mb,
        config_drive=_drive(chosen),
        verify=chosen.verify,
        seed=chosen.seed.encode(),
    )
    if not chosen.ephemeral_mb:
        return request
    return replace(request, ephemeral_format=chosen.ephemeral_format, preserve_ephemeral=chosen.keeps_ephemeral)


def _layout(chosen: Chosen) -> Layout:
    return ironic_layout(
        root_mb=chosen.root_mb,
        swap_mb=chosen.swap_mb,
        ephemeral_mb=chosen.ephemeral_mb,
        ephemeral_format=chosen.ephemeral_format,
        preserve_ephemeral=chosen.keeps_ephemeral,
        firmware=chosen.firmware,
        table=chosen.table,
        seed=chosen.seed.encode(),
    )


def _systems(chosen: Chosen, device: str, image: ImageSource) -> MultibootRequest:
    names = ("one", "two", "three")[: chosen.systems]
    url = f"file://{image}" if isinstance(image, Path) else str(image)
    volumes = [
        {"type": "partition", "mount": "/", "images": [name], "size": "48", "name": f"root-{name}"} for name in names
    ]
    described = {
        "images": [{"name": name, "image_pull_url": url, "target": "/", "boot": name == "one"} for name in names],
        "partitions": [{"type": "disk", "id": {"type": "name", "value": device}, "volumes": volumes}],
        "partitions_policy": "clean",
        "deploy_data": {"kernel_params": "console=ttyS0"},
    }
    return MultibootRequest(
        description=multiboot.read(described),
        firmwares=frozenset(Firmware) if chosen.both_firmwares else frozenset({chosen.firmware}),
        menu_timeout=1,
        seed=chosen.seed.encode(),
        os_prober=False,
        firmware_entry=FirmwareEntry.NEVER,
        verify=chosen.verify,
    )


def _drive(chosen: Chosen) -> dict[str, object] | None:
    return {"meta_data": {"uuid": chosen.seed}} if chosen.drive else None
