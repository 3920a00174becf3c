"""Faults at the steps of boot interfaces: a machine gets all of the old or all of the new, and all is taken back."""

from __future__ import annotations

import pytest

from tests.loopdevices.faults.conftest import Walk
from tests.support.faults import folders
from tests.support.faults.kinds import PROGRAM_FAULTS, Fault
from tests.support.faults.meanwhile import AnotherProcess, AnotherThread
from tests.support.faults.work import Work
from tests.support.faults.works import netboots

pytestmark = [pytest.mark.loopdevice, pytest.mark.timeout(3600)]

RIVALS: tuple[Fault, ...] = tuple(
    kind(name=f"{what}, by another {by}", rival=rival)
    for what, rival in (
        ("another machine with the same card", netboots.rival_machine),
        ("the same call for the same machine", netboots.rival_call),
    )
    for kind, by in ((AnotherProcess, "process"), (AnotherThread, "thread"))
)
BY_NETWORK = (
    "PXE: prepare_ramdisk",
    "PXE: clean_up_ramdisk",
    "iPXE: prepare_ramdisk with another one",
    *(
        pytest.param(name, marks=pytest.mark.walk)
        for name in (
            "PXE: prepare_instance",
            "PXE: prepare_instance without a network",
            "PXE: clean_up_instance",
            "iPXE: clean_up_ramdisk",
        )
    ),
)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Work:
    """A boot by the network."""
    folder = tmp_path_factory.mktemp("work")
    return netboots.work_of(folder, netboots.cases(folder)[request.param])


@pytest.mark.parametrize("network", BY_NETWORK, indirect=True)
@pytest.mark.parametrize("fault", [*folders.ALL, *RIVALS], ids=lambda fault: fault.name)
def test_a_fault_at_any_step_of_a_network_boot(network: Work, fault: Fault, walk: Walk) -> None:
    walk(network, fault)


@pytest.mark.parametrize("network", ["HTTP by GRUB: prepare_ramdisk"], indirect=True)
@pytest.mark.parametrize("fault", PROGRAM_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_of_a_program_that_makes_a_loader(network: Work, fault: Fault, walk: Walk) -> None:
    walk(network, fault)
