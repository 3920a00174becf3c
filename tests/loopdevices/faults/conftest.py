"""How far a fault is walked: a few of its places, or with --fault-steps every one; and the table that it fills."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.faults import table, walking
from tests.support.faults.fault import Fault
from tests.support.faults.work import Work

Walk = Callable[[Work, Fault], None]


@pytest.fixture(scope="session")
def counts() -> walking.Counts:
    """What was counted already."""
    return walking.Counts()


@pytest.fixture
def walk(request: pytest.FixtureRequest, counts: walking.Counts) -> Walk:
    """Walk a fault through a work as far as was asked for, and put the row into the table if there is one."""
    steps = str(request.config.getoption("--fault-steps"))
    file = request.config.getoption("--fault-table")
    choose = walking.every if steps == "every" else walking.some(int(steps))

    def walked(work: Work, fault: Fault) -> None:
        if file is not None:
            # A walk that fails has no row: the old one would say that all is well.
            table.forget(Path(str(file)), work.name, fault.name)
        row = walking.walk(work, fault, choose, counts)
        if file is not None:
            table.record(Path(str(file)), row)

    return walked
