"""Faults at the steps of boot interfaces: a machine gets all of the old or all of the new, and all is taken back."""

from __future__ import annotations

import pytest

from tests.loopdevices.faults.conftest import Walk
from tests.support.faults import folders
from tests.support.faults.controllers import CONTROLLER_FAULTS
from tests.support.faults.fault import Fault
from tests.support.faults.kinds import PROGRAM_FAULTS
from tests.support.faults.meanwhile import AnotherProcess, AnotherThread
from tests.support.faults.work import Work
from tests.support.faults.works import media as media_works
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
    *(
        pytest.param(name, marks=pytest.mark.walk)
        for name in (
            "iPXE: prepare_ramdisk with another one",
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


BY_MEDIA = (
    "virtual media: prepare_instance, an ISO and a config drive",
    "virtual media: clean_up_instance",
    *(
        pytest.param(name, marks=pytest.mark.walk)
        for name in (
            "virtual media: prepare_ramdisk",
            "virtual media: clean_up_ramdisk",
            "virtual media: prepare_instance, one shot",
            "virtual media: prepare_instance, a RAM disk",
        )
    ),
)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Work:
    """A boot by virtual media."""
    folder = tmp_path_factory.mktemp("work")
    return media_works.work_of(folder, media_works.cases(folder)[request.param])


@pytest.mark.parametrize("media", BY_MEDIA, indirect=True)
@pytest.mark.parametrize("fault", CONTROLLER_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_of_a_controller(media: Work, fault: Fault, walk: Walk) -> None:
    walk(media, fault)


@pytest.mark.parametrize("media", BY_MEDIA, indirect=True)
@pytest.mark.parametrize("fault", folders.ALL, ids=lambda fault: fault.name)
def test_a_fault_around_a_controller(media: Work, fault: Fault, walk: Walk) -> None:
    walk(media, fault)


@pytest.mark.walk
@pytest.mark.parametrize("media", ["virtual media: prepare_instance, a RAM disk"], indirect=True)
@pytest.mark.parametrize("fault", PROGRAM_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_of_a_program_that_makes_a_medium(media: Work, fault: Fault, walk: Walk) -> None:
    walk(media, fault)
