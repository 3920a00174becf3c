"""Images onto used disks in one pass: every layout from every source, in whatever room there is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, product
from pathlib import Path
from random import Random

import pytest

from libironic_disk import images
from libironic_disk.errors import ImageOrderUnsupported
from libironic_disk.images import ImageFormat
from libironic_disk.pure.images.qcow2_stream import STASH_BUDGET
from libironic_disk.units import KIB, MIB
from tests.support.badserver import ImageServer
from tests.support.disks import LoopDisk
from tests.support.image_sources import Way, in_pieces, offered
from tests.support.qcow2_builder import Kind, Shape, build
from tests.support.qcow2_layouts import LATE, LAYOUTS, Shelf
from tests.support.used_disks import (
    assert_behind,
    assert_given_once,
    assert_same,
    fill,
    put,
    room_for,
    used_disks,
)
from tests.support.webserver import WebServer

pytestmark = pytest.mark.loopdevice

BUDGETS = {"default": STASH_BUDGET, "small": 200 * KIB, "none": 0}
SECTORS = (512, 4096)


@pytest.fixture(scope="module")
def disks() -> Iterator[dict[int, LoopDisk]]:
    with used_disks(36 * MIB) as disks:
        yield disks


# Every layout meets some of the combinations, every source all of them: the numbers of sources and of combinations have
# no divisor in common.
COMBINATIONS = cycle(product(BUDGETS, SECTORS))
CASES = [(*one, *other) for one, other in zip(product(LAYOUTS, Way), COMBINATIONS, strict=False)]


@pytest.mark.parametrize(("layout", "way", "budget", "sector_size"), CASES)
def test_ironic_9_18_every_layout_from_everywhere_in_whatever_room_there_is(
    disks: dict[int, LoopDisk], shelf: Shelf, server: WebServer, layout: str, way: Way, budget: str, sector_size: int
) -> None:
    file = shelf.image(layout)
    with offered(way, file, server) as source:
        image = images.inspect(source)
        assert image.format is ImageFormat.QCOW2
        capacity = room_for(image, file)
        used = fill(disks[sector_size], capacity + MIB)
        streamed, watched = put(image, used.node, capacity=capacity, budget=BUDGETS[budget])
    assert streamed.size == image.virtual_size
    assert streamed.read == file.stat().st_size
    assert streamed.written + streamed.zeroed == streamed.size
    assert used.contents(0, streamed.size) == shelf.disk(layout)
    assert_given_once(streamed.size, watched)
    assert_behind(streamed.size, used, watched)


@pytest.mark.parametrize("layout", LATE)
def test_what_comes_before_its_table_waits_behind_the_image_or_on_its_own_disk_or_the_image_is_refused(
    disks: dict[int, LoopDisk], shelf: Shelf, layout: str
) -> None:
    file = shelf.image(layout)
    image = images.inspect(in_pieces(file.read_bytes()))
    capacity = room_for(image, file)
    used = fill(disks[512], capacity + MIB)
    _, watched = put(image, used.node, capacity=capacity, budget=0)
    assert sum(each.size for each in watched.room) >= MIB
    assert all(each.start >= (image.virtual_size or 0) for each in watched.room)
    image = images.inspect(in_pieces(file.read_bytes()))
    with pytest.raises(ImageOrderUnsupported):
        put(image, used.node, capacity=capacity, budget=MIB // 2, spill_end=0)
    image = images.inspect(in_pieces(file.read_bytes()))
    assert image.virtual_size is not None
    used = fill(disks[512], capacity + MIB)
    streamed, watched = put(image, used.node, capacity=capacity, budget=0, spill_end=image.virtual_size)
    assert sum(each.size for each in watched.room) >= MIB
    # Neither end of the image's disk, where firmware looks.
    assert all(2 * MIB <= each.start <= each.end <= image.virtual_size - 2 * MIB for each in watched.room)
    assert used.contents(0, streamed.size) == shelf.disk(layout)
    assert_given_once(streamed.size, watched)
    assert used.is_untouched(streamed.size)


@pytest.mark.parametrize("layout", LATE)
def test_nothing_has_to_wait_where_tables_can_be_read_ahead(
    disks: dict[int, LoopDisk], shelf: Shelf, server: WebServer, layout: str
) -> None:
    for way in (Way.FILE, Way.PARTS):
        with offered(way, shelf.image(layout), server) as source:
            image = images.inspect(source)
            assert image.virtual_size is not None
            used = fill(disks[4096], image.virtual_size)
            _, watched = put(image, used.node, capacity=image.virtual_size, budget=512 * KIB)
        assert not watched.room
        assert used.contents(0, image.virtual_size) == shelf.disk(layout)


def test_a_server_that_tells_no_length_gives_all_of_it(
    disks: dict[int, LoopDisk], shelf: Shelf, server: WebServer
) -> None:
    for layout in ("used after a snapshot", "convert -c"):
        file = shelf.image(layout)
        image = images.inspect(ImageServer(server=server, body=file.read_bytes(), parts=False, chunked=True).url)
        capacity = room_for(image, file)
        used = fill(disks[512], capacity)
        streamed, watched = put(image, used.node, capacity=capacity, budget=0)
        assert used.contents(0, streamed.size) == shelf.disk(layout)
        assert_behind(streamed.size, used, watched)


SHAPES = (
    Shape(),
    Shape(zstd=True),
    Shape(version=2, cluster_bits=10),
    Shape(cluster_bits=12, short_by=5),
    Shape(cluster_bits=14, extended_l2=True, short_by=17),
    Shape(cluster_bits=14, extended_l2=True, zstd=True),
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("way", Way)
def test_parts_of_an_image_in_any_order(
    disks: dict[int, LoopDisk], server: WebServer, tmp_path: Path, way: Way, shape: Shape
) -> None:
    kinds = [kind for kind in Kind if shape.allows(kind)]
    for budget, sector_size in zip(BUDGETS, cycle(SECTORS), strict=False):
        random = Random(f"{way} {budget}")
        clusters = random.randrange(1, min(400, 3 * MIB >> shape.cluster_bits))
        built = build(shape, random.choices(kinds, k=clusters), random)
        file = tmp_path / "image.qcow2"
        file.write_bytes(built.file)
        with offered(way, file, server) as source:
            image = images.inspect(source)
            capacity = room_for(image, file)
            used = fill(disks[sector_size], capacity + MIB)
            streamed, watched = put(image, used.node, capacity=capacity, budget=BUDGETS[budget])
        assert used.contents(0, streamed.size) == built.disk
        assert_given_once(streamed.size, watched)
        assert_behind(streamed.size, used, watched)
    assert_same(file, streamed.size, used)
