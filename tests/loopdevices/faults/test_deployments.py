"""Faults at the steps of a deployment: the disk boots the new system, the untouched old one, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from lab.imageserver import served
from tests.loopdevices.faults.conftest import Walk
from tests.support.faults.fault import Fault
from tests.support.faults.folders import SOURCE_FAULTS, SOURCES_GO
from tests.support.faults.kinds import DISK_FAULTS, MACHINE_FAULTS, OTHER_FAULTS, PROGRAM_FAULTS
from tests.support.faults.scenes import folder
from tests.support.faults.work import Work
from tests.support.faults.works import deployments
from tests.support.faults.works.onto_disks import OF_ONE_IMAGE

pytestmark = [pytest.mark.loopdevice, pytest.mark.timeout(7200)]

FAULTS = (*DISK_FAULTS, *SOURCE_FAULTS, SOURCES_GO, *MACHINE_FAULTS, *PROGRAM_FAULTS, *OTHER_FAULTS)

_SERVED = "http"
_QUICK = ("whole", "drive-iso")
"""Works that every fault is walked through whenever tests run."""
_NOW_AND_THEN = ("bios", "uefi", "whole-file", "partitioning", "drive-fat", "image")
_ALWAYS = 8
"""One of so many faults is walked through each of these; all others are for ``make faults``."""


def pairs() -> list[ParameterSet]:
    return [
        pytest.param(kind, fault, marks=marked(kind, 3 * row + column), id=f"{kind}-{fault.name}")
        for row, kind in enumerate((*OF_ONE_IMAGE, _SERVED))
        for column, fault in enumerate(FAULTS)
    ]


def marked(kind: str, place: int) -> tuple[pytest.MarkDecorator, ...]:
    is_always = kind in _QUICK or (kind in _NOW_AND_THEN and place % _ALWAYS == 0)
    return () if is_always else (pytest.mark.walk,)


@pytest.fixture(scope="module")
def make() -> Iterator[Callable[[str], Work]]:
    """Make each kind of work once, with what it needs."""
    made: dict[str, Work] = {}
    with ExitStack() as stack:

        def work(kind: str) -> Work:
            if kind not in made:
                made[kind] = begin(kind, stack.enter_context(folder()), stack)
            return made[kind]

        yield work


def begin(kind: str, where: Path, stack: ExitStack) -> Work:
    if kind == _SERVED:
        return deployments.by_http(where, stack.enter_context(served(where)))
    return OF_ONE_IMAGE[kind](where)


@pytest.mark.parametrize(("kind", "fault"), pairs())
def test_a_fault_at_any_step(make: Callable[[str], Work], kind: str, fault: Fault, walk: Walk) -> None:
    walk(make(kind), fault)
