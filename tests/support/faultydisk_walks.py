"""Work on disks that fail by themselves, in the machine with a whole kernel, and what must hold afterwards."""

from __future__ import annotations

import itertools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from libironic_disk import deploy
from libironic_disk.errors import DiskError
from libironic_disk.events import Cancellation, Event, EventSink, Phase, PhaseFinished, PhaseStarted
from libironic_disk.images import ImageType
from libironic_disk.pure.disks.layout import Layout
from libironic_disk.pure.disks.presets import bios_boot, config_drive, esp, root, swap
from libironic_disk.pure.disks.sizes import mib
from libironic_disk.pure.roles import Firmware
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.request import DeployRequest, FirmwareEntry
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support import faultydisks, wholedisks
from tests.support.disks import LoopDisk
from tests.support.faults import fault, holdings, worker
from tests.support.faults.listening import Call
from tests.support.faults.scenes import OldDisk
from tests.support.faults.systemcalls import FLUSHES, WRITES, on_disk
from tests.support.faults.walking import assert_says
from tests.support.faults.work import Scene, State
from tests.support.faults.works import wholes
from tests.support.faults.works.deployments import DRIVE, assert_partitions_are_new, system_image
from tests.support.faultydisks import FaultyDisk
from tests.support.udevd import settle

SIZE = 160 * MIB
# What a device of each kind has in its place in sysfs.
_KINDS = ("loop/backing_file", "dm/name", "md/level")


class Work(Protocol):
    """A call, of which the disk alone is missing."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    @property
    def has_whole_disk(self) -> bool:
        """Whether it is one on a whole disk, of which each error says what is there."""

    def call(self, node: str, sink: EventSink, cancel: Cancellation) -> object:
        """Make it."""

    def found(self, disk: OldDisk) -> State:
        """Look at what is on the disk.

        Raises:
            AssertionError: it is neither as before nor the new one, and not nothing.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A deployment of one image, of which the disk alone is missing."""

    name: str
    request: DeployRequest
    has_whole_disk: bool = True

    def on(self, node: str) -> DeployRequest:
        """Return the request for a disk."""
        return replace(self.request, device=node)

    def call(self, node: str, sink: EventSink, cancel: Cancellation) -> object:
        """Deploy."""
        return deploy.deploy(self.on(node), sink=sink, cancel=cancel)

    def found(self, disk: OldDisk) -> State:
        """Look at a disk: is it as before, is nothing there, or all of the new system."""
        if state := disk.old_or_nothing():
            return state
        found = disk.disk
        if self.request.image_type is ImageType.WHOLE_DISK:
            wholes.has_all_of(Path(str(self.request.image)), found)
        else:
            assert_partitions_are_new(found, self.on(found.node))
        return State.NEW


def deployments(folder: Path, *, sector_size: int = 512) -> Mapping[str, Deployment]:
    """Return deployments onto a disk of :data:`SIZE` bytes, by short names; the last one is of a whole disk."""
    image = system_image(folder)
    whole = wholedisks.make_disk(folder / "whole.raw", 24 * MIB, sector_size=sector_size, seed=1)
    more = "" if sector_size == 512 else f", sectors of {sector_size} bytes"
    made = {firmware.value: _partitions(image, firmware, more) for firmware in (Firmware.UEFI, Firmware.BIOS)}
    request = DeployRequest(
        device="",
        image=whole,
        image_type=ImageType.WHOLE_DISK,
        config_drive=DRIVE,
        firmware_entry=FirmwareEntry.NEVER,
    )
    return {**made, "whole": Deployment(name=f"deploy a whole-disk image{more}", request=request)}


def _partitions(image: Path, firmware: Firmware, more: str) -> Deployment:
    first = esp(mib(34)) if firmware is Firmware.UEFI else bios_boot()
    layout = Layout(table=TableKind.GPT, partitions=(first, swap(mib(8)), config_drive(MIB), root()))
    request = DeployRequest(
        device="",
        image=image,
        firmware=firmware,
        layout=layout,
        config_drive=DRIVE,
        firmware_entry=FirmwareEntry.NEVER,
    )
    return Deployment(name=f"deploy a partition image, {firmware}{more}", request=request)


def old_disk(folder: Path, *, size: int = SIZE, sector_size: int = 512) -> Path:
    """Make the contents of a disk that a BIOS starts something else from."""
    return wholedisks.make_disk(folder / "old.img", size, sector_size=sector_size, seed=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a call ended, in the words of the table, and the error that it raised."""

    outcome: str
    error: DiskError | None


class Subject(Protocol):
    """A disk that fails."""

    @property
    def node(self) -> str:
        """As the library sees it."""

    def digest(self) -> str:
        """Return the SHA-256 of what is really on it."""

    def really(self) -> AbstractContextManager[LoopDisk]:
        """Give what is really on it, as a disk of its own."""


def when(phase: Phase, happens: Callable[[], None]) -> EventSink:
    """Return a sink that has something happen when a phase is over."""

    def sink(event: Event) -> None:
        if isinstance(event, PhaseFinished) and event.phase is phase:
            happens()

    return sink


