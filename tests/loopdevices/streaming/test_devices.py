"""Disks that fail while an image is written, and what is written nowhere: behind the capacity, and into other files."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from random import Random

import pytest

from libironic_disk import images
from libironic_disk.errors import DeviceFailed, ImageOrderUnsupported, ImageTooLarge
from libironic_disk.units import KIB, MIB
from tests.support.badserver import ImageServer
from tests.support.cancelling import leaving_nothing, threads
from tests.support.disks import LoopDisk, attach
from tests.support.image_sources import STREAMS, Way, in_pieces, offered
from tests.support.oracles import output
from tests.support.qcow2_layouts import ODD_SIZE, SIZE, Shelf, after, converted, run, snapshot
from tests.support.udevd import until
from tests.support.used_disks import UsedDisk, fill, put, used_disks
from tests.support.webserver import WebServer
from tests.support.written import packed

pytestmark = pytest.mark.loopdevice

ROOM = 6 * MIB
"""What a disk without room has room for."""

PROMISED = 64 * MIB
CAPACITY = 20 * MIB
LATE = "used after a snapshot"
FULL = {os.strerror(errno.EIO), os.strerror(errno.ENOSPC)}


@pytest.fixture(autouse=True)
def _directly_and_leaving_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with leaving_nothing(tmp_path / "temporary"):
        yield


@pytest.fixture(scope="module")
def disks() -> Iterator[dict[int, LoopDisk]]:
    with used_disks(CAPACITY + MIB) as disks:
        yield disks


@pytest.fixture
def used(disks: dict[int, LoopDisk]) -> UsedDisk:
    return fill(disks[512], CAPACITY + MIB)


@contextmanager
def without_room(folder: Path) -> Iterator[Path]:
    """Give a file that is longer than what there is room for."""
    folder.mkdir()
    output("mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder))
    try:
        file = folder / "disk.img"
        file.touch()
        os.truncate(file, PROMISED)
        yield file
    finally:
        output("umount", str(folder))


@pytest.fixture(params=[512, 4096])
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A disk that fails where there is no room any more."""
    with without_room(tmp_path / "small") as file, attach(file, request.param) as disk:
        yield disk.node


def endless() -> Iterator[bytes]:
    piece = Random(1).randbytes(MIB)
    while True:
        yield piece


def test_a_write_that_fails_is_final_at_once_and_has_a_place(full: str) -> None:
    # It would never end if anything were tried again, or the rest were read.
    with pytest.raises(DeviceFailed) as failed:
        images.write_image(images.inspect(endless()), full, capacity=PROMISED)
    assert (failed.value.device, failed.value.action) == (full, "writing")
    assert failed.value.reason in FULL
    assert failed.value.offset is not None
    # Each of several threads had a few MiB in hand.
    assert 0 <= failed.value.offset <= ROOM + 16 * MIB
    assert f"writing {full} at byte {failed.value.offset} failed: {failed.value.reason}" in str(failed.value)


@pytest.mark.parametrize("form", ["raw", "gzip"])
def test_a_disk_that_fails_does_not_wait_for_a_source_that_stalls(full: str, form: str) -> None:
    body = Random(1).randbytes(16 * MIB)
    if form == "gzip":
        body = subprocess.run(["gzip", "--fast", "--stdout"], input=body, capture_output=True, check=True).stdout
    over = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield body
        over.wait()

    with pytest.raises(DeviceFailed) as failed:
        images.write_image(images.inspect(pieces()), full, capacity=PROMISED)
    assert failed.value.device == full
    over.set()
    assert until(lambda: not threads(), within=5)


@pytest.mark.parametrize("form", ["raw", "qcow2", "gzip"])
@pytest.mark.parametrize("parts", [True, False])
def test_nothing_is_downloaded_again_because_of_a_disk(
    full: str, server: WebServer, tmp_path: Path, form: str, parts: bool
) -> None:
    file = tmp_path / "image"
    file.write_bytes(Random(1).randbytes(16 * MIB))
    if form == "qcow2":
        converted("-S", "0")(file, tmp_path / "qcow2")
        file = tmp_path / "qcow2"
    body = (packed(file, "gzip") if form == "gzip" else file).read_bytes()
    served = ImageServer(server=server, body=body, parts=parts)
    image = images.inspect(served.url)
    with pytest.raises(DeviceFailed) as failed:
        images.write_image(image, full, capacity=PROMISED)
    assert failed.value.device == full
    assert failed.value.reason in FULL
    assert len(served.ranges) == 2


