"""How much memory a large image takes on its way to a disk: no more than a small one with the same data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from libironic_disk.pure.images.qcow2_stream import STASH_BUDGET
from libironic_disk.units import GIB, MIB
from tests.conftest import Bench
from tests.support.image_sources import Way, offered, piped
from tests.support.oracles import output
from tests.support.webserver import WebServer
from tests.support.wholedisks import with_tables_last

pytestmark = pytest.mark.loopdevice

SMALL, LARGE = GIB, 64 * GIB
PIECES = 160
"""How many MiB of data each image has: more than it may take of memory."""

MOST = 128 * MIB


class Memory(NamedTuple):
    """What a process had in memory at its largest, all in all and since it had loaded the library."""

    most: int
    grown: int


@pytest.fixture(scope="module")
def qcow2(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Images with the same data, evenly over disks of both sizes."""
    folder = tmp_path_factory.mktemp("images")
    piece = folder / "piece"
    piece.write_bytes(Random(1).randbytes(MIB))
    made = {size: folder / f"{size}.qcow2" for size in (SMALL, LARGE)}
    for size, path in made.items():
        output("qemu-img", "create", "-f", "qcow2", str(path), str(size))
        commands = (f"write -s {piece} {number * (size // PIECES // MIB * MIB)} 1M" for number in range(PIECES))
        output("qemu-io", "-f", "qcow2", *(word for command in commands for word in ("-c", command)), str(path))
        assert path.stat().st_size > PIECES * MIB
    return made


def memory_of_writing(bench: Bench, image: Path, size: int, source: object) -> Memory:
    """Have another process write an image, see that it is on the disk, and return what that took.

    ``source`` is where it has it from; ``-`` is a pipe.
    """
    capacity = size + 200 * MIB
    disk = bench.disk(capacity, 512)
    argv = [sys.executable, "-m", "tests.support.write_image", str(source), disk.node, str(capacity)]
    with piped(image.read_bytes() if source == "-" else b"") as stdin:
        done = subprocess.run(argv, stdin=stdin, stdout=subprocess.PIPE, check=True, text=True)
    written, most, grown = map(int, done.stdout.split())
    assert written == size
    output("qemu-img", "compare", "-f", "qcow2", "-F", "raw", str(image), str(disk.file))
    return Memory(most, grown)


@pytest.mark.parametrize("way", [Way.FILE, Way.PARTS, Way.NO_PARTS])
def test_it_is_bounded_and_the_same_for_a_large_disk_and_a_small_one(
    bench: Bench, qcow2: dict[int, Path], server: WebServer, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for size, image in qcow2.items():
        with offered(way, image, server) as source:
            found[size] = memory_of_writing(bench, image, size, source)
    assert max(each.most for each in found.values()) < MOST
    assert abs(found[LARGE].grown - found[SMALL].grown) < 12 * MIB


def test_it_is_bounded_where_all_data_come_before_their_tables(bench: Bench, qcow2: dict[int, Path]) -> None:
    late = with_tables_last(qcow2[LARGE])
    found = memory_of_writing(bench, late, LARGE, "-")
    assert found.most < MOST
    # Clusters that wait have their share, and no more.
    assert STASH_BUDGET < found.grown < STASH_BUDGET + 40 * MIB
