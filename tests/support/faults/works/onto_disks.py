"""The works of one image and of its parts, by short names: what is walked through faults, and through want of room."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from libironic_disk.pure.roles import Firmware
from tests.support.faults.work import Of
from tests.support.faults.works import deployments, parts, wholes

Make = Callable[[Path], Of]
"""Makes a work, of images that it makes in a folder."""

OF_ONE_IMAGE: Final[Mapping[str, Make]] = {
    "whole": wholes.raw_image,
    "whole-4096": partial(wholes.raw_image, sector_size=4096),
    "whole-file": wholes.onto_a_file,
    "whole-grows": wholes.growing_image,
    "bios": partial(deployments.partition_image, firmware=Firmware.BIOS),
    "uefi": partial(deployments.partition_image, firmware=Firmware.UEFI),
    "qemu-img": deployments.by_qemu_img,
    "iterator": deployments.by_iterator,
    "kept": deployments.beside_a_kept_volume,
    "partitioning": parts.partitioning,
    "drive-iso": parts.config_drive,
    "drive-fat": partial(parts.config_drive, sector_size=4096),
    "image": parts.image,
}
