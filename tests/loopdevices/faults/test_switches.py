"""Faults at the steps of each call of ``switching``: GRUB finds what was chosen before or what is chosen now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from _pytest.mark import ParameterSet

from tests.loopdevices.faults.conftest import Walk
from tests.support.faults.fault import Fault
from tests.support.faults.kinds import DISK_FAULTS, KILL_ANYWHERE, MACHINE_FAULTS, PROGRAM_FAULTS
from tests.support.faults.scenes import folder
from tests.support.faults.works import switches
from tests.support.faults.works.switches import Systems

pytestmark = [pytest.mark.loopdevice, pytest.mark.timeout(3600)]

FAULTS = (*DISK_FAULTS, *MACHINE_FAULTS, KILL_ANYWHERE)
_ALWAYS = 5
"""One of so many pairs of a call and a fault is walked whenever tests run: each call, and each fault, now and then."""


def pairs(calls: Sequence[str], faults: Sequence[Fault]) -> list[ParameterSet]:
    return [
        pytest.param(call, fault, marks=marked(2 * row + column), id=f"{call}-{fault.name}")
        for row, call in enumerate(calls)
        for column, fault in enumerate(faults)
    ]


def marked(place: int) -> tuple[pytest.MarkDecorator, ...]:
    return () if place % _ALWAYS == 0 else (pytest.mark.walk,)


@pytest.fixture(scope="module")
def systems() -> Iterator[Systems]:
    """Two systems and their multiboot partition, of which each try gets a copy."""
    with folder() as where, switches.systems(where) as made:
        yield made


@pytest.mark.parametrize(("call", "fault"), pairs(switches.CHANGES, FAULTS))
def test_a_choice_is_made_or_is_not(systems: Systems, call: str, fault: Fault, walk: Walk) -> None:
    walk(switches.change(systems, call), fault)


@pytest.mark.parametrize(("call", "fault"), pairs(switches.READERS, FAULTS))
def test_who_only_looks_writes_nothing(systems: Systems, call: str, fault: Fault, walk: Walk) -> None:
    walk(switches.read(systems, call), fault)


@pytest.mark.parametrize(("call", "fault"), pairs(("verify",), PROGRAM_FAULTS))
def test_a_program_that_verify_runs(systems: Systems, call: str, fault: Fault, walk: Walk) -> None:
    walk(switches.read(systems, call), fault)
