"""Disks that fail on request: device mapper between what the library sees and a sound disk.

The disk that the library sees is a loop device upon the mapping, past the page cache: an error of the mapping is one of
the disk's. What is really on the disk is read beside both.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.conftest import Bench
from tests.support import dm_log
from tests.support.disks import LoopDisk, attach, looped
from tests.support.oracles import output
from tests.support.udevd import settle, until

_SECTOR = 512
_NAME = "libironic_disk-test-faulty"
# It fails, or loses writes, for as long as the test runs: up for no time, down for days.
_ALWAYS_DOWN = "0 1000000"


class Fault(StrEnum):
    """What a place of a disk does."""

    DEAD = "error"
    """Nothing can be read or written."""
    NO_WRITE = "no write"
    """What is there can be read, and nothing can be written; nor can the disk be flushed."""
    LOST_WRITE = "lost write"
    """Writes seem to succeed, and what was there stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A range of a disk that has a fault, in bytes."""

    start: int
    end: int
    fault: Fault


class FaultyDisk:
    """A disk of which the test decides what fails; sound at first."""

    def __init__(self, sound: LoopDisk, node: str) -> None:
        self.sound = sound
        self.node = node
        self._sectors = int(output("blockdev", "--getsz", sound.node))

    @property
    def size(self) -> int:
        """Bytes."""
        return self._sectors * _SECTOR

    def break_at(self, places: Sequence[Place]) -> None:
        """Let these places fail from now on, and no others."""
        table = []
        at = 0
        for place in sorted(places, key=lambda each: each.start):
            start, end = place.start // _SECTOR, -(-place.end // _SECTOR)
            table += [self._linear(at, start), self._segment(start, end, place.fault)]
            at = end
        self._load([*table, self._linear(at, self._sectors)])

    def kill(self) -> None:
        """Let the disk die: nothing of it can be read or written."""
        self._load([f"0 {self._sectors} error"])

    @property
    def is_broken(self) -> bool:
        """Whether a place of it fails now."""
        kinds = {line.split()[2] for line in output("dmsetup", "table", _NAME).splitlines()}
        return bool(kinds - {"linear"})

    def mend(self) -> None:
        """Make it a sound disk again, with what is on it."""
        self._load([self._linear(0, self._sectors)])

    def fill(self, image: Path) -> None:
        """Give it the contents of a file of its size."""
        fill(self.sound, image)
        subprocess.run(["blockdev", "--flushbufs", self.node], check=True)

    def digest(self) -> str:
        """Return the SHA-256 of what is really on it."""
        return self.sound.digest()

    @contextmanager
    def really(self) -> Iterator[LoopDisk]:
        """Give what is really on it, as a disk of its own."""
        with attach(self.sound.file, self.sound.sector_size) as found:
            settle()
            yield found
            settle()

    @contextmanager
    def logged(self, log: LoopDisk) -> Iterator[None]:
        """Note each write; :func:`tests.support.dm_log.writes` reads ``log`` afterwards."""
        self._load([f"0 {self._sectors} log-writes {self.sound.node} {log.node}"])
        try:
            yield
        finally:
            self.mend()

    @contextmanager
    def dying_after(self, writes: int) -> Iterator[None]:
        """Let it die when it has had so many writes, or a few more: who counts them is another thread."""
        statistics = Path("/sys/class/block") / Path(f"/dev/mapper/{_NAME}").resolve().name / "stat"

        def written() -> int:
            return int(statistics.read_text().split()[4])

        over, limit = threading.Event(), written() + writes

        def watch() -> None:
            while not over.is_set():
                if written() >= limit:
                    self.kill()
                    return
                over.wait(0.001)

        thread = threading.Thread(target=watch, name="dying-after")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _linear(self, start: int, end: int) -> str:
        return f"{start} {end - start} linear {self.sound.node} {start}"

    def _segment(self, start: int, end: int, fault: Fault) -> str:
        head, beneath = f"{start} {end - start}", f"{self.sound.node} {start}"
        match fault:
            case Fault.DEAD:
                return f"{head} error"
            case Fault.NO_WRITE:
                return f"{head} flakey {beneath} {_ALWAYS_DOWN} 1 error_writes"
            case Fault.LOST_WRITE:
                return f"{head} flakey {beneath} {_ALWAYS_DOWN} 1 drop_writes"

    def _load(self, table: Sequence[str]) -> None:
        lines = "".join(f"{line}\n" for line in table if line.split()[1] != "0")
        subprocess.run(["dmsetup", "load", _NAME], input=lines, text=True, check=True)
        # A file system upon it must not be asked first: it may wait for the very writes that are to fail.
        output("dmsetup", "suspend", "--nolockfs", "--noflush", _NAME)
        output("dmsetup", "resume", _NAME)


@contextmanager
def faulty(bench: Bench, size: int, *, sector_size: int = 512) -> Iterator[FaultyDisk]:
    """Give a blank disk that can be broken and mended."""
    subprocess.run(["modprobe", "--all", "dm-flakey", "dm-log-writes"], check=True)
    sound = bench.disk(size, sector_size)
    with ExitStack() as stack:
        sectors = size // _SECTOR
        output("dmsetup", "create", _NAME, "--table", f"0 {sectors} linear {sound.node} 0")
        stack.callback(_remove)
        settle()
        yield FaultyDisk(sound, stack.enter_context(_looped(f"/dev/mapper/{_NAME}", sector_size)))


def fill(disk: LoopDisk, image: Path) -> None:
    """Give a disk the contents of a file of its size."""
    subprocess.run(["cp", "--sparse=always", image, disk.file], check=True)
    subprocess.run(["blockdev", "--flushbufs", disk.node], check=True)


@contextmanager
def _looped(mapping: str, sector_size: int) -> Iterator[str]:
    with looped(mapping, "--partscan", "--direct-io=on", "--sector-size", str(sector_size)) as node:
        try:
            settle()
            yield node
        finally:
            settle()
    assert until(lambda: not output("losetup", "--noheadings", "--associated", mapping).strip(), within=20)


def _remove() -> None:
    settle()
    output("dmsetup", "remove", "--retry", _NAME)


def written_places(log: LoopDisk, *, most: int = 4096) -> list[tuple[int, int]]:
    """Return where a run wrote, in the order in which it did: the beginning of each write, each place once."""
    places: dict[int, int] = {}
    for write in dm_log.writes(log.node):
        if write.data:
            places.setdefault(write.offset, min(len(write.data), most))
    return [(offset, offset + length) for offset, length in places.items()]
