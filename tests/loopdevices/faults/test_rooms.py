"""Disks that have less room than they promise: the errors are the kernel's own, wherever they come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.loopdevices.faults.conftest import Walk
from tests.support.faults.rooms import NONE_FOR_DATA, NONE_FOR_ZEROS, TooLittleRoom
from tests.support.faults.scenes import folder, with_a_medium
from tests.support.faults.works import multiimage
from tests.support.faults.works.onto_disks import OF_ONE_IMAGE, Make

pytestmark = [pytest.mark.loopdevice, pytest.mark.timeout(7200)]

WORKS: dict[str, Make] = {
    **{name: make for name, make in OF_ONE_IMAGE.items() if name != "iterator"},
    "several": multiimage.several,
    "anew": multiimage.one_anew,
}
_GROWING = ("bios", "uefi", "qemu-img", "partitioning", "several")
"""Works that wipe the disk, and then need more of it than was in use before."""
_ALWAYS = (
    ("whole", NONE_FOR_ZEROS),
    ("bios", NONE_FOR_DATA),
    ("several", NONE_FOR_DATA),
    ("drive-iso", NONE_FOR_ZEROS),
)
"""What is walked whenever tests run."""


def pairs() -> list[ParameterSet]:
    found = [*((name, NONE_FOR_ZEROS) for name in WORKS), *((name, NONE_FOR_DATA) for name in _GROWING)]
    return [
        pytest.param(WORKS[name], fault, id=f"{name}-{fault.name}", marks=() if pair in _ALWAYS else pytest.mark.walk)
        for pair in found
        for name, fault in (pair,)
    ]


@pytest.fixture
def where() -> Iterator[Path]:
    with folder() as made:
        yield made


@pytest.mark.parametrize(("make", "fault"), pairs())
def test_a_disk_without_the_room_that_it_promised(make: Make, fault: TooLittleRoom, where: Path, walk: Walk) -> None:
    walk(with_a_medium(make(where)), fault)
