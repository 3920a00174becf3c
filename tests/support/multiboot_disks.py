"""Disks with several small systems, deployed by the library."""

from __future__ import annotations

from pathlib import Path

from lab import smallsystem
from libironic_disk import multiboot
from libironic_disk.grub import SerialConsole
from libironic_disk.multiboot import MultibootRequest, MultibootResult
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.disks.sizes import mib
from libironic_disk.pure.multiboot.description import Disk, DiskIdKind, Image, MultiImage, Volume
from libironic_disk.units import MIB


def description(folder: Path) -> MultiImage:
    """Make the images of two small systems and a third without a kernel, and describe a disk with them."""
    images = []
    for number, name in enumerate(("one", "two", "tools")):
        path = smallsystem.build(folder / f"{name}.img", name, kernel=name != "tools", size=64 * MIB)
        images.append(
            Image(
                name=name,
                pull_url=f"file://{path}",
                boot=not number,
                image_name=f"small-{name}",
                image_uuid=f"2a86b00d-cfa4-49d9-a008-13c7940ed02{number}",
            )
        )
    volumes = [
        Volume(name=f"root-{image.name}", size=mib(80), mount="/", images=(image.name,), filesystem=FileSystem.EXT4)
        for image in images
    ]
    shared = Volume(name="srv", size=mib(16), mount="/srv", images=("one", "two"), filesystem=FileSystem.EXT4)
    return MultiImage(
        images=tuple(images),
        disks=(Disk(id_kind=DiskIdKind.NAME, id_value="vda", partitions=(*volumes, shared)),),
        default="one",
        kernel_parameters=KernelParameters.parse("console=ttyS0 quiet"),
    )


def deployed(disk: Path, described: MultiImage) -> MultibootResult:
    """Deploy a description of one disk onto a plain file."""
    with disk.open("wb") as file:
        file.truncate(520 * MIB)
    request = MultibootRequest(
        description=described,
        devices=(str(disk),),
        file_sector_size=512,
        menu_timeout=1,
        serial=SerialConsole(),
        seed=b"multiboot",
    )
    return multiboot.apply(multiboot.plan(request))
