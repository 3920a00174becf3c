"""A service's process after some tens of deployments holds what it held before; a thousand: make long-life."""

from __future__ import annotations

import mmap
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from libironic_disk.units import MIB
from tests.longlife.living import rounds, service
from tests.longlife.measuring import Figures, growth, measured

pytestmark = pytest.mark.loopdevice


def test_deployments_of_many_threads_leave_nothing_in_their_process() -> None:
    with service(3) as at:
        figures: list[Figures] = []
        endings: Counter[str] = Counter()
        for _, came, now in rounds(at, count=36):
            figures.append(now)
            endings = came
    assert endings.total() >= 36
    assert sum(not ended.endswith("done") for ended in endings) >= 4
    # So early, modules and programs are still used for the first time: only what is counted is compared.
    assert growth([replace(each, resident=0, allocated=0, objects=0) for each in figures]) == []
    # Another round of the same costs nothing but what is said of it.
    assert figures[-1].objects - figures[-4].objects < 200
    assert figures[-1].allocated - figures[-4].allocated < MIB


def test_what_grows_is_noticed(tmp_path: Path) -> None:
    before = measured(tmp_path, tmp_path)
    kept = mmap.mmap(-1, 40 * MIB)
    kept.write(b"x" * len(kept))
    objects = [[each] for each in range(3000)]
    with (tmp_path / "left").open("w"):
        after = measured(tmp_path, tmp_path)
    assert objects
    kept.close()
    found = " ".join(growth([before, before, before, after]))
    assert "descriptors" in found
    assert "files" in found
    steady = [replace(each, descriptors=0, files=0) for each in (before, before, before, after)]
    assert [each.split(":")[0] for each in growth(steady)] == ["resident", "objects"]
