"""Compressed images onto used disks: unpacked as they come, and never taken for whole where they aren't."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator
from itertools import cycle, product
from pathlib import Path
from random import Random

import pytest

from libironic_disk import images
from libironic_disk.errors import ImageDamaged, ImageRefused, ImageTooLarge
from libironic_disk.units import KIB, MIB
from tests.support.disks import LoopDisk
from tests.support.image_sources import Way, offered
from tests.support.qcow2_images import raw_image
from tests.support.qcow2_layouts import after, converted, resized
from tests.support.used_disks import assert_behind, assert_given_once, assert_same, fill, put, used_disks
from tests.support.webserver import WebServer
from tests.support.written import PACKERS, packed

pytestmark = pytest.mark.loopdevice

SIZE = 3 * MIB
CAPACITY = 10 * MIB
NAMES = ("raw", "late", "compressed")
PACKS = list(product(NAMES, PACKERS))
# All sources for each program, and each image with all of them.
CASES = [(name, pack, way) for name, (pack, way) in zip(cycle(NAMES), product(PACKERS, Way), strict=False)]


@pytest.fixture(scope="module")
def disks() -> Iterator[dict[int, LoopDisk]]:
    with used_disks(CAPACITY + MIB) as disks:
        yield disks


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a raw image and two of qcow2, one with its tables at the end, of one disk."""
    folder = tmp_path_factory.mktemp("plain")
    raw = raw_image(folder / "source", size=SIZE - MIB)
    after(converted("-o", "cluster_size=4k"), resized(SIZE))(raw, folder / "late")
    after(converted("-c"), resized(SIZE))(raw, folder / "compressed")
    os.truncate(raw, SIZE)
    raw.rename(folder / "raw")
    return folder


@pytest.fixture(scope="module")
def packs(plain: Path) -> dict[tuple[str, str], Path]:
    """What each program makes of each image."""
    return {(name, pack): packed(plain / name, pack) for name, pack in PACKS}


@pytest.mark.parametrize(("name", "pack", "way"), CASES)
def test_a_compressed_image_is_unpacked_on_its_way(
    disks: dict[int, LoopDisk],
    plain: Path,
    packs: dict[tuple[str, str], Path],
    server: WebServer,
    name: str,
    pack: str,
    way: Way,
) -> None:
    file = packs[name, pack]
    used = fill(disks[4096], CAPACITY + MIB)
    with offered(way, file, server) as source:
        image = images.inspect(source)
        assert image.compression == pack
        streamed, watched = put(image, used.node, capacity=CAPACITY, budget=200 * KIB)
    assert (streamed.size, streamed.read) == (SIZE, file.stat().st_size)
    assert bool(watched.room) == (name == "late")
    assert_same(plain / "raw", SIZE, used, "raw")
    assert_given_once(SIZE, watched)
    assert_behind(SIZE, used, watched)


