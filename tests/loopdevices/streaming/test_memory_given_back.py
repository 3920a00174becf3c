"""An image's buffers go with the call, however it ends: in a service none may wait for the garbage collector."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import pytest

from libironic_disk import Cancellation, DiskError, images
from libironic_disk.errors import Cancelled, ChecksumMismatch, DeviceFailed, SourceChanged, SourceFailed
from libironic_disk.machine.images.buffers import Buffer
from libironic_disk.units import MIB
from tests.support.badserver import NEW_TAG, Fault, ImageServer, Kind
from tests.support.image_sources import in_pieces
from tests.support.oracles import output
from tests.support.qcow2_layouts import converted
from tests.support.streams import Broken
from tests.support.webserver import WebServer
from tests.support.written import packed

pytestmark = pytest.mark.loopdevice  # it mounts a file system without room

SIZE = 16 * MIB
ROOM = 6 * MIB

Write = Callable[[Path, WebServer, Path], None]


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One image in several forms."""
    folder = tmp_path_factory.mktemp("images")
    raw = folder / "raw"
    raw.write_bytes(Random(1).randbytes(SIZE))
    converted("-S", "0")(raw, folder / "qcow2")
    return {"raw": raw, "qcow2": folder / "qcow2", "gzip": packed(raw, "gzip")}


@contextmanager
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def buffers() -> int:
    return sum(isinstance(each, Buffer) for each in gc.get_objects())


def write(image: images.InspectedImage, target: Path, cancel: Cancellation | None = None) -> None:
    target.touch()
    os.truncate(target, 2 * SIZE)
    images.write_image(image, str(target), capacity=2 * SIZE, regular_file=True, cancel=cancel)


def whole(file: Path, server: WebServer, folder: Path) -> None:
    write(images.inspect(file), folder / "disk.img")


def from_a_server(file: Path, server: WebServer, folder: Path) -> None:
    write(images.inspect(ImageServer(server=server, body=file.read_bytes()).url), folder / "disk.img")


def another_image_by_and_by(file: Path, server: WebServer, folder: Path) -> None:
    body = file.read_bytes()

    def faults() -> Iterator[Fault]:
        yield Fault(kind=Kind.NONE)
        yield Fault(kind=Kind.DROP, after=9 * MIB)
        served.body, served.etag = body[: 8 * MIB] + b"?" + body[8 * MIB + 1 :], NEW_TAG
        yield Fault(kind=Kind.NONE)

    served = ImageServer(server=server, body=body, faults=faults())
    write(images.inspect(served.url), folder / "disk.img")


def no_room(file: Path, server: WebServer, folder: Path) -> None:
    with ExitStack() as stack:
        small = folder / "small"
        small.mkdir()
        output("mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(small))
        stack.callback(output, "umount", str(small))
        write(images.inspect(in_pieces(file.read_bytes())), small / "disk.img")


def cut_off(file: Path, server: WebServer, folder: Path) -> None:
    data = file.read_bytes()
    write(images.inspect(in_pieces(data[: len(data) // 2 + 1000])), folder / "disk.img")


def another_checksum(file: Path, server: WebServer, folder: Path) -> None:
    write(images.inspect(file, checksum="sha256:" + 64 * "0"), folder / "disk.img")


def a_stream_that_raises(file: Path, server: WebServer, folder: Path) -> None:
    write(images.inspect(Broken(file.read_bytes(), 9 * MIB)), folder / "disk.img")


def cancelled(file: Path, server: WebServer, folder: Path) -> None:
    cancel = Cancellation()

    def pieces() -> Iterator[bytes]:
        for number, piece in enumerate(in_pieces(file.read_bytes())):
            if number == 12:
                cancel.cancel()
            yield piece

    write(images.inspect(pieces()), folder / "disk.img", cancel)


@pytest.mark.parametrize("form", ["raw", "qcow2", "gzip"])
@pytest.mark.parametrize(
    ("ending", "error"),
    [
        (whole, None),
        (from_a_server, None),
        (another_image_by_and_by, SourceChanged),
        (no_room, DeviceFailed),
        (cut_off, DiskError),
        (another_checksum, ChecksumMismatch),
        (a_stream_that_raises, SourceFailed),
        (cancelled, Cancelled),
    ],
)
def test_no_buffer_outlives_the_call(
    forms: dict[str, Path], server: WebServer, tmp_path: Path, form: str, ending: Write, error: type[DiskError] | None
) -> None:
    with without_collector():
        if error is None:
            ending(forms[form], server, tmp_path)
        elif (form, ending) != ("raw", cut_off):  # nobody knows how long it should have been
            with pytest.raises(error):
                ending(forms[form], server, tmp_path)
        assert buffers() == 0
