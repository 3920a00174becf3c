"""Writing that another thread cancels: it ends within a second, whatever it is at, and leaves nothing behind."""

from __future__ import annotations

import errno
import io
import itertools
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from random import Random

import pytest

from libironic_disk import images
from libironic_disk.events import BytesMoved, Event
from libironic_disk.images import ImageFormat
from libironic_disk.machine.images import file_ranges
from libironic_disk.machine.images.readback import Reader, Written
from libironic_disk.units import GIB, MIB
from tests.conftest import Bench
from tests.support.badserver import Fault, ImageServer, Kind, wait_for_the_end
from tests.support.cancelling import Switch, cancelled_soon, leaving_nothing, threads
from tests.support.disks import LoopDisk
from tests.support.qcow2_images import created
from tests.support.qcow2_layouts import Shelf
from tests.support.udevd import until
from tests.support.used_disks import put
from tests.support.webserver import WebServer

pytestmark = pytest.mark.loopdevice

ROOM = 8 * GIB
LATE = "used after a snapshot, small clusters"


@pytest.fixture(autouse=True)
def _directly_and_leaving_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with leaving_nothing(tmp_path / "temporary"):
        yield


@pytest.fixture
def disk(bench: Bench) -> Iterator[LoopDisk]:
    """A blank disk of 8 GiB, which nobody has open afterwards."""
    disk = bench.disk(ROOM, 512)
    yield disk
    os.close(os.open(disk.node, os.O_RDWR | os.O_EXCL))


def faults(switch: Switch, *kinds: Kind) -> Iterator[Fault]:
    """Give faults for the requests to come; at the last one it is time to cancel."""
    for number, kind in enumerate(kinds, 1):
        if number == len(kinds):
            switch.now()
        yield Fault(kind=kind, after=5)


def gzipped(body: bytes) -> bytes:
    return subprocess.run(["gzip", "--fast", "--stdout"], input=body, capture_output=True, check=True).stdout


@pytest.mark.parametrize("kind", [Kind.SILENCE, Kind.STALL])
def test_waiting_for_a_server_that_is_looked_at(server: WebServer, kind: Kind) -> None:
    with cancelled_soon() as switch:
        served = ImageServer(server=server, body=bytes(MIB), faults=faults(switch, kind))
        images.inspect(served.url, cancel=switch.cancellation)


def test_waiting_for_a_server_that_has_the_checksum(server: WebServer, shelf: Shelf) -> None:
    def silent(request: BaseHTTPRequestHandler) -> None:
        switch.now()
        wait_for_the_end(request.connection)

    with cancelled_soon() as switch:
        server.pages["/SHA256SUMS"] = silent
        checksum = f"{server.url}/SHA256SUMS"
        images.inspect(shelf.image(LATE), checksum=checksum, cancel=switch.cancellation)


