"""Faults at the steps of a deployment: the disk boots the new system, the untouched old one, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from libironic_disk.pure.roles import Firmware
from tests.loopdevices.faults.conftest import Walk
from tests.support.faults.kinds import DISK_FAULTS, OTHER_FAULTS, PROGRAM_FAULTS, Fault
from tests.support.faults.work import Work
from tests.support.faults.works import deployments

pytestmark = [pytest.mark.loopdevice, pytest.mark.timeout(3600)]

FAULTS = (*DISK_FAULTS, *PROGRAM_FAULTS, *OTHER_FAULTS)


def make(kind: str, folder: Path) -> Work:
    if kind == "whole":
        return deployments.whole_disk_image(folder)
    return deployments.partition_image(folder, Firmware(kind))


@pytest.fixture(scope="module", params=["whole"])
def work(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Each kind of deployment, with what it needs."""
    return make(request.param, tmp_path_factory.mktemp("work"))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_at_any_step(work: Work, fault: Fault, walk: Walk) -> None:
    walk(work, fault)
