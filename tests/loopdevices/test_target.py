"""What is written to a real device by several threads at once, and what reading it back finds out."""

from __future__ import annotations

import errno
import mmap
import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libironic_disk.errors import Cancelled, DeviceFailed, DeviceReadOnly
from libironic_disk.events import Cancellation
from libironic_disk.machine.images import direct, file_ranges, page_cache
from libironic_disk.machine.images import target as target_module
from libironic_disk.machine.images.direct import DirectWriter
from libironic_disk.machine.images.page_cache import CachedWriter
from libironic_disk.machine.images.target import Target, open_target
from libironic_disk.units import KIB, MIB
from tests.conftest import Bench
from tests.support.disks import attach

pytestmark = pytest.mark.loopdevice

# Not a multiple of a page, as disks of 512-byte sectors and files needn't be.
SIZE = 2 * MIB + 512
EVEN = 2 * MIB + 4096
# Where the partitions of old disks begin: the pages of the partition are not those of the disk.
BEFORE = 63 * 512
OLD = b"\xaa"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Something to write to, and where its bytes are then found in a file."""

    path: str
    size: int
    file: Path
    start: int = 0
    regular_file: bool = False

    def fill(self) -> None:
        """Fill it by another way, which leaves pages of it in the kernel's memory."""
        with Path(self.path).open("r+b", buffering=0) as file:
            assert file.write(OLD * self.size) == self.size
            os.fsync(file.fileno())

    def contents(self) -> bytes:
        """Return its bytes as the file behind it has them."""
        with self.file.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)


