"""Work on disks that fail by themselves, in the machine with a whole kernel, and what must hold afterwards."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from libironic_disk import deploy
from libironic_disk.errors import DiskError
from libironic_disk.events import Cancellation, Event, EventSink, Phase, PhaseFinished
from libironic_disk.images import ImageType
from libironic_disk.pure.disks.layout import Layout
from libironic_disk.pure.disks.presets import bios_boot, config_drive, esp, root, swap
from libironic_disk.pure.disks.sizes import mib
from libironic_disk.pure.roles import Firmware
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.request import DeployRequest, FirmwareEntry
from libironic_disk.units import MIB
from tests.support import wholedisks
from tests.support.disks import LoopDisk
from tests.support.faults import holdings, worker
from tests.support.faults.scenes import OldDisk
from tests.support.faults.walking import assert_says
from tests.support.faults.work import State
from tests.support.faults.works import wholes
from tests.support.faults.works.deployments import DRIVE, assert_partitions_are_new, system_image
from tests.support.udevd import settle

SIZE = 160 * MIB
_DEADLINE = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A deployment, of which the disk alone is missing."""

    name: str
    request: DeployRequest

    def on(self, node: str) -> DeployRequest:
        """Return the request for a disk."""
        return replace(self.request, device=node)


def deployments(folder: Path) -> Mapping[str, Deployment]:
    """Return deployments onto a disk of :data:`SIZE` bytes, by short names; the last one is of a whole disk."""
    image = system_image(folder)
    whole = wholedisks.make_disk(folder / "whole.raw", 24 * MIB, seed=1)
    made = {firmware.value: _partitions(image, firmware) for firmware in (Firmware.UEFI, Firmware.BIOS)}
    request = DeployRequest(
        device="",
        image=whole,
        image_type=ImageType.WHOLE_DISK,
        config_drive=DRIVE,
        firmware_entry=FirmwareEntry.NEVER,
    )
    return {**made, "whole": Deployment(name="deploy a whole-disk image", request=request)}


def _partitions(image: Path, firmware: Firmware) -> Deployment:
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
    return Deployment(name=f"deploy a partition image, {firmware}", request=request)


def old_disk(folder: Path) -> Path:
    """Make the contents of a disk that a BIOS starts something else from."""
    return wholedisks.make_disk(folder / "old.img", SIZE, seed=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a call ended, in the words of the table, and the error that it raised."""

    outcome: str
    error: DiskError | None
    seconds: float


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


def at_event(number: int, happens: Callable[[], None]) -> EventSink:
    """Return a sink that has something happen at an event, the first of which has the number 1."""
    numbers = itertools.count(1)

    def sink(event: Event) -> None:
        if next(numbers) == number:
            happens()

    return sink


def deployed(
    deployment: Deployment, disk: Subject, *, sink: EventSink | None = None, is_lasting: bool = False
) -> Ended:
    """Deploy in a process of its own, and judge what came of it.

    Args:
        deployment: what is deployed.
        disk: what it is deployed onto.
        sink: what happens meanwhile.
        is_lasting: the fault is still there when the disk is to be made unbootable.

    Raises:
        AssertionError: something was leaked, the error isn't one of the library's, doesn't name the disk, or says
            something of it that isn't so; or what boots is neither the old system nor the new one.
    """
    before, request = disk.digest(), deployment.on(disk.node)
    began = time.monotonic()
    ended = called(lambda theirs, cancel: deploy.deploy(request, sink=sink or theirs, cancel=cancel), disk.node)
    seconds = time.monotonic() - began
    with disk.really() as found:
        state = _state(found, before, deployment.on(found.node))
    error = ended.error
    if error is None:
        assert state is State.NEW, f"nothing was raised, and {state} is there"
        return Ended(outcome="done", error=None, seconds=seconds)
    assert isinstance(error, DiskError)
    assert error.disk is not None, f"it doesn't say what is on the disk: {error}\n{ended.trace}"
    assert_says(error, state, is_lasting=is_lasting, trace=ended.trace)
    return Ended(outcome=f"{type(error).__name__}: {state}", error=error, seconds=seconds)


def _state(found: LoopDisk, before: str, request: DeployRequest) -> State:
    """Look at a disk: is it as before, is nothing there, or all of the new system."""
    if state := OldDisk(disk=found, digest=before).old_or_nothing():
        return state
    if request.image_type is ImageType.WHOLE_DISK:
        wholes.has_all_of(Path(str(request.image)), found)
    else:
        assert_partitions_are_new(found, request)
    return State.NEW


def called(call: worker.Work, node: str) -> worker.Ended:
    """Make a call in a process of its own.

    Raises:
        AssertionError: something was leaked, or the error isn't one of the library's, or doesn't name the disk.
    """
    with tempfile.TemporaryDirectory() as folder, _nothing_mapped():

        def apart(sink: EventSink, cancel: Cancellation) -> object:
            tempfile.tempdir = folder
            return call(sink, cancel)

        ended = worker.run(apart, deadline=_DEADLINE)
        assert not ended.signal
        assert not ended.leaked, f"held by the process: {ended.leaked} ({ended.error})"
        assert not ended.orphans, f"these outlived the call: {ended.orphans}"
        assert not holdings.files(Path(folder)), f"left behind: {holdings.files(Path(folder))}"
    error = ended.error
    if error is not None:
        assert isinstance(error, DiskError), f"an error that nobody documents:\n{ended.trace}"
        assert node in f"{error}{getattr(error, 'argv', '')}", f"it doesn't name {node}: {error}\n{ended.trace}"
    return ended


@contextmanager
def _nothing_mapped() -> Iterator[None]:
    """Assert that no loop device and no mapping comes to those that there are."""
    settle()
    before = _devices()
    yield
    settle()
    assert not _devices() - before


def _devices() -> set[str]:
    return {path.parts[3] for kind in ("loop/backing_file", "dm/name") for path in Path("/sys/block").glob(f"*/{kind}")}
