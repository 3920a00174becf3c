"""Disks that fail: at some places, at any moment, or when they are full. What boots afterwards is whole, or is nothing.

Each failure is the kernel's own, also where it comes late: when pages that were written long ago reach the disk, or at
the end of a mount.
"""

from __future__ import annotations

import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from libironic_disk import deploy
from libironic_disk.errors import DeviceFailed, DiskError, DiskState, NotABlockDevice
from libironic_disk.events import Phase
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.machines.inside.conftest import Told
from tests.support import faultydisks, goingdisks, oracles
from tests.support.faults.walking import Row
from tests.support.faultydisk_walks import (
    SIZE,
    Deployment,
    Ended,
    at_event,
    deployed,
    deployments,
    old_disk,
    places_of,
    walked,
    when,
    when_planned,
)
from tests.support.faultydisks import Fault, FaultyDisk, Place
from tests.support.goingdisks import GoingDisk

pytestmark = [pytest.mark.inside, pytest.mark.timeout(300)]


FULL = pytest.mark.full
STEPS = [1, pytest.param(30, marks=[pytest.mark.walk, pytest.mark.timeout(1800)])]
# Of each deployment here; the last ones come after the commit.
MOST_EVENTS = 16


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Deployment]:
    return dict(deployments(tmp_path_factory.mktemp("works")))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return old_disk(tmp_path_factory.mktemp("old"))


@pytest.fixture
def disk(bench: Bench, old: Path) -> Iterator[FaultyDisk]:
    """A disk that boots something, and that can be broken."""
    with faultydisks.faulty(bench, SIZE) as found:
        found.fill(old)
        yield found


Places = Callable[[str], list[tuple[int, int]]]


@pytest.fixture(scope="module")
def known() -> dict[str, list[tuple[int, int]]]:
    """The places that were found already."""
    return {}


@pytest.fixture
def places(
    bench: Bench, disk: FaultyDisk, works: dict[str, Deployment], known: dict[str, list[tuple[int, int]]]
) -> Places:
    """Where a deployment writes, in the order in which it does."""

    def found(name: str) -> list[tuple[int, int]]:
        if name not in known:
            known[name] = places_of(bench, works[name], disk)
        return known[name]

    return found


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", ["uefi", pytest.param("bios", marks=FULL), pytest.param("whole", marks=FULL)])
def test_a_place_of_the_disk_is_bad(
    disk: FaultyDisk, old: Path, works: dict[str, Deployment], places: Places, name: str, steps: int, told: Told
) -> None:
    work, written = works[name], places(name)
    chosen = random.Random(steps).sample(written, min(steps, len(written)))

    def attempt(step: int) -> Ended:
        start, end = chosen[step]
        bad = [Place(start=start, end=end, fault=Fault.DEAD)]
        # What planning reads it would find bad, and nothing would be to be seen then.
        ended = deployed(work, disk, sink=when_planned(lambda: disk.break_at(bad)), is_lasting=True)
        assert disk.is_broken, "it wasn't put in"
        return ended

    told(Row.of(work.name, "a place of the disk is bad", len(written), walked(disk, old, work, len(chosen), attempt)))


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", [pytest.param("uefi", marks=FULL), pytest.param("bios", marks=FULL), "whole"])
def test_the_disk_dies(
    disk: FaultyDisk, old: Path, works: dict[str, Deployment], places: Places, name: str, steps: int, told: Told
) -> None:
    work, count = works[name], len(places(name))
    draw = random.Random(steps)

    def attempt(step: int) -> Ended:
        with disk.dying_after(draw.randrange(1, count)):
            return deployed(work, disk, is_lasting=True)

    told(Row.of(work.name, "the disk dies", count, walked(disk, old, work, steps, attempt)))


@pytest.fixture
def going(bench: Bench, old: Path) -> Iterator[GoingDisk]:
    """A disk that boots something, and that can be taken out."""
    with goingdisks.going(bench, SIZE) as found:
        found.fill(old)
        yield found


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", [pytest.param("uefi", marks=FULL), "bios", pytest.param("whole", marks=FULL)])
def test_the_disk_is_taken_out(
    going: GoingDisk, old: Path, works: dict[str, Deployment], name: str, steps: int, told: Told
) -> None:
    work, events = works[name], MOST_EVENTS
    outcomes: Counter[str] = Counter()
    for step in range(steps):
        number = events * (2 * step + 1) // (2 * steps)
        ended = deployed(work, going, sink=at_event(number, going.go), is_lasting=True)
        outcomes[ended.outcome] += 1
        going.come_back()
        assert deployed(work, going).outcome == "done"
        going.fill(old)
    told(Row.of(work.name, "the disk is taken out", events, outcomes))


def test_a_disk_that_goes_between_plan_and_apply_is_missed(going: GoingDisk, works: dict[str, Deployment]) -> None:
    for name in ("uefi", "whole"):
        plan = deploy.plan(works[name].on(going.node))
        going.go()
        with pytest.raises(DiskError, match=going.node) as gone:
            deploy.apply(plan)
        assert gone.value.disk is DiskState.UNCHANGED
        with pytest.raises(NotABlockDevice, match=going.node) as missing:
            deploy.plan(works[name].on(going.node))
        assert missing.value.disk is DiskState.UNCHANGED
        going.come_back()
    # It is the same, by its serial number.
    deploy.apply(plan)
    with going.really() as found:
        oracles.check_gpt(found.node)


def test_a_disk_that_dies_before_the_lock_is_back_says_why_nobody_knows_its_state(
    disk: FaultyDisk, works: dict[str, Deployment]
) -> None:
    ended = deployed(works["bios"], disk, sink=when(Phase.WIPE, disk.kill), is_lasting=True)
    assert isinstance(ended.error, DeviceFailed)
    assert ended.error.disk is DiskState.UNKNOWN
    assert "was wiped, and is not written any more" in str(ended.error)


def test_a_disk_that_cannot_be_flushed_is_refused_and_let_go_of(disk: FaultyDisk, works: dict[str, Deployment]) -> None:
    disk.break_at([Place(start=SIZE - 4096, end=SIZE, fault=Fault.NO_WRITE)])
    for name in ("uefi", "whole"):
        ended = deployed(works[name], disk)
        assert isinstance(ended.error, DeviceFailed)
        assert ended.error.disk is DiskState.UNCHANGED
        assert ended.error.action == "flushing"


def test_what_somebody_else_could_not_write_is_no_error_of_ours(disk: FaultyDisk, works: dict[str, Deployment]) -> None:
    """The kernel tells it to whoever flushes next, and by then the disk may be well again."""
    disk.break_at([Place(start=MIB, end=2 * MIB, fault=Fault.DEAD)])
    with Path(disk.node).open("r+b", buffering=0) as node:
        node.seek(MIB)
        node.write(bytes(4096))
        subprocess.run(["sync"], check=True)
        disk.mend()
    assert deployed(works["whole"], disk).outcome == "done"
