"""Faults at the steps of a deployment of several images, and of one of them anew."""

from __future__ import annotations

import pytest

from tests.loopdevices.faults.conftest import Walk
from tests.support.faults.fault import Fault
from tests.support.faults.kinds import COMMON_FAULTS, FOLDER_FAULTS
from tests.support.faults.work import Work
from tests.support.faults.works import multiimage

pytestmark = [pytest.mark.loopdevice, pytest.mark.timeout(3600)]

FAULTS = tuple(fault for fault in COMMON_FAULTS if fault not in FOLDER_FAULTS)
_ALWAYS = {"EIO of a write", "kill -9", "a program fails"}
"""What is walked whenever tests run."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(multiimage.several, id="several"),
        pytest.param(multiimage.one_anew, id="one anew", marks=pytest.mark.walk),
    ],
)
def work(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Each of the two, with what it needs."""
    made: Work = request.param(tmp_path_factory.mktemp("work"))
    return made


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, id=fault.name, marks=() if fault.name in _ALWAYS else (pytest.mark.walk,))
        for fault in FAULTS
    ],
)
def test_a_fault_at_any_step(work: Work, fault: Fault, walk: Walk) -> None:
    walk(work, fault)
