"""Deploy an image onto a logical volume and onto a mirror, for both kinds of firmware; run in the test machine.

A third disk gets two systems, one on a logical volume and one on a partition.

usage: python -m tests.support.deploy_on_volumes IMAGE SMALL-IMAGE; the disks have the serial numbers of
:data:`SERIALS`, the third one :data:`SEVERAL`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from libironic_disk import filesystems, grub, images, multiboot, switching, volumes
from libironic_disk.grub import BootPlan, RootPartition, SerialConsole
from libironic_disk.multiboot import MultibootRequest
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.disks.layout import FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.planning import Existing, Plan
from libironic_disk.pure.disks.sizes import Remaining, mib
from libironic_disk.pure.roles import Firmware, Role
from libironic_disk.pure.tables.model import Extent, TableKind
from libironic_disk.pure.volumes.planning import StoragePlan
from libironic_disk.pure.volumes.storage import ArrayMetadata, ArraySpec, GroupSpec, Storage, VolumeSpec
from tests.support import documents
from tests.support.oracles import output
from tests.support.udevd import settle

SERIALS = {"lvm": ("lvm",), "raid": ("raid-1", "raid-2")}
SEVERAL = "several"

_BIOS_BOOT = PartitionSpec(role=Role.BIOS_BOOT, size=mib(1))


def on_lvm() -> tuple[Storage, str]:
    """Return a group on one disk, and the name of its root."""
    layout = Layout(
        table=TableKind.GPT,
        partitions=(
            _BIOS_BOOT,
            PartitionSpec(role=Role.ESP, size=mib(64), filesystem=FileSystem.VFAT),
            PartitionSpec(role=Role.LVM, size=Remaining(), member_of="vg0"),
        ),
    )
    root = VolumeSpec(name="root", size=Remaining(), role=Role.ROOT)
    swap = VolumeSpec(name="swap", size=mib(64), role=Role.SWAP, filesystem=FileSystem.SWAP, label="swap1")
    return Storage(disks=(layout,), groups=(GroupSpec(name="vg0", volumes=(root, swap)),)), "vg0/root"


def on_mirror() -> tuple[Storage, str]:
    """Return a mirrored ESP and root on two disks, and the name of the root."""
    layout = Layout(
        table=TableKind.GPT,
        partitions=(
            _BIOS_BOOT,
            PartitionSpec(role=Role.ESP, size=mib(64), member_of="efi"),
            PartitionSpec(role=Role.RAID, size=Remaining(), member_of="root"),
        ),
    )
    esp = ArraySpec(name="efi", metadata=ArrayMetadata.AT_THE_END, role=Role.ESP, filesystem=FileSystem.VFAT)
    return Storage(disks=(layout, layout), arrays=(esp, ArraySpec(name="root", role=Role.ROOT))), "root"


def node_of(serial: str) -> str:
    """Return the node of the disk with this serial number."""
    rows = json.loads(output("lsblk", "--nodeps", "--json", "--output", "PATH,SERIAL"))["blockdevices"]
    (node,) = (str(row["path"]) for row in rows if row["serial"] == serial)
    return node


def boot_plans(disk: Plan, volume: str) -> Iterator[BootPlan]:
    """Plan a GRUB for either firmware."""
    bios_boot = disk.partition(Role.BIOS_BOOT)
    for firmware in Firmware:
        yield grub.plan_boot(
            device=disk.device,
            firmware=firmware,
            architecture=Layout(table=disk.table, partitions=()).architecture,
            table=disk.table,
            sector_size=disk.topology.sector_size,
            first_partition_start=disk.partitions[0].start,
            bios_boot=bios_boot.span if bios_boot else None,
            has_esp=True,
            kernel_parameters=KernelParameters.parse("console=ttyS0"),
            timeout=1,
            serial=SerialConsole(),
            volume=volume,
        )


def size_of(wanted: StoragePlan, name: str) -> int:
    """Return the bytes of an array or a volume."""
    sizes = {array.name: array.size for array in wanted.arrays}
    sizes |= {f"{group.name}/{volume.name}": volume.size for group in wanted.groups for volume in group.volumes}
    return sizes[name]


def deploy(storage: Storage, root: str, image: str, disks: list[str]) -> None:
    """Make the volumes, write the image onto one of them, and install GRUB on every disk."""
    wanted = volumes.plan(storage, volumes.observe(disks), existing=Existing.REPLACE)
    plans = {disk.device: tuple(boot_plans(disk, wanted.grub_name(root))) for disk in wanted.disks}
    with volumes.stage(wanted) as staged:
        volumes.make_filesystems(staged)
        node = staged.nodes[root]
        images.write_image(images.inspect(image), node, capacity=size_of(wanted, root))
        found = filesystems.read(node)
        assert found is not None
        filled = RootPartition(node=node, filesystem=FileSystem(found.kind), uuid=found.uuid, partuuid="")
        heads: dict[str, list[Extent]] = {}
        for disk in staged.disks:
            for plan in plans[disk.plan.device]:
                esp = disk.plan.partition(Role.ESP)
                assert esp is not None
                installed = grub.install(
                    plan,
                    root=filled,
                    bios_boot_node=disk.node_of(Role.BIOS_BOOT),
                    esp_node=staged.nodes.get("efi", disk.nodes[esp.number]),
                )
                heads.setdefault(disk.plan.device, []).extend(installed.head)
        staged.commit(heads)
    settle()
    assert volumes.plan(storage, volumes.observe(disks)).is_empty
    volumes.stop(volumes.observe(disks))


def deploy_several(image: str, small: str) -> None:
    """Deploy a system on a volume and another on a partition, from the document of the multi-image specification."""
    images = {"big": image, "small": small}
    document = {
        "images": documents.images(images),
        "partitions": [
            {
                "type": "disk",
                "id": {"type": "serial", "value": SEVERAL},
                "volumes": [
                    {"type": "partition", "mount": "/", "images": ["small"], "size": "80", "name": "small"},
                    {"type": "pv", "vg": "several", "size": "remaining"},
                ],
            },
            {
                "type": "vg",
                "id": "several",
                "volumes": [
                    {"type": "lv", "name": "big", "mount": "/", "images": ["big"], "size": "90%"},
                    {"type": "lv", "name": "srv", "mount": "/srv", "size": "32", "file_system": "ext4"},
                ],
            },
        ],
        "partitions_policy": "clean",
        "deploy_data": {"kernel_params": "console=ttyS0"},
    }
    request = MultibootRequest(description=multiboot.read(document), menu_timeout=1, serial=SerialConsole())
    result = multiboot.apply(multiboot.plan(request))
    settle()
    assert set(result.nodes) == {"disk 1 small", "several/big", "several/srv"}
    assert switching.verify(result.multiboot, [result.nodes["disk 1 small"], result.nodes["several/big"]]) == ()
    volumes.stop(volumes.observe([node_of(SEVERAL)]))


if __name__ == "__main__":
    deploy_several(sys.argv[1], sys.argv[2])
    for kind, (storage, root) in {"lvm": on_lvm(), "raid": on_mirror()}.items():
        deploy(storage, root, sys.argv[1], [node_of(serial) for serial in SERIALS[kind]])
