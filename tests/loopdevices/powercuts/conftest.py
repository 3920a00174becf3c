"""How often the power is cut, and the table that says what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from tests.support.power_cuts import Run, tell_power_cuts

Tell = Callable[[str, Run, Counter[str]], None]

_EVERY = 12


def cuts(config: pytest.Config) -> int:
    """Return how often what lies between two flushes is torn."""
    steps = str(config.getoption("--fault-steps"))
    return _EVERY if steps == "every" else min(int(steps), _EVERY)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give a test more time where it is to make more cuts."""
    usual = item.get_closest_marker("timeout")
    if usual is not None:
        item.add_marker(pytest.mark.timeout(usual.args[0] * cuts(item.config)), append=False)


@pytest.fixture
def torn(request: pytest.FixtureRequest) -> int:
    """How often what lies between two flushes is torn; the moments between two writes are tried all the same."""
    return cuts(request.config)


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Put what was seen into the table of faults, where there is one; the steps are the writes to the disk."""
    return partial(tell_power_cuts, request.config)
