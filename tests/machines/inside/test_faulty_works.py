"""Disks that fail under several images, under a config drive, with large sectors, and without telling anybody."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from libironic_disk import deploy
from libironic_disk.errors import DeviceFailed, DiskState
from libironic_disk.events import Cancellation, EventSink
from libironic_disk.images import ImageType
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.roles import Role
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.machines.inside.conftest import Told
from tests.support import faultydisk_works, faultydisks
from tests.support.faults.walking import Row
from tests.support.faultydisk_walks import (
    Deployment,
    Ended,
    Watch,
    Work,
    at_event,
    called,
    deployed,
    deployments,
    old_disk,
    places_of,
    walked,
    when_planned,
)
from tests.support.faultydisks import Fault, FaultyDisk, Place
from tests.support.machinedisks import NOTHING_STARTS_BY_ITSELF, lvm_configured

pytestmark = [pytest.mark.inside, pytest.mark.timeout(300)]

FULL = pytest.mark.full
STEPS = [1, pytest.param(20, marks=[pytest.mark.walk, pytest.mark.timeout(3600)])]
# Of the deployment of two images.
MOST_EVENTS = 20
# A number is the size of the disk's sectors. No BIOS boots from larger ones.
NAMES = ("several", "volumes", "drive", "drive-4096", "whole-4096", "uefi-4096")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A call, and what is on the disk when it begins."""

    work: Work
    old: Path
    sector_size: int


Making = Callable[[str], Scene]
Placing = Callable[[str], list[tuple[int, int]]]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Making:
    """Make each scene once."""
    made: dict[str, Scene] = {}

    def of(name: str) -> Scene:
        if name not in made:
            made[name] = scene_of(name, tmp_path_factory.mktemp("work"))
        return made[name]

    return of


def scene_of(name: str, folder: Path) -> Scene:
    kind, _, sectors = name.partition("-")
    sector_size = int(sectors or 512)
    match kind:
        case "several":
            old = old_disk(folder, size=faultydisk_works.SEVERAL_SIZE)
            return Scene(work=faultydisk_works.several(folder), old=old, sector_size=sector_size)
        case "volumes":
            old = old_disk(folder, size=faultydisk_works.SEVERAL_SIZE)
            return Scene(work=faultydisk_works.on_volumes(folder), old=old, sector_size=sector_size)
        case "drive":
            placing = faultydisk_works.placing(sector_size=sector_size)
            old = faultydisk_works.partition(folder, placing.before)
            return Scene(work=placing, old=old, sector_size=sector_size)
        case _:
            old = old_disk(folder, sector_size=sector_size)
            work = deployments(folder, sector_size=sector_size)[kind]
            return Scene(work=work, old=old, sector_size=sector_size)


@pytest.fixture(autouse=True)
def _lvm() -> Iterator[None]:
    with lvm_configured(NOTHING_STARTS_BY_ITSELF):
        yield


@pytest.fixture
def scene(scenes: Making, name: str) -> Scene:
    return scenes(name)


@pytest.fixture
def disk(bench: Bench, scene: Scene) -> Iterator[FaultyDisk]:
    """A disk with what was there before, and that can be broken."""
    with faultydisks.faulty(bench, scene.old.stat().st_size, sector_size=scene.sector_size) as found:
        found.fill(scene.old)
        yield found


@pytest.fixture(scope="module")
def known() -> dict[str, list[tuple[int, int]]]:
    """The places that were found already."""
    return {}


@pytest.fixture
def places(
    bench: Bench, disk: FaultyDisk, scene: Scene, known: dict[str, list[tuple[int, int]]]
) -> list[tuple[int, int]]:
    """Where the call writes, in the order in which it does."""
    name = scene.work.name
    if name not in known:
        known[name] = places_of(bench, scene.work, disk)
        disk.fill(scene.old)
    return known[name]


def names(*always: str) -> list[ParameterSet]:
    return [pytest.param(name, marks=() if name in always else FULL) for name in NAMES]


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", names("drive-4096", "whole-4096"))
def test_a_place_of_the_disk_is_bad(
    disk: FaultyDisk, scene: Scene, places: list[tuple[int, int]], steps: int, told: Told
) -> None:
    work = scene.work
    chosen = random.Random(steps).sample(places, min(steps, len(places)))

    def attempt(step: int) -> Ended:
        start, end = chosen[step]
        bad = [Place(start=start, end=end, fault=Fault.DEAD)]
        if not work.has_whole_disk:
            disk.break_at(bad)
            return deployed(work, disk, is_lasting=True)
        # What planning reads it would find bad, and nothing would be to be seen then.
        ended = deployed(work, disk, sink=when_planned(lambda: disk.break_at(bad)), is_lasting=True)
        assert disk.is_broken, "it wasn't put in"
        return ended

    told(
        Row.of(
            work.name, "a place of the disk is bad", len(places), walked(disk, scene.old, work, len(chosen), attempt)
        )
    )


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", names("drive"))
def test_the_disk_dies(disk: FaultyDisk, scene: Scene, steps: int, told: Told) -> None:
    work = scene.work
    counting = Watch(disk.node, 0, disk.kill)
    assert deployed(work, disk, watch=counting).outcome == "done"
    chosen = random.Random(steps).sample(range(1, counting.count + 1), min(steps, counting.count))

    def attempt(step: int) -> Ended:
        return deployed(work, disk, watch=Watch(disk.node, chosen[step], disk.kill), is_lasting=True)

    outcomes = walked(disk, scene.old, work, len(chosen), attempt)
    told(Row.of(work.name, "the disk dies at a system call", counting.count, outcomes))


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", ["several", "volumes"])
def test_the_disk_dies_at_an_event(disk: FaultyDisk, scene: Scene, steps: int, told: Told) -> None:
    work, draw = scene.work, random.Random(steps)

    def attempt(step: int) -> Ended:
        return deployed(work, disk, sink=at_event(draw.randrange(1, MOST_EVENTS), disk.kill), is_lasting=True)

    outcomes = walked(disk, scene.old, work, steps, attempt)
    told(Row.of(work.name, "the disk dies at an event", MOST_EVENTS, outcomes))


