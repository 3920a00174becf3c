"""Two want one disk at the same moment: one has it, or one after the other, and the other is told whose it is."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from libironic_disk import configdrive, switching
from libironic_disk.errors import DiskState
from libironic_disk.events import BytesMoved, Cancellation, Event, Phase, PhaseFinished, PhaseStarted
from libironic_disk.multiboot import MultibootPlan
from libironic_disk.pure.roles import Role
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support import deployments, wholedisks
from tests.support.deployments import Deployment, Kind, Planned
from tests.support.disks import LoopDisk
from tests.support.faults import table
from tests.support.faults.walking import Row
from tests.support.leaks import leaving_nothing
from tests.support.rivals import DONE, Outcome, outcome_of, rival

pytestmark = pytest.mark.loopdevice

LONG, SHORT = 60.0, 0.02
"""Seconds for which the lock is waited for: longer and shorter than any of these deployments takes."""

NAME = "rival"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Kind, Path]:
    """An image for each kind of deployment."""
    folder = tmp_path_factory.mktemp("images")
    system = deployments.system_image(folder / "system", NAME)
    whole = wholedisks.make_disk(folder / "whole", 24 * MIB, seed=8)
    return {Kind.PARTITION_IMAGE: system, Kind.WHOLE_DISK: whole, Kind.TABLE: system, Kind.SYSTEMS: system}


WORKS = {
    Kind.PARTITION_IMAGE: "deploy a partition image, uefi",
    Kind.WHOLE_DISK: "deploy a whole-disk image",
    Kind.TABLE: "partitioner.apply",
    Kind.SYSTEMS: "deploy several systems",
}

Tally = Callable[[Kind, str, str], None]


@pytest.fixture(scope="module")
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Count what became of works and faults; at the end it goes into the table of faults, if there is one."""
    counted: dict[tuple[str, str], Counter[str]] = {}

    def count(kind: Kind, fault: str, outcome: str) -> None:
        counted.setdefault((WORKS[kind], fault), Counter())[outcome] += 1

    yield count
    file = request.config.getoption("--fault-table")
    for (work, fault), outcomes in counted.items() if file else ():
        total = outcomes.total()
        row = Row(work=work, fault=fault, steps=total, tried=total, outcomes=tuple(outcomes.most_common()))
        table.record(Path(str(file)), row)


@pytest.fixture
def disk(bench: Bench) -> LoopDisk:
    """A disk for each of them."""
    return bench.disk(deployments.DISK_SIZE, 512)


@pytest.fixture(autouse=True)
def _nothing_leaks(disk: LoopDisk, tmp_path: Path) -> Iterator[None]:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with leaving_nothing(disk.file.parent, temporary=temporary):
        yield


def wanted(kind: Kind, disk: LoopDisk, images: Mapping[Kind, Path], seed: str) -> Deployment:
    return Deployment(kind=kind, device=disk.node, image=images[kind], seed=seed)


def judge(planned: Planned, kind: Kind, disk: LoopDisk, images: Mapping[Kind, Path]) -> None:
    deployments.judge(planned, disk, images[kind], NAME)


def applied(plan: Planned, *, cancel: Cancellation | None = None, lock_timeout: float = LONG) -> Outcome:
    return outcome_of(lambda: deployments.apply(plan, cancel=cancel, lock_timeout=lock_timeout))


def in_threads(*plans: Planned, lock_timeout: float) -> list[Outcome]:
    start = threading.Barrier(len(plans))
    ended: list[Outcome] = [Outcome(name="") for _ in plans]

    def work(at: int) -> None:
        start.wait(20)
        ended[at] = applied(plans[at], lock_timeout=lock_timeout)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(len(plans))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


def in_processes(*rivals: Deployment, lock_timeout: float) -> list[Outcome]:
    first, second = rivals
    with rival(first, lock_timeout=lock_timeout) as one, rival(second, lock_timeout=lock_timeout) as other:
        one.go()
        other.go()
        return [one.outcome(), other.outcome()]


WAYS = [("threads", LONG), ("processes", SHORT), ("threads", SHORT), ("processes", LONG)]
PAIRS = [*combinations_with_replacement(Kind, 2)]


@pytest.mark.parametrize(
    ("first", "second", "where", "lock_timeout"),
    [
        *((*pair, *WAYS[at % len(WAYS)]) for at, pair in enumerate(PAIRS)),
        *((Kind.PARTITION_IMAGE, Kind.PARTITION_IMAGE, *way) for way in WAYS[1:]),
    ],
)
def test_of_two_at_the_same_moment_one_has_the_disk(
    disk: LoopDisk,
    images: Mapping[Kind, Path],
    first: Kind,
    second: Kind,
    where: str,
    lock_timeout: float,
    tally: Tally,
) -> None:
    rivals = [wanted(first, disk, images, "first"), wanted(second, disk, images, "second")]
    plans = [each.plan() for each in rivals]
    if where == "threads":
        ended = in_threads(*plans, lock_timeout=lock_timeout)
    else:
        ended = in_processes(*rivals, lock_timeout=lock_timeout)
    assert sorted(each.name == DONE for each in ended) == [False, True], ended
    (winner, loser) = sorted((0, 1), key=lambda at: ended[at].name != DONE)
    lost = ended[loser]
    # Who is quick enough may come when all is over, even with little patience.
    assert lost.name in ({"PlanOutdated"} if lock_timeout == LONG else {"PlanOutdated", "DeviceLocked"}), lost
    assert (lost.disk, lost.device) == (DiskState.UNCHANGED, disk.node)
    assert disk.node in lost.text
    judge(plans[winner], rivals[winner].kind, disk, images)
    place = "thread" if where == "threads" else "process"
    tally(first, f"another deployment at the same moment, in another {place}", f"one: new; the other: {lost.name}")