@pytest.mark.parametrize("kind", [Kind.SILENCE, Kind.STALL, Kind.UNAVAILABLE])
@pytest.mark.parametrize("form", ["raw", "qcow2", "gzip"])
def test_waiting_for_a_server_that_is_read(
    disk: LoopDisk, server: WebServer, shelf: Shelf, form: str, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Some servers want to be left alone.
    monkeypatch.setattr("libironic_disk.machine.images.http_mirrors._FIRST_PAUSE", 20)
    image_body = shelf.image(LATE).read_bytes()
    body = {"raw": shelf.raw.read_bytes(), "qcow2": image_body, "gzip": gzipped(image_body)}[form]
    with cancelled_soon() as switch:
        served = ImageServer(server=server, body=body, faults=faults(switch, Kind.NONE, kind))
        image = images.inspect(served.url)
        images.write_image(image, disk.node, capacity=ROOM, cancel=switch.cancellation)


def test_waiting_for_tables_that_are_read_ahead(disk: LoopDisk, server: WebServer, shelf: Shelf) -> None:
    with cancelled_soon() as switch:
        kinds = (Kind.NONE, Kind.NONE, Kind.NONE, Kind.STALL)
        served = ImageServer(server=server, body=shelf.image(LATE).read_bytes(), faults=faults(switch, *kinds))
        put(images.inspect(served.url), disk.node, capacity=ROOM, budget=0, cancel=switch.cancellation)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_waiting_for_a_stream_that_only_its_owner_can_end(disk: LoopDisk, packed: bool) -> None:
    body = Random(1).randbytes(6 * MIB)
    body = gzipped(body) if packed else body
    over = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield body
        switch.now()
        over.wait()

    with cancelled_soon(left_waiting=1) as switch:
        images.write_image(images.inspect(pieces()), disk.node, capacity=ROOM, cancel=switch.cancellation)
    over.set()
    assert until(lambda: not threads(), within=5)


def test_writing(disk: LoopDisk) -> None:
    def endless() -> Iterator[bytes]:
        for number in itertools.count():
            if number == 40:
                switch.now()
            yield piece

    piece = Random(1).randbytes(MIB)
    with cancelled_soon() as switch:
        images.write_image(images.inspect(endless()), disk.node, capacity=ROOM, cancel=switch.cancellation)


def test_unpacking_clusters(disk: LoopDisk, tmp_path: Path) -> None:
    writes = (f"write -c -P {1 + number} {number}G 1G" for number in range(2))
    file = created(tmp_path / "image", 2 * GIB, "compression_type=zstd,cluster_size=2M", *writes)
    with cancelled_soon() as switch:

        def sink(event: Event) -> None:
            if isinstance(event, BytesMoved) and event.written:
                switch.now()

        images.write_image(images.inspect(file), disk.node, capacity=ROOM, cancel=switch.cancellation, sink=sink)


def test_unpacking_what_unpacks_to_far_more(disk: LoopDisk) -> None:
    bomb = gzipped(bytes(64 * MIB)) * 1000
    with cancelled_soon() as switch:

        def sink(event: Event) -> None:
            if isinstance(event, BytesMoved) and event.written + event.zeroed:
                switch.now()

        image = images.inspect(io.BytesIO(bomb), declared=ImageFormat.RAW)
        images.write_image(image, disk.node, capacity=ROOM, cancel=switch.cancellation, sink=sink)


def test_putting_aside_what_comes_before_its_table(disk: LoopDisk, shelf: Shelf) -> None:
    body = shelf.image("used after a snapshot").read_bytes()

    def pieces() -> Iterator[bytes]:
        yield body[: 6 * MIB]
        # From here on there is nothing to wait for.
        switch.now()
        switch.cancellation.wait(10)
        yield body[6 * MIB :]

    with cancelled_soon() as switch:
        put(images.inspect(pieces()), disk.node, capacity=ROOM, budget=0, cancel=switch.cancellation)


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_zeroing_a_disk_that_has_to_write_the_zeros(
    disk: LoopDisk, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(file_ranges, "allocate", refuse)
    monkeypatch.setattr(file_ranges, "zero_out", refuse)
    file = tmp_path / "image"
    if form == "raw":
        file.touch()
        os.truncate(file, ROOM)
    else:
        created(file, ROOM)
    with cancelled_soon() as switch:

        def sink(event: Event) -> None:
            if isinstance(event, BytesMoved) and event.zeroed:
                switch.now()

        images.write_image(images.inspect(file), disk.node, capacity=ROOM, cancel=switch.cancellation, sink=sink)


def test_digesting_a_hole(disk: LoopDisk, tmp_path: Path) -> None:
    file = tmp_path / "image"
    with file.open("wb") as opened:
        opened.truncate(ROOM)
    with cancelled_soon() as switch:
        image = images.inspect(file, checksum=f"sha256:{'0' * 64}")
        images.write_image(image, disk.node, capacity=ROOM, cancel=switch.cancellation, sink=lambda event: switch.now())


def test_reading_back(disk: LoopDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    mismatch = Reader.mismatch

    def begun(self: Reader, run: Sequence[Written], moved: Callable[[int], None]) -> int | None:
        switch.now()
        switch.cancellation.wait(10)
        return mismatch(self, run, moved)

    monkeypatch.setattr(Reader, "mismatch", begun)
    with cancelled_soon() as switch:
        image = images.inspect(io.BytesIO(b"x" * 20 * MIB))
        images.write_image(image, disk.node, capacity=ROOM, cancel=switch.cancellation, verify=True)


class Enough(Exception):
    """What a caller's own code raises."""


@pytest.mark.parametrize("after", [0, 3])
def test_what_a_sink_raises_reaches_the_caller_and_nothing_goes_on(disk: LoopDisk, after: int) -> None:
    def endless() -> Iterator[bytes]:
        piece = Random(1).randbytes(MIB)
        while True:
            yield piece

    countdown = iter(range(after))

    def sink(event: Event) -> None:
        if next(countdown, None) is None:
            raise Enough

    with pytest.raises(Enough):
        images.write_image(images.inspect(endless()), disk.node, capacity=ROOM, sink=sink)
    assert not threads()
