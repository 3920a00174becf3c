"""Fixtures for tests that only a whole kernel can run; what they found goes into the table of faults on the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.support.faults import table
from tests.support.faults.walking import Row
from tests.support.machinedisks import blank

Told = Callable[[Row], None]
_ROW = "row of the table of faults"
_configs: list[pytest.Config] = []


@pytest.fixture
def nvme() -> str:
    """A blank NVMe disk, whose partitions' names have a p."""
    return blank("nvme-512")


@pytest.fixture
def told(record_property: Callable[[str, object], None]) -> Told:
    """Put a row into the table of faults, if the host's pytest has one: the report takes it there."""
    return lambda row: record_property(_ROW, asdict(row))


def pytest_collection_modifyitems(config: pytest.Config) -> None:
    """Remember where the table is."""
    _configs[:] = [config]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write the rows of a test that passed."""
    file = _configs[0].getoption("--fault-table") if _configs else None
    if file is None or report.when != "call" or not report.passed:
        return
    for name, value in report.user_properties:
        if name == _ROW:
            assert isinstance(value, dict)
            outcomes = tuple((str(what), int(count)) for what, count in value.pop("outcomes"))
            table.record(Path(str(file)), Row(**value, outcomes=outcomes))