def is_new(event: Event, seen: set[str]) -> bool:
    """Whether an event is the first of its kind: of the bytes that move, the first ones alone."""
    detail = "" if isinstance(event, BytesMoved) else event.phase
    key = f"{type(event).__name__} {detail}"
    return key not in seen and not seen.add(key)  # type: ignore[func-returns-value]


@pytest.mark.parametrize("kind", list(Kind))
def test_at_every_event_of_one_every_other_is_told_that_the_disk_is_locked(
    disk: LoopDisk, images: Mapping[Kind, Path], kind: Kind, tally: Tally
) -> None:
    others = {other: wanted(other, disk, images, f"other {other}").plan() for other in Kind}
    first = wanted(kind, disk, images, "first").plan()
    seen: set[str] = set()
    ended: dict[str, Outcome] = {}

    def sink(event: Event) -> None:
        if not is_new(event, seen):
            return
        for other, plan in others.items():
            ended[f"{other} at {event}"] = applied(plan, lock_timeout=0)

    deployments.apply(first, sink=sink)
    assert len(ended) > 20
    for when, other in ended.items():
        assert (other.name, other.disk, other.device) == ("DeviceLocked", DiskState.UNCHANGED, disk.node), when
        assert "pytest" in other.text or "python" in other.text, other.text
    judge(first, kind, disk, images)
    for each in ended.values():
        tally(kind, "another deployment at an event", f"one: new; the other: {each.name}")


@pytest.mark.parametrize("kind", list(Kind))
def test_a_plan_that_was_made_at_any_event_of_another_is_outdated_after_it(
    disk: LoopDisk, images: Mapping[Kind, Path], kind: Kind
) -> None:
    deployments.apply(wanted(Kind.TABLE, disk, images, "before").plan())
    first = wanted(kind, disk, images, "first").plan()
    seen: set[str] = set()
    early: dict[str, Planned] = {}
    late: dict[str, Planned] = {}

    def sink(event: Event) -> None:
        committed = isinstance(event, PhaseFinished) and event.phase is Phase.COMMIT
        if is_new(event, seen):
            plans = late if committed or late else early
            plans[str(event)] = wanted(Kind.TABLE, disk, images, str(event)).plan()

    deployments.apply(first, sink=sink)
    before = disk.digest()
    assert len(early) >= 6
    for when, plan in early.items():
        ended = applied(plan)
        assert (ended.name, ended.disk) == ("PlanOutdated", DiskState.UNCHANGED), when
    assert disk.digest() == before
    # Made behind the commit it is of the disk as it stays.
    first_late, *_ = late.values()
    deployments.apply(first_late)
    judge(first_late, Kind.TABLE, disk, images)


@pytest.mark.parametrize("phase", [Phase.CHECK, Phase.WIPE, Phase.IMAGE, Phase.BOOT_LOADER, Phase.COMMIT])
def test_who_is_killed_with_the_lock_leaves_the_disk_to_who_waits(
    disk: LoopDisk, images: Mapping[Kind, Path], phase: Phase, tally: Tally
) -> None:
    """kill -9 takes its programs, mounts and lock away; what is on the disk then does not boot."""
    deployments.apply(wanted(Kind.PARTITION_IMAGE, disk, images, "before").plan())
    holder = wanted(Kind.PARTITION_IMAGE, disk, images, "holder")
    waiting = wanted(Kind.SYSTEMS, disk, images, "waiting")
    plan = waiting.plan()
    with rival(holder, lock_timeout=LONG, pause_at=phase) as other:
        other.go()
        other.wait_for(f"phase {phase}")
        killer = threading.Timer(0.2, other.kill)
        killer.start()
        ended = applied(plan)
        killer.join()
    # Up to the first write it is still the disk that both have planned for.
    if phase in {Phase.CHECK, Phase.WIPE}:
        assert ended.name == DONE, ended
    else:
        assert (ended.name, ended.disk, ended.device) == ("PlanOutdated", DiskState.UNCHANGED, disk.node)
        assert wholedisks.opinions(disk.file, sector_size=512) == set()
        plan = waiting.plan()
        deployments.apply(plan)
    judge(plan, Kind.SYSTEMS, disk, images)
    left = "old" if ended.name == DONE else "nothing"
    tally(Kind.PARTITION_IMAGE, "kill -9 while another deployment waits", f"one: {left}; the other: {ended.name}")


