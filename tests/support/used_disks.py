"""Disks that hold old data everywhere, images streamed onto them, and what is there afterwards."""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from libironic_disk.events import Cancellation, ignore
from libironic_disk.images import InspectedImage
from libironic_disk.machine.images.metering import Meter
from libironic_disk.machine.images.streaming import Streamed, stream
from libironic_disk.machine.images.target import Target, open_target
from libironic_disk.pure.images.qcow2_stream import STASH_BUDGET
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.units import MIB, align_up
from tests.support.disks import LoopDisk, attach
from tests.support.oracles import output

OLD = b"\xaa"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedDisk:
    """A loop disk, of which so many first bytes were filled with old data."""

    disk: LoopDisk
    filled: int

    @property
    def node(self) -> str:
        return self.disk.node

    def contents(self, start: int = 0, end: int | None = None) -> bytes:
        """Return what has reached the file behind the disk, of what was filled."""
        with self.disk.file.open("rb") as file:
            file.seek(start)
            return file.read((self.filled if end is None else end) - start)

    def is_untouched(self, start: int = 0) -> bool:
        """Whether there are old data from a byte on."""
        return self.contents(start) == OLD * (self.filled - start)


@contextmanager
def used_disks(size: int, sector_sizes: Sequence[int] = (512, 4096)) -> Iterator[dict[int, LoopDisk]]:
    """Give a disk of each sector size, to be filled before each use; in memory where that is possible."""
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=folder) as where, ExitStack() as releases:
        disks = {}
        for sector_size in sector_sizes:
            file = Path(where, f"{sector_size}.img")
            file.touch()
            os.truncate(file, size)
            disk = disks[sector_size] = releases.enter_context(attach(file, sector_size))
            # The last one who closes a disk has its cache written back; here nothing is that nobody flushed.
            releases.callback(os.close, os.open(disk.node, os.O_RDONLY))
        yield disks


def fill(disk: LoopDisk, size: int) -> UsedDisk:
    """Fill a disk with old data up to a whole MiB, past the kernel's cache, which is then empty."""
    descriptor = os.open(disk.node, os.O_WRONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, MIB) as old:
            old[:] = OLD * MIB
            filled = sum(os.pwrite(descriptor, old, at) for at in range(0, size, MIB))
    finally:
        os.close(descriptor)
    assert filled >= size
    return UsedDisk(disk=disk, filled=filled)


def assert_same(image: Path, size: int, used: UsedDisk, image_format: str = "qcow2") -> None:
    """Assert that QEMU reads the same from an image as from the first ``size`` bytes of what reached a disk."""
    output(
        *("qemu-img", "compare", "--image-opts"),
        f"driver={image_format},file.driver=file,file.filename={image}",
        f"driver=raw,size={size},file.driver=file,file.filename={used.disk.file}",
    )


class Watched:
    """A target that remembers which of its bytes were written, made zeros and used as room; see ``Writable``."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._lock = threading.Lock()
        self.name = target.name
        self.capacity = target.capacity
        self.given: list[ByteRange] = []
        """What was written or made zeros."""
        self.room: list[ByteRange] = []
        """What was used as room."""

    def write(self, offset: int, data: memoryview) -> None:
        self._remember(self.given, offset, len(data))
        self._target.write(offset, data)

    def zero(self, offset: int, length: int) -> None:
        self._remember(self.given, offset, length)
        self._target.zero(offset, length)

    def scratch(self, offset: int, data: memoryview) -> None:
        self._remember(self.room, offset, len(data))
        self._target.scratch(offset, data)

    def recall(self, offset: int, length: int) -> bytes:
        return self._target.recall(offset, length)

    def flush(self) -> None:
        self._target.flush()

    def _remember(self, where: list[ByteRange], offset: int, length: int) -> None:
        with self._lock:
            where.append(ByteRange(offset, offset + length))


def room_for(image: InspectedImage, file: Path) -> int:
    """Return the capacity that is room for an image, and for all of its file behind that."""
    assert image.header is not None
    return align_up(image.header.virtual_size, image.header.cluster_size) + align_up(file.stat().st_size, MIB)


def put(
    image: InspectedImage,
    node: str,
    *,
    capacity: int,
    budget: int = STASH_BUDGET,
    spill_end: int | None = None,
    cancel: Cancellation | None = None,
) -> tuple[Streamed, Watched]:
    """Stream an image onto a disk."""
    with open_target(node, capacity=capacity) as target:
        watched = Watched(target)
        meter = Meter(ignore, image.source.size, cancel)
        streamed = stream(image, watched, meter=meter, cancel=cancel, stash_budget=budget, spill_end=spill_end)
    return streamed, watched


def assert_given_once(size: int, watched: Watched) -> None:
    """Assert that every byte of an image was written or made zeros once."""
    within = [ByteRange(each.start, min(each.end, size)) for each in _joined(watched.given) if each.start < size]
    assert within == [ByteRange(0, size)]


def assert_behind(size: int, used: UsedDisk, watched: Watched) -> None:
    """Assert that behind an image there are old data, and zeros where there was something meanwhile."""
    expected = bytearray(OLD * (used.filled - size))
    if watched.room:
        (zeros,) = (each for each in _joined(watched.given) if each.end > size)
        assert all(zeros.start <= each.start and each.end <= zeros.end for each in watched.room)
        assert zeros.end == max(each.end for each in watched.room)
        start = max(size, zeros.start)
        expected[start - size : zeros.end - size] = bytes(zeros.end - start)
    assert used.contents(size) == expected


def _joined(ranges: list[ByteRange]) -> list[ByteRange]:
    """Return the same, as one what adjoins; nothing may be in two of them."""
    found: list[ByteRange] = []
    for each in sorted(ranges):
        if found and each.start <= found[-1].end:
            assert each.start == found[-1].end, f"byte {each.start} was given twice"
            found[-1] = ByteRange(found[-1].start, each.end)
        else:
            found.append(each)
    return found