PLACES = (
    "loop-512-on-tmpfs",
    "loop-4096-on-tmpfs",
    "loop-512-on-disk",
    "loop-4096-on-disk",
    "odd-partition",
    "file-on-tmpfs",
    "file-on-disk",
)


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    kind: str = request.param
    with ExitStack() as releases:
        folder = tmp_path_factory.mktemp("target")
        if kind.endswith("tmpfs"):
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16M", "tmpfs", str(folder)], check=True)
            releases.callback(subprocess.run, ["umount", str(folder)], check=True)
        file = folder / "disk.img"
        size = EVEN if "4096" in kind else SIZE
        file.write_bytes(bytes(BEFORE + size) if kind == "odd-partition" else bytes(size))
        if kind.startswith("file"):
            yield Place(path=str(file), size=size, file=file, regular_file=True)
            return
        disk = releases.enter_context(attach(file, 4096 if "4096" in kind else 512))
        if kind.startswith("loop"):
            yield Place(path=disk.node, size=size, file=file)
            return
        subprocess.run(["addpart", disk.node, "1", str(BEFORE // 512), str(size // 512)], check=True)
        yield Place(path=f"{disk.node}p1", size=size, file=file, start=BEFORE)


class Job(NamedTuple):
    """A range and what is to happen to it: nothing, zeros, or bytes in one of three sorts of memory."""

    start: int
    end: int
    kind: str


@st.composite
def jobs(draw: st.DrawFn) -> list[Job]:
    """Draw ranges that don't overlap, in any order; half of the edges are near to those of pages."""
    anywhere = st.integers(0, SIZE)
    near_pages = st.builds(lambda page, off: page * 4096 + off, st.integers(0, 512), st.sampled_from([-512, -1, 0, 1]))
    cuts = {0, SIZE} | draw(st.sets((anywhere | near_pages).filter(lambda at: 0 <= at <= SIZE), max_size=12))
    kind = st.sampled_from(["leave", "zero", "bytes", "aligned", "misaligned"])
    edges = sorted(cuts)
    return draw(st.permutations([Job(a, b, draw(kind)) for a, b in pairwise(edges)]))


def random_bytes(job: Job) -> bytes:
    return random.Random(job.start).randbytes(job.end - job.start)


def act(target: Target, job: Job) -> None:
    """Do what the job says."""
    length = job.end - job.start
    match job.kind:
        case "leave":
            pass
        case "zero":
            target.zero(job.start, length)
        case "bytes":
            target.write(job.start, memoryview(random_bytes(job)))
        case _:
            # So far into a page of memory as into one of the disk, or not.
            skew = job.start % 4096 + (job.kind == "misaligned")
            with mmap.mmap(-1, skew + length) as memory, memoryview(memory)[skew : skew + length] as data:
                data[:] = random_bytes(job)
                target.write(job.start, data)


def model(size: int, done: Sequence[Job]) -> bytearray:
    """Return what a disk full of old bytes has afterwards."""
    expected = bytearray(OLD * size)
    for job in done:
        if job.kind != "leave":
            expected[job.start : job.end] = bytes(job.end - job.start) if job.kind == "zero" else random_bytes(job)
    return expected


@settings(max_examples=40)
@given(
    jobs=jobs(), where=st.floats(0, 1, exclude_max=True), direct_from=st.sampled_from([1, target_module._DIRECT_FROM])
)
def test_any_ranges_written_by_four_threads_equal_the_model(
    place: Place, jobs: list[Job], where: float, direct_from: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target_module, "_DIRECT_FROM", direct_from)
        check_against_the_model(place, jobs, where)


def check_against_the_model(place: Place, jobs: list[Job], where: float) -> None:
    place.fill()
    reported: list[int] = []
    done = [job for job in jobs if job.kind != "leave"]
    total = sum(job.end - job.start for job in done)
    with open_target(place.path, capacity=SIZE, regular_file=place.regular_file, recording=True) as target:
        with ThreadPoolExecutor(4) as threads:
            for _ in threads.map(lambda job: act(target, job), jobs):
                pass
        target.flush()
        assert place.contents() == model(place.size, jobs)
        target.verify(cancel=None, moved=reported.append)
        assert reported == sorted(reported)
        assert reported[-1:] == ([total] if total else [])
        if done:
            changed = done[int(where * len(done))]
            at = changed.start + int(where * (changed.end - changed.start))
            change(place, at)
            with pytest.raises(DeviceFailed, match="not the bytes that were written") as failed:
                target.verify(cancel=None, moved=reported.append)
            assert failed.value.action == "reading back from"
            assert failed.value.offset == (at if changed.kind == "zero" else changed.start)


def change(place: Place, at: int) -> None:
    """Change a byte where the kernel's memory of the device doesn't see it."""
    with place.file.open("r+b", buffering=0) as file:
        file.seek(place.start + at)
        old = file.read(1)
        file.seek(place.start + at)
        file.write(bytes([old[0] ^ 0x40]))
        os.fsync(file.fileno())


def test_what_is_only_in_the_cache_is_read_back_from_the_disk_as_well(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "reopened", lambda descriptor: None)
    place.fill()
    with open_target(place.path, capacity=SIZE, regular_file=place.regular_file, recording=True) as target:
        target.write(1000, memoryview(b"x" * MIB))
        target.verify(cancel=None, moved=lambda count: None)
        change(place, 5000)
        with pytest.raises(DeviceFailed, match="at byte 1000 failed: these are not the bytes"):
            target.verify(cancel=None, moved=lambda count: None)


@pytest.mark.parametrize("capacity", [SIZE - 1, MIB + 77, MIB, 100, 0])
def test_nothing_behind_the_capacity_changes(place: Place, capacity: int) -> None:
    place.fill()
    with open_target(place.path, capacity=capacity, regular_file=place.regular_file) as target:
        target.write(0, memoryview(b"x" * (capacity // 2)))
        target.zero(capacity // 2, capacity - capacity // 2)
        with pytest.raises(DeviceFailed, match=f"only {capacity} bytes may be written"):
            target.write(capacity, memoryview(b"x"))
        with pytest.raises(DeviceFailed, match=f"only {capacity} bytes may be written"):
            target.zero(capacity, 1)
        target.flush()
    zeros = bytes(capacity - capacity // 2)
    assert place.contents() == b"x" * (capacity // 2) + zeros + OLD * (place.size - capacity)


LADDER = ("punch hole", "zero range", "zero out", "written")


@pytest.mark.parametrize("refused", range(4), ids=LADDER)
def test_each_way_of_zeroing_zeroes_exactly_its_range(
    place: Place, refused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []
    allocate, zero_out = file_ranges.allocate, file_ranges.zero_out

    def attempt(way: str) -> None:
        if way in LADDER[:refused]:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        used.append(way)

    def watched_allocate(descriptor: int, mode: int, start: int, length: int) -> None:
        attempt("punch hole" if mode & file_ranges.PUNCH_HOLE else "zero range")
        allocate(descriptor, mode, start, length)

    def watched_zero_out(descriptor: int, start: int, length: int) -> None:
        attempt("zero out")
        zero_out(descriptor, start, length)

    monkeypatch.setattr(file_ranges, "allocate", watched_allocate)
    monkeypatch.setattr(file_ranges, "zero_out", watched_zero_out)
    place.fill()
    with open_target(place.path, capacity=SIZE, regular_file=place.regular_file) as target:
        target.zero(1000, MIB)
        target.flush()
    assert place.contents() == OLD * 1000 + bytes(MIB) + OLD * (place.size - MIB - 1000)
    assert used[:1] == list(LADDER[refused:3])[:1]


def test_holes_are_given_back_by_the_file_behind_the_disk(bench: Bench, sector_size: int) -> None:
    disk = bench.disk(64 * MIB, sector_size)
    with open_target(disk.node, capacity=64 * MIB) as target:
        target.write(0, memoryview(b"x" * 64 * MIB))
        target.flush()
        assert disk.file.stat().st_blocks * 512 >= 64 * MIB
        target.zero(0, 60 * MIB)
    assert disk.file.stat().st_blocks * 512 < 5 * MIB


def test_a_read_only_disk_is_refused(bench: Bench, sector_size: int) -> None:
    disk = bench.disk(MIB, sector_size, read_only=True)
    with pytest.raises(DeviceReadOnly), open_target(disk.node, capacity=MIB):
        pass


@contextmanager
def full_disk(folder: Path, sector_size: int) -> Iterator[str]:
    """Give a loop device for whose 48 MiB there is only a tmpfs of 4."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", str(folder)], check=True)
    try:
        file = folder / "disk.img"
        with file.open("wb") as sparse:
            sparse.truncate(48 * MIB)
        with attach(file, sector_size) as disk:
            yield disk.node
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("step", [4 * KIB, MIB], ids=["cached", "direct"])
def test_a_write_that_the_disk_loses_is_an_error(tmp_path: Path, sector_size: int, step: int) -> None:
    with full_disk(tmp_path, sector_size) as node, open_target(node, capacity=48 * MIB) as target:
        data = memoryview(os.urandom(MIB))
        with pytest.raises(DeviceFailed) as failed:
            for offset in range(0, 48 * MIB, step):
                target.write(offset, data[:step])
            target.flush()
    assert failed.value.device == node
    assert failed.value.reason in {os.strerror(errno.EIO), os.strerror(errno.ENOSPC)}
    if step == MIB:
        # The write itself failed, at the first place for which there was no room.
        assert failed.value.action == "writing"
        assert failed.value.offset is not None
        assert 2 * MIB <= failed.value.offset <= 4 * MIB


def test_zeros_that_the_disk_loses_are_an_error(
    tmp_path: Path, sector_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(file_ranges, "allocate", refuse)
    monkeypatch.setattr(file_ranges, "zero_out", refuse)
    with (
        full_disk(tmp_path, sector_size) as node,
        open_target(node, capacity=48 * MIB) as target,
        pytest.raises(DeviceFailed) as failed,
    ):
        target.zero(0, 48 * MIB)
    assert failed.value.action == "zeroing"
    assert failed.value.offset == 0


@pytest.mark.parametrize("length", [4096, 300 * KIB + 13], ids=["cached", "direct"])
def test_what_was_put_aside_is_recalled_and_not_verified(place: Place, length: int) -> None:
    place.fill()
    aside, after = os.urandom(length), os.urandom(MIB)
    with open_target(place.path, capacity=SIZE, regular_file=place.regular_file, recording=True) as target:
        target.scratch(4000, memoryview(aside))
        assert target.recall(4000, length) == aside
        assert target.recall(4100, 50) == aside[100:150]
        target.write(0, memoryview(after))
        target.verify(cancel=None, moved=lambda count: None)
        assert target.recall(4000, length) == after[4000 : 4000 + length]
    assert place.contents() == after + OLD * (place.size - MIB)


def test_reading_back_can_be_cancelled_between_steps(bench: Bench, sector_size: int) -> None:
    size = 40 * MIB
    disk = bench.disk(size, sector_size)
    cancel = Cancellation()
    reported: list[int] = []

    def moved(count: int) -> None:
        reported.append(count)
        if len(reported) == 3:
            cancel.cancel()

    with open_target(disk.node, capacity=size, recording=True) as target:
        target.write(0, memoryview(b"x" * 10 * MIB))
        for offset in range(10 * MIB, size, MIB):
            target.zero(offset, MIB)
        with pytest.raises(Cancelled):
            target.verify(cancel=cancel, moved=moved)
        assert reported == [4 * MIB, 8 * MIB, 10 * MIB]
        reported.clear()
        target.verify(cancel=None, moved=reported.append)
        assert reported[-1] == size


def test_a_target_that_remembers_nothing_cannot_be_verified(bench: Bench) -> None:
    disk = bench.disk(MIB, 512)
    with open_target(disk.node, capacity=MIB) as target, pytest.raises(ValueError, match="recording=True"):
        target.verify(cancel=None, moved=lambda count: None)


def test_what_the_kernel_refuses_to_write_directly_is_not_tried_again(bench: Bench) -> None:
    disk = bench.disk(MIB, 4096)
    descriptor = os.open(disk.node, os.O_RDWR)
    uncached = direct.reopened(descriptor)
    assert uncached is not None
    # Told a grain that the disk doesn't have, it runs into the kernel's own refusal.
    writer = DirectWriter(uncached, 512)
    assert writer.write(0, memoryview(b"x" * 4096)) == 4096
    assert writer.write(4096, memoryview(b"x" * 512)) == 0
    assert writer.write(4096, memoryview(b"x" * 4096)) == 0
    writer.close()
    assert os.pread(descriptor, 8192, 0) == b"x" * 4096 + bytes(4096)
    os.close(uncached)
    os.close(descriptor)


def test_threads_that_write_through_the_cache_leave_little_of_it_dirty(
    bench: Bench, sector_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 200 * MIB
    disk = bench.disk(size, sector_size)
    ahead: list[int] = []
    waited: list[int] = []
    begun: list[int] = []
    synchronise = file_ranges.synchronise

    def watched(descriptor: int, flags: int, start: int, length: int) -> None:
        synchronise(descriptor, flags, start, length)
        if flags & file_ranges.SYNC_WAIT_AFTER:
            waited.append(length)
            ahead.append(sum(begun) - sum(waited))

    monkeypatch.setattr(file_ranges, "synchronise", watched)
    descriptor = os.open(disk.node, os.O_RDWR)
    writer = CachedWriter(descriptor)
    data = memoryview(os.urandom(64 * KIB))

    def write(offset: int) -> None:
        begun.append(len(data))
        writer.write(offset, data)

    with ThreadPoolExecutor(4) as threads:
        for _ in threads.map(write, range(0, size, len(data))):
            pass
    assert len(ahead) == size // (32 * MIB) - 1
    assert max(ahead) <= 2 * page_cache._WINDOW + 4 * len(data)
    os.close(descriptor)
    assert disk.file.read_bytes() == bytes(data) * (size // len(data))
