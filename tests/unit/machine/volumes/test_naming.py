"""What ``/dev`` has under the names of groups."""

from __future__ import annotations

import pytest

from libironic_disk.errors import LayoutInvalid
from libironic_disk.machine.volumes import naming
from libironic_disk.pure.volumes.planning import PlannedGroup
from libironic_disk.units import MIB


def group(name: str) -> PlannedGroup:
    return PlannedGroup(name=name, extent_size=4 * MIB, members=(), arrays=(), size=0, volumes=())


def test_every_name_that_dev_has_is_refused_at_once() -> None:
    with pytest.raises(LayoutInvalid) as refused:
        naming.check_names([group("null"), group("vg-of-nobody"), group("pts")], ())
    assert [problem.split(":")[0] for problem in refused.value.problems] == [
        "a volume group can't be named 'null'",
        "a volume group can't be named 'pts'",
    ]