@pytest.mark.parametrize("how", ["killed", "cancelled", "out of time"])
def test_who_leaves_while_waiting_disturbs_nobody(
    disk: LoopDisk, images: Mapping[Kind, Path], how: str, tally: Tally
) -> None:
    holder = wanted(Kind.PARTITION_IMAGE, disk, images, "holder")
    waiting = wanted(Kind.WHOLE_DISK, disk, images, "waiting")
    plans = [holder.plan(), waiting.plan()]
    switch = Cancellation()
    with rival(waiting, lock_timeout=LONG) as process:

        def sink(event: Event) -> None:
            if not isinstance(event, PhaseStarted) or event.phase is not Phase.IMAGE:
                return
            if how == "killed":
                process.go()
                process.wait_for("begun")
                process.kill()
                return
            began = time.monotonic()
            if how == "cancelled":
                threading.Timer(0.2, switch.cancel).start()
            timeout = LONG if how == "cancelled" else 0.2
            ended = applied(plans[1], cancel=switch, lock_timeout=timeout)
            assert ended.name == ("Cancelled" if how == "cancelled" else "DeviceLocked"), ended
            assert ended.disk == DiskState.UNCHANGED
            assert 0.2 <= time.monotonic() - began < 20

        deployments.apply(plans[0], sink=sink)
    judge(plans[0], holder.kind, disk, images)
    tally(holder.kind, f"another deployment waits, and is {how}", "one: new")


def switched(disk: LoopDisk, plan: Planned) -> str:
    """Return the node of the multiboot partition."""
    assert isinstance(plan, MultibootPlan)
    part = plan.storage.disks[0].partition(Role.MULTIBOOT)
    assert part is not None
    return f"{disk.node}p{part.number}"


def test_nobody_reaches_into_a_partition_of_a_disk_that_is_being_deployed(
    disk: LoopDisk, images: Mapping[Kind, Path], tally: Tally
) -> None:
    """Who only looked at the switch would have a new partition mounted when its file system is made."""
    before = wanted(Kind.SYSTEMS, disk, images, "before").plan()
    deployments.apply(before)
    node = switched(disk, before)
    drive = configdrive.load({"meta_data": {"uuid": "f0f0"}})
    calls: dict[str, Callable[[], object]] = {
        "set_default": lambda: switching.set_default(node, "two", lock_timeout=0),
        "boot_once": lambda: switching.boot_once(node, "two", lock_timeout=0),
        "get_state": lambda: switching.get_state(node, lock_timeout=0),
        "list_entries": lambda: switching.list_entries(node, lock_timeout=0),
        "refresh": lambda: switching.refresh(node, [], lock_timeout=0),
        "verify": lambda: switching.verify(node, [], lock_timeout=0),
        # Any partition will do: to the library it is one that may be another in a moment.
        "place": lambda: configdrive.place(drive, node, capacity=drive.size, lock_timeout=0),
    }
    seen: set[str] = set()
    ended: dict[str, Outcome] = {}

    def sink(event: Event) -> None:
        if is_new(event, seen):
            ended.update({f"{name} at {event}": outcome_of(call) for name, call in calls.items()})

    after = wanted(Kind.SYSTEMS, disk, images, "after").plan()
    deployments.apply(after, sink=sink)
    assert len(ended) > 40
    # Between the old partitions and the new ones there is no such node, and so nobody who could say whose it is.
    assert {(each.name, each.device) for each in ended.values()} == {
        ("DeviceLocked", disk.node),
        ("NotABlockDevice", node),
    }
    judge(after, Kind.SYSTEMS, disk, images)
    for each in ended.values():
        tally(
            Kind.SYSTEMS,
            "a switch is looked at or thrown, or a config drive placed, at an event",
            f"one: new; the other: {each.name}",
        )


@pytest.mark.parametrize("kind", [Kind.WHOLE_DISK, Kind.SYSTEMS])
def test_a_deployment_waits_for_who_throws_a_switch_or_places_a_drive(
    disk: LoopDisk, images: Mapping[Kind, Path], kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = wanted(Kind.SYSTEMS, disk, images, "before").plan()
    deployments.apply(before)
    node = switched(disk, before)
    plan = wanted(kind, disk, images, "after").plan()
    drive = configdrive.load({"meta_data": {"uuid": "f0f0"}})
    ended: list[Outcome] = []
    threads: list[threading.Thread] = []
    write = os.pwrite

    def meanwhile(*arguments: object) -> int:
        # In the middle of the write: one has no time, one has.
        monkeypatch.undo()
        ended.append(applied(plan, lock_timeout=0))
        threads.append(threading.Thread(target=lambda: ended.append(applied(plan))))
        threads[0].start()
        time.sleep(0.2)
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "pwrite", meanwhile)
    if kind is Kind.SYSTEMS:
        switching.set_default(node, "two")
    else:
        configdrive.place(drive, node, capacity=drive.size)
    threads[0].join()
    assert [each.name for each in ended] == ["DeviceLocked", DONE if kind is Kind.SYSTEMS else "PlanOutdated"]
    if kind is Kind.SYSTEMS:
        judge(plan, kind, disk, images)
