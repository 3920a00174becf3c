"""Disks that udevd works on all the time: no node is lost and no probe tells what was there before."""

from __future__ import annotations

import pytest

from libironic_disk import filesystems, partitioner
from tests.loopdevices.test_udevd import busy, new_plan, wrong
from tests.support.udevd import settle

pytestmark = pytest.mark.inside


@pytest.mark.parametrize("rounds", [5, pytest.param(500, marks=[pytest.mark.full, pytest.mark.timeout(900)])])
def test_repartitioned_again_and_again_under_load(nvme: str, rounds: int) -> None:
    problems = []
    with busy(nvme) as (looks, events):
        for turn in range(rounds):
            plan = new_plan(nvme, turn)
            nodes = partitioner.apply(plan).nodes
            for part in plan.partitions:
                # At once, with udevd still at work: by udev where it is up to date, from the device elsewhere.
                for how in (filesystems.probe, filesystems.read):
                    found = how(nodes[part.number])
                    if found is None or found.uuid != part.filesystem_uuid:
                        problems.append(f"{turn}: {how.__name__} tells {found} of {nodes[part.number]}, not {part}")
            problems += [f"{turn}: {why}" for why in wrong(plan, nodes)]
        # Both had work all the time.
        assert min(len(looks.read_bytes()), len(events.read_bytes())) > rounds / 4
    settle()
    for part in plan.partitions:
        found = filesystems.probe(nodes[part.number])
        assert found is not None
        assert (found.kind, found.uuid) == (part.filesystem, part.filesystem_uuid)
    assert problems == []