def when_begun(phase: Phase, happens: Callable[[], None], *, detail: str = "") -> EventSink:
    """Return a sink that has something happen when a phase begins, or one of those with a detail."""

    def sink(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase is phase and detail in event.detail:
            happens()

    return sink


def when_planned(happens: Callable[[], None]) -> EventSink:
    """Return a sink that has something happen when the disk was looked at and nothing is written yet."""
    return when_begun(Phase.WIPE, happens)


def at_event(number: int, happens: Callable[[], None]) -> EventSink:
    """Return a sink that has something happen at an event, the first of which has the number 1."""
    numbers = itertools.count(1)

    def sink(event: Event) -> None:
        if next(numbers) == number:
            happens()

    return sink


class Watch:
    """Counts the system calls by which a call writes to a disk or flushes it, and has something happen before one."""

    def __init__(self, node: str, number: int, happens: Callable[[], None]) -> None:
        scene = Scene(nodes=(node,), temporary=Path("/nowhere"))
        self._counter = fault.Counter()

        def decide(call: Call, _: worker.Held) -> int:
            if on_disk(scene, call) and self._counter.here(number):
                happens()
            return 0

        self.held = worker.Held(WRITES | FLUSHES, decide)

    @property
    def count(self) -> int:
        """How many there were."""
        return self._counter.seen


def deployed(
    work: Work,
    disk: Subject,
    *,
    sink: EventSink | None = None,
    is_lasting: bool = False,
    watch: Watch | None = None,
) -> Ended:
    """Make a call in a process of its own, and judge what came of it.

    Args:
        work: the call.
        disk: what it is made on.
        sink: what happens meanwhile.
        is_lasting: the fault is still there when the disk is to be made unbootable.
        watch: what happens at a system call.

    Raises:
        AssertionError: something was leaked, the error isn't one of the library's, doesn't name the disk, or says
            something of it that isn't so; or what is there is neither the old thing nor the new one.
    """
    before, node = disk.digest(), disk.node
    ended = called(lambda theirs, cancel: work.call(node, sink or theirs, cancel), node, watch)
    with disk.really() as found:
        state = work.found(OldDisk(disk=found, digest=before))
    error = ended.error
    if error is None:
        assert state is State.NEW, f"nothing was raised, and {state} is there"
        return Ended(outcome="done", error=None)
    assert isinstance(error, DiskError)
    assert error.disk is not None or not work.has_whole_disk, f"it doesn't say what is there: {error}\n{ended.trace}"
    assert_says(error, state, is_lasting=is_lasting, trace=ended.trace)
    return Ended(outcome=f"{type(error).__name__}: {state}", error=error)


def called(call: worker.Work, node: str, watch: Watch | None = None) -> worker.Ended:
    """Make a call in a process of its own.

    Raises:
        AssertionError: something was leaked, or the error isn't one of the library's, or doesn't name the disk.
    """
    with tempfile.TemporaryDirectory() as folder, _nothing_mapped():

        def apart(sink: EventSink, cancel: Cancellation) -> object:
            tempfile.tempdir = folder
            return call(sink, cancel)

        ended = worker.run(apart, held=watch.held if watch else None)
        assert not ended.signal
        assert not ended.leaked, f"held by the process: {ended.leaked} ({ended.error})\n{ended.trace}"
        assert not ended.orphans, f"these outlived the call: {ended.orphans}"
        assert not holdings.files(Path(folder)), f"left behind: {holdings.files(Path(folder))}"
    error = ended.error
    if error is not None:
        assert isinstance(error, DiskError), f"an error that nobody documents:\n{ended.trace}"
        assert node in f"{error}{getattr(error, 'argv', '')}", f"it doesn't name {node}: {error}\n{ended.trace}"
    return ended


@contextmanager
def _nothing_mapped() -> Iterator[None]:
    """Assert that no loop device, mapping or array comes to those that there are."""
    settle()
    before = _devices()
    yield
    settle()
    assert not _devices() - before


def _devices() -> set[str]:
    return {path.parts[3] for kind in _KINDS for path in Path("/sys/block").glob(f"*/{kind}")}


def places_of(bench: Bench, work: Work, disk: FaultyDisk) -> list[tuple[int, int]]:
    """Return where a call writes, in the order in which it does, by making it."""
    log = bench.disk(3 * disk.size, 512)
    with disk.logged(log):
        assert deployed(work, disk).outcome == "done"
    return faultydisks.written_places(log)


def walked(disk: FaultyDisk, old: Path, work: Work, steps: int, attempt: Callable[[int], Ended]) -> Counter[str]:
    """Make a call with a fault at each step, and then without."""
    outcomes: Counter[str] = Counter()
    for step in range(steps):
        disk.fill(old)
        outcome = attempt(step).outcome
        # A run may have fewer writes than the one that counted them.
        outcomes[outcome if disk.is_broken else "not met"] += 1
        disk.mend()
        assert deployed(work, disk).outcome == "done"
    return outcomes
