"""Any image with a GPT or an MBR, on any disk at least as large: its table is valid, its partitions are the image's.

The images' tables are sfdisk's, and sfdisk and sgdisk say what became of them.
"""

from __future__ import annotations

import random
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from libironic_disk.errors import LayoutDoesNotFit, TableLimit
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.wholedisks.changes import Changes, Wishes
from libironic_disk.units import KIB, MIB
from libironic_disk.wholedisk.reading import Place, changes_of
from tests.support import oracles
from tests.support.oracles import Row, SfdiskTable

SECTOR = 512
MOST = 12 * MIB // SECTOR


@dataclass(frozen=True)
class Image:
    """What sfdisk is asked for: lines of its script, and the number of sectors."""

    label: str
    rows: tuple[str, ...]
    sectors: int


@st.composite
def images(draw: st.DrawFn) -> Image:
    """Return an image whose partitions are anywhere, with holes between them, some of them logical."""
    label = draw(st.sampled_from(["gpt", "dos"]))
    sectors = draw(st.integers(4 * MIB // SECTOR, MOST))
    cuts = sorted(draw(st.sets(st.integers(2048, sectors - 40), min_size=2, max_size=14)))
    spans = [(first, end - first) for first, end in [*pairwise(cuts)][::2]]
    if label == "gpt":
        numbers = sorted(draw(st.sets(st.integers(1, 128), min_size=len(spans), max_size=len(spans))))
        rows = [f"{n}: start={at}, size={size}" for n, (at, size) in zip(numbers, spans, strict=True)]
        return Image(label=label, rows=tuple(rows), sectors=sectors)
    primaries = spans[: draw(st.sampled_from([1, 3, 4]))]
    rows = [f"start={at}, size={size}, type=83" for at, size in primaries]
    logical = [(at, size) for at, size in spans[len(primaries) :] if size > 8]
    if len(primaries) < 4 and logical:
        start = sum(primaries[-1])
        rows.append(f"start={start}, size={sum(logical[-1]) - start}, type=f")
        # Each behind a record of its own.
        rows += [f"start={at + 4}, size={size - 4}, type=83" for at, size in logical]
    return Image(label=label, rows=tuple(rows), sectors=sectors)


@contextmanager
def disk_of(image: Image, disk_size: int) -> Iterator[tuple[Path, bytes]]:
    """Give a disk with the image on it, and the image."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        path = Path(folder) / "disk"
        path.write_bytes(random.Random(image.sectors).randbytes(image.sectors * SECTOR))
        script = "\n".join([f"label: {image.label}", *image.rows])
        argv = ["sfdisk", "--quiet", "--no-reread", "--wipe", "always", str(path)]
        made = subprocess.run(argv, input=script, text=True, capture_output=True, check=False)
        assume(made.returncode == 0)
        original = path.read_bytes()
        with path.open("r+b") as file:
            file.truncate(disk_size)
        yield path, original


def finished(path: Path, wishes: Wishes) -> Changes | None:
    """Do to a file what is done to a disk."""
    disk = bytearray(path.read_bytes())

    def read(offset: int, length: int) -> bytes:
        return bytes(disk[offset : offset + length])

    place = Place(name="disk", size=len(disk), sector_size=SECTOR)
    done = changes_of(read, place, wishes, image="image", is_drive=lambda part: False)
    for offset, data in done.extents if done else ():
        assert offset >= 0
        assert offset + len(data) <= len(disk)
        disk[offset : offset + len(data)] = data
    path.write_bytes(disk)
    return done


def kind_of(image: Image, number: int) -> str:
    return "gpt" if image.label == "gpt" else "dos, logical" if number > 4 else "dos, primary"


def is_container(row: Row) -> bool:
    return row.type_id in ("5", "f")


def without_containers(table: SfdiskTable) -> list[Row]:
    return [row for row in table.rows if not is_container(row)]


def assert_same(before: Sequence[Row], after: Sequence[Row], grown: ByteRange | None) -> None:
    """Assert that every partition is there as it was, but for one that may have grown."""
    kept = {row.start: row for row in after}
    for row in before:
        now = kept[row.start]
        same_but_size = [(r.start, r.type_id, r.uuid, r.name, r.bootable, r.attributes) for r in (row, now)]
        assert same_but_size[0] == same_but_size[1]
        if grown is not None and grown.start == row.start * SECTOR:
            assert now.size > row.size
            assert (now.start + now.size) * SECTOR == grown.end
        else:
            assert now.size == row.size


@given(
    image=images(),
    more=st.one_of(st.just(0), st.integers(0, 300), st.integers(0, 8 * MIB // SECTOR)),
    drive=st.one_of(st.just(0), st.integers(1, 3 * MIB)),
    grow=st.booleans(),
)
@settings(max_examples=60)
def test_the_table_is_valid_and_the_partitions_are_the_images(image: Image, more: int, drive: int, grow: bool) -> None:
    size = (image.sectors + more) * SECTOR
    with disk_of(image, size) as (path, original):
        before = oracles.sfdisk(str(path))
        wishes = Wishes.of(drive_size=drive, grow=grow, seed=b"property")
        try:
            done = finished(path, wishes)
        except (LayoutDoesNotFit, TableLimit):
            # Whether that was right, the tests of layouts with room for exactly so many bytes say.
            assert drive > 0
            event("refused")
            return
        found = oracles.sfdisk(str(path))
        if image.label == "gpt":
            oracles.check_gpt(str(path))
        assert (found.label, found.disk_id) == (before.label, before.disk_id)
        last = None if done is None else done.grown
        if last is not None:
            event(f"grown on {kind_of(image, last.number)}")
        grown = ByteRange(last.start, last.end) if last is not None else None
        rows = without_containers(found)
        assert_same(without_containers(before), rows, grown)
        added = [row for row in rows if row.start not in {old.start for old in before.rows}]
        if drive:
            assert done is not None
            assert done.drive is not None
            (new,) = added
            event(
                f"drive on {image.label}, {'logical' if done.drive.number > 4 and image.label == 'dos' else 'primary'}"
            )
            assert (new.start * SECTOR, new.size * SECTOR) == (done.drive.start, done.drive.size)
            assert drive <= new.size * SECTOR < drive + SECTOR
        else:
            assert not added
        spans = sorted((row.start, row.start + row.size) for row in rows)
        assert all(one[1] <= two[0] for one, two in pairwise(spans))
        assert_contents(path, original, without_containers(before))


def assert_contents(path: Path, original: bytes, rows: Sequence[Row]) -> None:
    """Assert that every byte of every partition is the image's, and its boot code and the gap behind it too."""
    now = path.read_bytes()
    for row in rows:
        first, end = row.start * SECTOR, (row.start + row.size) * SECTOR
        same = now[first:end] == original[first:end]
        assert same
    assert now[:440] == original[:440]
    assert now[20 * KIB : MIB] == original[20 * KIB : MIB]


@given(image=images(), more=st.integers(0, 8 * MIB // SECTOR))
@settings(max_examples=15)
def test_a_second_time_changes_nothing(image: Image, more: int) -> None:
    with disk_of(image, (image.sectors + more) * SECTOR) as (path, _):
        wishes = Wishes.of(drive_size=0, grow=True, seed=b"property")
        finished(path, wishes)
        once = path.read_bytes()
        finished(path, wishes)
        twice = path.read_bytes()
        assert once == twice
