"""Faults at the steps of writing boot-info.json."""

from __future__ import annotations

import pytest

from tests.loopdevices.faults.conftest import Walk
from tests.support.faults.fault import Fault
from tests.support.faults.kinds import COMMON_FAULTS, FOLDER_FAULTS, MACHINE_FAULTS
from tests.support.faults.works import bootinfos

pytestmark = [pytest.mark.loopdevice, pytest.mark.timeout(600)]

FAULTS = (*FOLDER_FAULTS, *MACHINE_FAULTS[:2], *(fault for fault in COMMON_FAULTS if fault.name == "kill -9"))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_at_any_step(fault: Fault, walk: Walk) -> None:
    walk(bootinfos.written(), fault)
