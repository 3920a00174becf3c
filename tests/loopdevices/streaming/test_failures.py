"""Images that are cut off, corrupted or changed while they are read: never a success, from whatever source."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from random import Random

import pytest

from libironic_disk import images
from libironic_disk.errors import (
    ChecksumMismatch,
    ImageDamaged,
    ImageRefused,
    SourceChanged,
    SourceFailed,
)
from libironic_disk.events import Event
from libironic_disk.machine.images import http_mirrors
from libironic_disk.units import KIB, MIB
from tests.support.badserver import NEW_TAG, Fault, ImageServer, Kind
from tests.support.disks import LoopDisk
from tests.support.image_sources import Way, in_pieces, offered
from tests.support.qcow2_images import raw_image
from tests.support.qcow2_layouts import SIZE, Shelf, converted
from tests.support.used_disks import UsedDisk, fill, put, used_disks
from tests.support.webserver import WebServer

pytestmark = pytest.mark.loopdevice

CAPACITY = 20 * MIB
LARGE = 19 * MIB
"""More than is ever read ahead."""

LAYOUTS = {
    "plain": "convert -o cluster_size=64k",
    "packed": "convert -c",
    "late": "used after a snapshot, small clusters",
}


@pytest.fixture(autouse=True)
def _quick_and_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_mirrors, "_FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def disks() -> Iterator[dict[int, LoopDisk]]:
    with used_disks(CAPACITY + MIB) as disks:
        yield disks


@pytest.fixture
def used(disks: dict[int, LoopDisk]) -> Iterator[UsedDisk]:
    """A disk; nothing behind the capacity may change."""
    used = fill(disks[512], CAPACITY + MIB)
    yield used
    assert used.is_untouched(CAPACITY)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return raw_image(tmp_path_factory.mktemp("raw") / "image", size=SIZE)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_qcow2_image_that_lacks_what_somebody_reads_is_refused_or_damaged(
    used: UsedDisk, shelf: Shelf, server: WebServer, tmp_path: Path, layout: str, way: Way
) -> None:
    whole = shelf.image(LAYOUTS[layout]).read_bytes()
    # Most images end with the last of their data, padded to a cluster.
    cuts = [100, 70_000, len(whole) // 2, *([] if layout == "late" else [len(whole.rstrip(b"\0")) - 4])]
    file = tmp_path / "image"
    for cut in cuts:
        file.write_bytes(whole[:cut])
        with offered(way, file, server) as source, pytest.raises((ImageRefused, ImageDamaged)):
            put(images.inspect(source), used.node, capacity=CAPACITY, budget=100 * KIB)


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_image_cut_off_anywhere_is_an_error_or_lacks_what_nobody_reads(
    used: UsedDisk, shelf: Shelf, server: WebServer, tmp_path: Path, layout: str, way: Way
) -> None:
    whole = shelf.image(LAYOUTS[layout]).read_bytes()
    random = Random(f"{layout} {way}")
    file = tmp_path / "image"
    for _ in range(5):
        file.write_bytes(whole[: random.randrange(200, len(whole))])
        with offered(way, file, server) as source, suppress(ImageRefused, ImageDamaged):
            put(images.inspect(source), used.node, capacity=CAPACITY, budget=100 * KIB)
            assert used.contents(0, SIZE) == shelf.disk(LAYOUTS[layout])


@pytest.mark.parametrize("way", Way)
def test_a_raw_image_that_is_cut_off_lacks_what_was_announced(
    used: UsedDisk, raw: Path, server: WebServer, tmp_path: Path, way: Way
) -> None:
    file = tmp_path / "image"
    for cut in (SIZE - 1, 5 * MIB, 1):
        file.write_bytes(raw.read_bytes()[:cut])
        with offered(way, file, server) as source, pytest.raises(SourceFailed) as failed:
            put(images.inspect(source, size=SIZE), used.node, capacity=CAPACITY)
        assert str(SIZE) in failed.value.reason


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("form", ["raw", "plain", "late"])
@pytest.mark.parametrize("wrong", ["image", "checksum"])
def test_another_checksum_is_an_error_that_names_both(
    used: UsedDisk, raw: Path, shelf: Shelf, server: WebServer, tmp_path: Path, form: str, way: Way, wrong: str
) -> None:
    whole = (raw if form == "raw" else shelf.image(LAYOUTS[form])).read_bytes()
    wanted = sha256(whole) if wrong == "image" else sha256(b"another image")
    if wrong == "image":
        # In the middle there are data in each of them.
        middle = len(whole) // 2
        whole = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    (tmp_path / "image").write_bytes(whole)
    with offered(way, tmp_path / "image", server) as source:
        image = images.inspect(source, checksum=f"sha256:{wanted}")
        with pytest.raises(ChecksumMismatch) as failed:
            images.write_image(image, used.node, capacity=CAPACITY)
    assert (failed.value.wanted, failed.value.found) == (wanted, sha256(whole))
    assert {wanted, sha256(whole)} <= set(str(failed.value).replace(";", "").split())


def rewritten(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(LARGE - 100)
        opened.write(b"changed")


def lengthened(file: Path) -> None:
    with file.open("ab") as opened:
        opened.write(b"more")


def cut_off(file: Path) -> None:
    os.truncate(file, LARGE - 100)


def replaced(file: Path) -> None:
    file.with_suffix(".new").write_bytes(b"n" * file.stat().st_size)
    file.with_suffix(".new").rename(file)


def removed(file: Path) -> None:
    file.unlink()


@pytest.fixture(scope="module")
def large_images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Images with data up to the end."""
    folder = tmp_path_factory.mktemp("large")
    raw, qcow2 = folder / "raw", folder / "qcow2"
    raw.write_bytes(Random(1).randbytes(LARGE))
    converted("-S", "0")(raw, qcow2)
    return {"raw": raw, "qcow2": qcow2}


