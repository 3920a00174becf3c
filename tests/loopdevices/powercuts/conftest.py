"""How often the power is cut, and the table that says what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.faults import table
from tests.support.faults.walking import Row
from tests.support.power_cuts import Run

Tell = Callable[[str, Run, Counter[str]], None]

_EVERY = 12


@pytest.fixture
def torn(request: pytest.FixtureRequest) -> int:
    """How often what lies between two flushes is torn; the moments between two writes are tried all the same."""
    steps = str(request.config.getoption("--fault-steps"))
    return _EVERY if steps == "every" else min(int(steps), _EVERY)


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Put what was seen into the table of faults, where there is one; the steps are the writes to the disk."""
    file = request.config.getoption("--fault-table")

    def told(work: str, run: Run, outcomes: Counter[str]) -> None:
        if file is None:
            return
        row = Row(
            work=work,
            fault="power cut",
            steps=len(run.log.changes),
            tried=outcomes.total(),
            outcomes=tuple((str(name), count) for name, count in sorted(outcomes.items())),
        )
        table.record(Path(str(file)), row)

    return told
