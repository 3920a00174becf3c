"""A service that deploys: threads with a disk each, some of whose deployments are cancelled or fail."""

from __future__ import annotations

import fcntl
import random
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from libironic_disk.errors import DiskError
from libironic_disk.events import Cancellation, Event
from libironic_disk.images import ImageSource
from libironic_disk.pure.roles import Firmware
from libironic_disk.units import MIB
from tests.longlife.measuring import Figures, measured, settled
from tests.support import deployments, oracles, wholedisks
from tests.support.deployments import Deployment, Kind
from tests.support.disks import LoopDisk, attach
from tests.support.faults import scenes
from tests.support.written import packed

NAME = "long-lived"

ENDINGS = {
    "done": None,
    "cancelled": "Cancelled",
    "a stream that breaks": "SourceFailed",
    "a file without its end": "ImageDamaged",
    "a disk that is locked": "DeviceLocked",
}
"""How a deployment is meant to end: the name of an error's class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Disks, images, and where temporary files go."""

    disks: tuple[LoopDisk, ...]
    folder: Path
    temporary: Path
    forms: dict[Kind, tuple[Path, ...]]


@contextmanager
def service(threads: int) -> Iterator[Service]:
    """Start one that has so many threads."""
    with scenes.folder() as folder, ExitStack() as stack:
        temporary, images = folder / "tmp", folder / "images"
        temporary.mkdir()
        images.mkdir()
        stack.enter_context(mock.patch.object(tempfile, "tempdir", str(temporary)))
        disks = []
        for number in range(threads):
            file = folder / f"disk{number}.img"
            with file.open("wb") as opened:
                opened.truncate(deployments.DISK_SIZE)
            disks.append(stack.enter_context(attach(file, 512)))
        system = deployments.system_image(images / "system", NAME)
        whole = wholedisks.make_disk(images / "whole", 24 * MIB, seed=8)
        forms = {kind: _forms(raw) for kind, raw in ((Kind.PARTITION_IMAGE, system), (Kind.WHOLE_DISK, whole))}
        yield Service(disks=tuple(disks), folder=folder, temporary=temporary, forms=forms)


def _forms(raw: Path) -> tuple[Path, ...]:
    return raw, wholedisks.as_qcow2(raw), wholedisks.as_qcow2(raw, "-c"), packed(raw, "gzip"), packed(raw, "zstd")


def rounds(at: Service, *, count: int, seed: int = 1) -> Iterator[tuple[int, Counter[str], Figures]]:
    """Deploy ``count`` times, and yield now and then how often it was, how that ended, and what the process holds.

    Raises:
        AssertionError: one ended otherwise than it was meant to.
    """
    before = measured(at.folder, at.temporary)
    came: Counter[str] = Counter()
    each_time = max(count // 20, len(at.disks))
    made = 0
    while made < count:
        coming = iter(range(made, made + each_time))
        _all_threads(at, coming, came, seed)
        made += each_time
        yield made, came, settled(at.folder, at.temporary, before)


def _all_threads(at: Service, coming: Iterator[int], came: Counter[str], seed: int) -> None:
    lock = threading.Lock()
    wrong: list[BaseException] = []

    def work(disk: LoopDisk) -> None:
        try:
            while not wrong:
                with lock:
                    number = next(coming, None)
                if number is None:
                    return
                ended = _deploy(at, disk, random.Random(f"{seed} {number}"))
                with lock:
                    came[ended] += 1
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(disk,), name="service") for disk in at.disks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]


def _deploy(at: Service, disk: LoopDisk, draw: random.Random) -> str:
    """Deploy, in one of the ways, and return in words how it ended.

    Raises:
        AssertionError: otherwise than it was meant to.
    """
    kind = draw.choice((Kind.PARTITION_IMAGE, Kind.WHOLE_DISK, Kind.TABLE))
    # Half of them go well.
    ending = draw.choice(list(ENDINGS)) if kind is not Kind.TABLE and draw.random() < 0.6 else "done"
    cancel = Cancellation()
    image = _image(at, kind, ending, draw)
    deployment = Deployment(
        kind=kind, device=disk.node, image=image, seed=str(draw.random()), firmware=draw.choice(list(Firmware))
    )
    left = draw.randint(0, 5)

    def sink(event: Event) -> None:
        nonlocal left
        left -= 1
        if ending == "cancelled" and left < 0:
            cancel.cancel()

    error = None
    with ExitStack() as stack:
        try:
            wanted = deployment.plan()
            if ending == "a disk that is locked":
                stack.enter_context(_locked(disk))
            deployments.apply(wanted, sink=sink, cancel=cancel, lock_timeout=0.05)
        except DiskError as caught:
            error = type(caught).__name__
    assert error == ENDINGS[ending], f"{kind}, {ending}: {error}"
    if error is None and draw.random() < 0.2:
        _judge(kind, wanted, disk, at.forms.get(kind, (at.folder,))[0])
    return f"{kind}: {error or 'done'}"


def _image(at: Service, kind: Kind, ending: str, draw: random.Random) -> ImageSource:
    if kind is Kind.TABLE:
        return at.folder
    file = draw.choice(at.forms[kind])
    half = at.forms[kind][0].stat().st_size // 2
    match ending:
        case "a stream that breaks":
            return _pieces(at.forms[kind][0], half, ConnectionResetError("reset by peer"))
        case "a file without its end":
            return _pieces(at.forms[kind][0], half)
    return _pieces(file, file.stat().st_size) if draw.random() < 0.3 else file


def _pieces(file: Path, until: int, error: OSError | None = None) -> Iterator[bytes]:
    """Give the first bytes of a file in small pieces, that the memory which is measured is the library's own."""
    with file.open("rb", buffering=0) as opened:
        while opened.tell() < until:
            yield opened.read(min(until - opened.tell(), 100_000))
    if error is not None:
        raise error


def _judge(kind: Kind, wanted: deployments.Planned, disk: LoopDisk, raw: Path) -> None:
    if kind is not Kind.WHOLE_DISK:
        deployments.judge(wanted, disk, raw, NAME)
        return
    oracles.check_gpt(disk.node)
    between = str(raw.stat().st_size - 2 * MIB)
    oracles.output("cmp", "--ignore-initial", str(MIB), "--bytes", between, str(raw), disk.node)


@contextmanager
def _locked(disk: LoopDisk) -> Iterator[None]:
    with Path(disk.node).open("rb") as node:
        fcntl.flock(node, fcntl.LOCK_EX)
        yield