@pytest.fixture(params=["raw", "qcow2"])
def large(request: pytest.FixtureRequest, large_images: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of one of them that was made long ago."""
    file = tmp_path / "image"
    file.write_bytes(large_images[request.param].read_bytes())
    os.utime(file, (1, 1))
    return file


@pytest.mark.parametrize("change", [rewritten, lengthened, cut_off, replaced, removed])
def test_a_file_that_was_changed_after_inspection_is_not_written(
    used: UsedDisk, large: Path, change: Callable[[Path], None]
) -> None:
    image = images.inspect(large)
    change(large)
    with pytest.raises(SourceFailed):
        images.write_image(image, used.node, capacity=CAPACITY)
    assert used.is_untouched()


@pytest.mark.parametrize("change", [rewritten, lengthened, cut_off])
def test_a_file_that_is_changed_while_it_is_read_is_no_success(
    used: UsedDisk, large: Path, change: Callable[[Path], None]
) -> None:
    image = images.inspect(large)
    changes = iter([change])

    def sink(event: Event) -> None:
        # The first one, when nothing was written yet.
        next(changes, lambda file: None)(large)

    with pytest.raises(SourceFailed, match=r"was changed|was cut off"):
        images.write_image(image, used.node, capacity=CAPACITY, sink=sink)


@pytest.mark.parametrize("change", [replaced, removed])
def test_a_file_that_is_open_stays_the_same_whatever_becomes_of_its_name(
    used: UsedDisk, large: Path, large_images: dict[str, Path], change: Callable[[Path], None]
) -> None:
    image = images.inspect(large)
    changes = iter([change])
    images.write_image(image, used.node, capacity=CAPACITY, sink=lambda event: next(changes, lambda file: None)(large))
    assert used.contents(0, LARGE) == large_images["raw"].read_bytes()


@pytest.mark.parametrize("parts", [True, False])
@pytest.mark.parametrize("etag", ['"one"', None])
@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_an_image_that_changes_on_its_server_is_no_success(
    used: UsedDisk, large_images: dict[str, Path], server: WebServer, form: str, parts: bool, etag: str | None
) -> None:
    body = large_images[form].read_bytes()

    def faults() -> Iterator[Fault]:
        yield Fault(kind=Kind.NONE)
        yield Fault(kind=Kind.DROP, after=10 * MIB)
        # What was given away already is another now.
        served.body = body[: 9 * MIB] + b"?" + body[9 * MIB + 1 :]
        served.etag = etag and NEW_TAG
        yield Fault(kind=Kind.NONE)

    served = ImageServer(server=server, body=body, parts=parts, etag=etag, faults=faults())
    image = images.inspect(served.url)
    with pytest.raises(SourceChanged) as failed:
        images.write_image(image, used.node, capacity=CAPACITY)
    assert failed.value.offset == 10 * MIB
    assert len(served.ranges) == 3


def with_swapped_entries(image: bytes) -> bytes:
    """Return an image whose disk has other data at two places."""
    (l1,) = struct.unpack_from(">Q", image, 40)
    (first,) = struct.unpack_from(">Q", image, l1)
    at = first & 0x00FF_FFFF_FFFF_FE00
    swapped = bytearray(image)
    words = struct.unpack_from(">512Q", image, at)
    one, other = [number for number, word in enumerate(words) if word > 1][:2]
    struct.pack_into(">Q", swapped, at + 8 * one, words[other])
    struct.pack_into(">Q", swapped, at + 8 * other, words[one])
    return bytes(swapped)


def test_tables_that_are_read_ahead_must_be_those_that_come_by(used: UsedDisk, shelf: Shelf, server: WebServer) -> None:
    whole = shelf.image(LAYOUTS["late"]).read_bytes()
    served = ImageServer(server=server, body=whole)
    other = ImageServer(server=server, body=with_swapped_entries(whole), path="/other.img")
    pages = server.pages

    def answer(request: BaseHTTPRequestHandler) -> None:
        ahead = request.headers.get("Range", "bytes=0-").startswith("bytes=0-")
        (honest if ahead else pages[other.path])(request)

    honest, pages[served.path] = pages[served.path], answer
    image = images.inspect(served.url)
    with pytest.raises(SourceChanged, match="aren't those that came by later"):
        put(image, used.node, capacity=CAPACITY, budget=0)
    assert other.ranges


def test_what_a_stream_raises_is_told(used: UsedDisk, large_images: dict[str, Path]) -> None:
    def pieces() -> Iterator[bytes]:
        yield from in_pieces(body[: 10 * MIB])
        raise RuntimeError("the other side is gone")

    for file in large_images.values():
        body = file.read_bytes()
        image = images.inspect(pieces(), name="the stream")
        with pytest.raises(SourceFailed, match="reading the stream failed at byte 10485760: the other side is gone"):
            images.write_image(image, used.node, capacity=CAPACITY)
