"""Descriptions of several images: each is refused with the paths of its defects, or can be laid out on disks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from random import Random

from libironic_disk.errors import DescriptionInvalid
from libironic_disk.pure.multiboot.arranging import arrange
from libironic_disk.pure.multiboot.document import DISK_KEYS, IMAGE_KEYS, TOP_KEYS, VOLUME_KEYS, read
from libironic_disk.pure.roles import Firmware
from tests.fuzz.json_inputs import Json
from tests.unit.pure.multiboot.documents import of_the_specification, on_volumes

_PATH = re.compile(r"(the document|images|partitions|disks|deploy_data|partitions_policy)[^ ]*(, [^ ]+)*: ")
_KEYS = (*TOP_KEYS, *IMAGE_KEYS, *VOLUME_KEYS, *DISK_KEYS)


class _Descriptions(Json):
    words = (*Json.words, *(f'"{key}":'.encode() for key in _KEYS), b'"10 GiB"', b'"40%"', b'"vg"', b'"pv"')

    def seeds(self, random: Random) -> Iterator[bytes]:
        for make in (of_the_specification, on_volumes):
            document = make()
            yield json.dumps(document).encode()
            document["disks"] = document.pop("partitions")
            document["partitions_policy"] = "clean"
            document["deploy_data"] = {"kernel_params": "quiet"}
            yield json.dumps(document, indent=1).encode()

    def examine(self, data: bytes) -> str:
        try:
            described = read(data)
        except DescriptionInvalid as error:
            str(error).encode()
            assert error.problems
            assert all(_PATH.match(problem) for problem in error.problems), error.problems
            return "refused"
        assert described.images
        for firmwares in (frozenset(Firmware), frozenset({Firmware.BIOS}), frozenset({Firmware.UEFI})):
            arrange(described, firmwares=firmwares).storage.check()
        return f"{len(described.images)} images"


TARGET = _Descriptions()