def test_a_plain_file_without_room_is_named_too(tmp_path: Path) -> None:
    with without_room(tmp_path / "small") as file:
        with pytest.raises(DeviceFailed) as failed:
            images.write_image(images.inspect(endless()), str(file), capacity=PROMISED, regular_file=True)
        assert (failed.value.device, failed.value.reason) == (str(file), os.strerror(errno.ENOSPC))
        assert failed.value.offset is not None
        assert file.stat().st_size == PROMISED


def test_what_cannot_be_put_aside_is_a_failure_of_the_disk(full: str, shelf: Shelf, tmp_path: Path) -> None:
    late = tmp_path / "late"
    after(converted("-o", "cluster_size=2M"), snapshot("-c"), run("write -P 1 0 64k"))(shelf.raw, late)
    with pytest.raises(DeviceFailed) as failed:
        put(images.inspect(in_pieces(late.read_bytes())), full, capacity=PROMISED, budget=0)
    assert (failed.value.device, failed.value.action) == (full, "writing")
    assert failed.value.reason in FULL
    assert failed.value.offset is not None
    assert failed.value.offset >= SIZE


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_an_image_that_is_too_large_is_refused_before_the_first_write_or_ends_at_the_capacity(
    used: UsedDisk, shelf: Shelf, server: WebServer, form: str, way: Way
) -> None:
    capacity = SIZE - 512
    file = shelf.raw if form == "raw" else shelf.image(LATE)
    with offered(way, file, server) as source:
        image = images.inspect(source)
        with pytest.raises(ImageTooLarge) as failed:
            images.write_image(image, used.node, capacity=capacity)
    assert failed.value.available == capacity
    known = form == "qcow2" or way not in STREAMS
    assert failed.value.wanted == SIZE
    assert used.is_untouched(0 if known else capacity)


@pytest.mark.parametrize("room", [0, 512, 300 * KIB])
def test_what_has_to_wait_and_has_no_room_is_not_put_behind_the_capacity(
    used: UsedDisk, shelf: Shelf, room: int
) -> None:
    image = images.inspect(in_pieces(shelf.image(LATE).read_bytes()))
    _, watched = put(image, used.node, capacity=SIZE + room, budget=100 * KIB)
    assert watched.room
    assert used.contents(0, SIZE) == shelf.disk(LATE)
    assert used.is_untouched(SIZE + room)
    image = images.inspect(in_pieces(shelf.image(LATE).read_bytes()))
    with pytest.raises(ImageOrderUnsupported):
        put(image, used.node, capacity=SIZE + room, budget=100 * KIB, spill_end=0)
    assert used.is_untouched(SIZE + room)


@pytest.mark.parametrize("layout", ["convert, odd size", "convert -c, odd size", "convert, odd size, extended L2"])
def test_a_capacity_that_just_suffices(used: UsedDisk, shelf: Shelf, server: WebServer, layout: str) -> None:
    for way in Way:
        with offered(way, shelf.image(layout), server) as source:
            images.write_image(images.inspect(source), used.node, capacity=ODD_SIZE)
        assert used.contents(0, ODD_SIZE) == shelf.disk(layout)
        assert used.is_untouched(ODD_SIZE)


NOTHING_CAN_BE_MADE = """
mount --make-rprivate /
while read -r _ _ _ _ where _; do
    case $where in /proc*) ;; *) mount -o remount,bind,ro "$where" ;; esac
done < /proc/self/mountinfo
for folder in "$TMPDIR" /tmp /var/tmp /dev/shm "$PWD" "$HOME"; do
    touch "$folder/new" && exit 9
done
exec "$@"
"""
"""Runs a program where no file system can be written to. Disks still can: their nodes are only looked up in one."""


@pytest.mark.parametrize("way", [Way.FILE, Way.PARTS, Way.NO_PARTS, Way.PIPE])
@pytest.mark.parametrize("form", ["raw", "qcow2", "zstd"])
def test_no_file_is_made_anywhere(
    used: UsedDisk, shelf: Shelf, server: WebServer, tmp_path: Path, form: str, way: Way
) -> None:
    file = tmp_path / "image"
    file.write_bytes((shelf.raw if form == "raw" else shelf.image(LATE)).read_bytes())
    if form == "zstd":
        file = packed(file, "zstd")
    argv = ["unshare", "--mount", "sh", "-c", NOTHING_CAN_BE_MADE, "sh"]
    argv += [sys.executable, "-m", "tests.support.write_image"]
    with offered(way, file, server) as source:
        pipe = source if isinstance(source, FileIO) else None
        done = subprocess.run(
            [*argv, "-" if pipe else str(source), used.node, str(CAPACITY)],
            stdin=pipe,
            env=os.environ | {"TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == str(SIZE)
    assert used.contents(0, SIZE) == (shelf.raw.read_bytes() if form == "raw" else shelf.disk(LATE))