@pytest.mark.parametrize(("name", "pack"), PACKS)
def test_several_streams_that_follow_each_other_are_one_image(
    disks: dict[int, LoopDisk], plain: Path, tmp_path: Path, name: str, pack: str
) -> None:
    whole = (plain / name).read_bytes()
    cuts = [0, 1, len(whole) // 3, len(whole)]
    file = tmp_path / "image"
    with file.open("wb") as image:
        for number in range(3):
            part = tmp_path / str(number)
            part.write_bytes(whole[cuts[number] : cuts[number + 1]])
            image.write(packed(part, pack).read_bytes())
    used = fill(disks[512], CAPACITY)
    put(images.inspect(file), used.node, capacity=CAPACITY)
    assert_same(plain / "raw", SIZE, used, "raw")


@pytest.mark.parametrize(("name", "pack"), PACKS)
def test_compressed_data_that_is_cut_off_or_followed_by_something_is_damaged(
    disks: dict[int, LoopDisk],
    packs: dict[tuple[str, str], Path],
    server: WebServer,
    tmp_path: Path,
    name: str,
    pack: str,
) -> None:
    whole = packs[name, pack].read_bytes()
    wrong = [whole[:-1], whole[:-12], whole[: len(whole) // 2], whole + b"garbage", whole + whole[:3]]
    wrong.append(whole + bytes(3) if pack == "xz" else whole + bytes(2048) + b"\1")
    file = tmp_path / "image"
    used = fill(disks[512], CAPACITY + MIB)
    for body, way in zip(wrong, cycle(Way), strict=False):
        file.write_bytes(body)
        with offered(way, file, server) as source, pytest.raises(ImageDamaged):
            put(images.inspect(source), used.node, capacity=CAPACITY)
    assert used.is_untouched(CAPACITY)


@pytest.mark.parametrize(("form", "pack"), [("raw", "gzip"), ("qcow2", "xz"), ("qcow2", "zstd"), ("raw", "bzip2")])
def test_what_only_the_end_of_compressed_data_shows_is_no_success(
    disks: dict[int, LoopDisk], server: WebServer, tmp_path: Path, form: str, pack: str
) -> None:
    file = tmp_path / "raw"
    file.write_bytes(Random(1).randbytes(4 * MIB + 100 * KIB))
    if form == "qcow2":
        converted("-S", "0")(file, tmp_path / "qcow2")
        file = tmp_path / "qcow2"
    whole = packed(file, pack).read_bytes()
    used = fill(disks[512], CAPACITY + MIB)
    for body, way in ((whole[:-1], Way.PIPE), (whole[:-9], Way.FILE), (whole + b"\1", Way.PARTS)):
        file.write_bytes(body)
        with offered(way, file, server) as source:
            # It doesn't look that far.
            image = images.inspect(source)
            with pytest.raises(ImageDamaged):
                put(image, used.node, capacity=CAPACITY)
    assert used.is_untouched(CAPACITY)


@pytest.mark.parametrize(("pack", "length"), [("gzip", 5), ("xz", 4)])
def test_padding_as_tapes_and_xz_have_it_is_passed_over(
    disks: dict[int, LoopDisk], plain: Path, packs: dict[tuple[str, str], Path], pack: str, length: int
) -> None:
    used = fill(disks[512], SIZE)
    put(images.inspect(io.BytesIO(packs["raw", pack].read_bytes() + bytes(length))), used.node, capacity=SIZE)
    assert_same(plain / "raw", SIZE, used, "raw")


@pytest.mark.parametrize("pack", PACKERS)
def test_what_unpacks_to_more_than_there_is_room_for_is_refused(
    disks: dict[int, LoopDisk], packs: dict[tuple[str, str], Path], tmp_path: Path, pack: str
) -> None:
    (tmp_path / "zeros").write_bytes(bytes(16 * MIB))
    bomb = packed(tmp_path / "zeros", pack).read_bytes() * 1000
    used = fill(disks[4096], CAPACITY + MIB)
    with pytest.raises(ImageTooLarge):
        put(images.inspect(io.BytesIO(bomb)), used.node, capacity=CAPACITY - 4096)
    # A disk of 3 MiB needs no file of 16 GiB.
    with pytest.raises(ImageRefused, match="more than twice the size of its disk"):
        put(images.inspect(io.BytesIO(packs["compressed", pack].read_bytes() + bomb)), used.node, capacity=CAPACITY)
    assert used.is_untouched(CAPACITY - 4096)


def test_what_takes_too_much_memory_to_unpack_is_refused(disks: dict[int, LoopDisk], plain: Path) -> None:
    with (plain / "raw").open("rb") as file:
        greedy = subprocess.run(["zstd", "-1", "--long=28"], stdin=file, capture_output=True, check=True).stdout
    used = fill(disks[512], CAPACITY)
    with pytest.raises(ImageRefused, match="more than the 128 MiB of memory"):
        put(images.inspect(io.BytesIO(greedy)), used.node, capacity=CAPACITY)
    assert used.is_untouched()
