"""Faults at the steps of making a boot ISO: under the name is what was there before, or all of the new one."""

from __future__ import annotations

import pytest

from tests.loopdevices.faults.conftest import Walk
from tests.support.faults import folders
from tests.support.faults.fault import Fault
from tests.support.faults.kinds import OTHER_FAULTS, PROGRAM_FAULTS
from tests.support.faults.work import Work
from tests.support.faults.works import bootisos

pytestmark = [pytest.mark.loopdevice, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Work]:
    """All of them: they share what they are made from."""
    return dict(bootisos.works(tmp_path_factory.mktemp("work")))


@pytest.mark.parametrize("fault", [*folders.ALL, *OTHER_FAULTS], ids=lambda fault: fault.name)
@pytest.mark.parametrize("name", ["boot ISO: patch and write", "boot ISO: patch and read"])
def test_a_fault_of_the_native_engine(works: dict[str, Work], name: str, fault: Fault, walk: Walk) -> None:
    walk(works[name], fault)


@pytest.mark.parametrize("fault", PROGRAM_FAULTS, ids=lambda fault: fault.name)
@pytest.mark.parametrize(
    "name", ["boot ISO: build", pytest.param("boot ISO: patch by xorriso", marks=pytest.mark.walk)]
)
def test_a_fault_of_a_program(works: dict[str, Work], name: str, fault: Fault, walk: Walk) -> None:
    walk(works[name], fault)


@pytest.mark.walk
@pytest.mark.parametrize("fault", [*folders.ALL, *OTHER_FAULTS], ids=lambda fault: fault.name)
@pytest.mark.parametrize("name", ["boot ISO: build", "boot ISO: patch by xorriso"])
def test_a_fault_around_programs(works: dict[str, Work], name: str, fault: Fault, walk: Walk) -> None:
    walk(works[name], fault)
