"""Of several disks that are held together, an error says the worst, in whichever order they are let go."""

from __future__ import annotations

from itertools import permutations

import pytest

from libironic_disk.errors import DeviceFailed, DiskState
from libironic_disk.machine.disks.outcome import Progress, labelled

WORSE_AND_WORSE = [
    DiskState.UNCHANGED,
    DiskState.FINISHED,
    DiskState.INCOMPLETE,
    DiskState.UNBOOTABLE,
    DiskState.UNKNOWN,
]


@pytest.mark.parametrize(("one", "other"), list(permutations(DiskState, 2)))
def test_the_worst_is_said(one: DiskState, other: DiskState) -> None:
    with pytest.raises(DeviceFailed) as caught, labelled(Progress(state=one)), labelled(Progress(state=other)):
        raise DeviceFailed(device="/dev/x", action="writing", reason="on purpose")
    assert caught.value.disk is max(one, other, key=WORSE_AND_WORSE.index)