@pytest.mark.parametrize("name", names("several", "volumes", "drive", "uefi-4096"))
def test_a_disk_that_cannot_be_flushed(disk: FaultyDisk, scene: Scene) -> None:
    end = disk.size
    disk.break_at([Place(start=end - 4096, end=end, fault=Fault.NO_WRITE)])
    ended = deployed(scene.work, disk)
    assert isinstance(ended.error, DeviceFailed)
    assert ended.error.action == "flushing"
    if scene.work.has_whole_disk:
        assert ended.error.disk is DiskState.UNCHANGED, "it isn't refused"
        return
    disk.mend()
    assert deployed(scene.work, disk).outcome == "done"


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", ["whole", pytest.param("uefi", marks=FULL), pytest.param("whole-4096", marks=FULL)])
def test_a_verified_image_of_which_the_disk_loses_a_write_is_no_success(
    disk: FaultyDisk, scene: Scene, places: list[tuple[int, int]], steps: int, told: Told
) -> None:
    work = scene.work
    assert isinstance(work, Deployment)
    verified = replace(work, request=replace(work.request, verify=True))
    lost = of_the_image(work, disk, scene.old, places)
    chosen = random.Random(steps).sample(lost, min(steps, len(lost)))

    def attempt(step: int) -> Ended:
        start, end = chosen[step]
        losing = [Place(start=start, end=end, fault=Fault.LOST_WRITE)]
        ended = deployed(verified, disk, sink=when_planned(lambda: disk.break_at(losing)))
        assert isinstance(ended.error, DeviceFailed), ended
        assert (ended.error.action, ended.error.disk) == ("reading back from", DiskState.UNBOOTABLE), ended
        assert ended.error.offset is not None
        return ended

    outcomes = walked(disk, scene.old, verified, len(chosen), attempt)
    told(Row.of(f"{work.name}, verified", "a write of the image is lost", len(lost), outcomes))


def of_the_image(work: Deployment, disk: FaultyDisk, old: Path, places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the places at which the image has other bytes than the disk had."""
    request = work.on(disk.node)
    image = Path(str(request.image)).with_suffix(".raw")
    size = image.stat().st_size
    if request.image_type is ImageType.WHOLE_DISK:
        start, within = 0, ByteRange(MIB, size - MIB)
    else:
        planned = deploy.plan(request).disk
        (start,) = (part.start for part in planned.partitions if part.role is Role.ROOT)  # type: ignore[union-attr]
        within = ByteRange(start, start + size)
    found = []
    with image.open("rb") as new, old.open("rb") as before:
        for begin, end in places:
            if within.start <= begin and end <= within.end:
                new.seek(begin - start)
                before.seek(begin)
                if new.read(end - begin) != before.read(end - begin):
                    found.append((begin, end))
    return found


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", [pytest.param("uefi", marks=FULL), pytest.param("several", marks=FULL), "whole"])
def test_a_disk_that_keeps_what_it_boots_is_not_said_to_boot_nothing(
    disk: FaultyDisk, scene: Scene, places: list[tuple[int, int]], steps: int, told: Told
) -> None:
    """What is on it by then is half of each system: all that can be promised is that nobody knows."""
    work = scene.work
    with scene.old.open("rb") as file:
        head = file.read(MIB)
    lost = [(start, end) for start, end in places if end <= MIB and any(head[start:end])]
    outcomes: Counter[str] = Counter()
    for start, end in random.Random(steps).sample(lost, min(steps, len(lost))):
        losing = [Place(start=start, end=end, fault=Fault.LOST_WRITE)]
        sink = when_planned(partial(disk.break_at, losing))
        ended = called(partial(_called_with, work, disk.node, sink), disk.node)
        assert isinstance(ended.error, DeviceFailed), f"losing {start}: {ended}"
        assert ended.error.disk is DiskState.UNKNOWN, f"losing {start}: {ended.trace}"
        assert "could not be made unbootable" in str(ended.error)
        assert disk.is_broken
        outcomes[f"{type(ended.error).__name__}: {ended.error.disk}"] += 1
        disk.mend()
        assert deployed(work, disk).outcome == "done"
        disk.fill(scene.old)
    told(Row.of(work.name, "a write to the disk's first MiB is lost", len(lost), outcomes))


def _called_with(work: Work, node: str, sink: EventSink, _: EventSink, cancel: Cancellation) -> object:
    return work.call(node, sink, cancel)
