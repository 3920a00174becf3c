"""Disks as they may be after a power cut: at each moment of a run, whatever of the last writes is on them.

What was flushed is there. Of what was written since then, any sectors may be there and others not, and a sector is
there whole or not at all. One file is changed in place and put back, as hundreds of copies of a disk would fill this
one.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from libironic_disk.pure.ranges import ByteRange, merged, without
from libironic_disk.units import MIB
from tests.support.disks import copied
from tests.support.faults import table
from tests.support.faults.walking import Row
from tests.support.write_log import Change, WriteLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A disk at one moment: ``name`` says which for whoever has to look at it again.

    Args:
        name: of the moment.
        path: the file that has the disk.
        fd: that file, open.
        is_last: whether nothing is missing any more.
        place: where in the file the disk is; None where it is all of it.
    """

    name: str
    path: Path
    fd: int
    is_last: bool = False
    place: ByteRange | None = None

    @property
    def size(self) -> int:
        """How many bytes the disk has."""
        return os.fstat(self.fd).st_size if self.place is None else self.place.size

    def part(self, place: ByteRange) -> Moment:
        """Return one of several disks that are in one file."""
        return replace(self, place=place)

    def read(self, start: int, size: int) -> bytes:
        """Return bytes of it."""
        return os.pread(self.fd, size, self._start + start)

    @property
    def _start(self) -> int:
        return 0 if self.place is None else self.place.start

    def equals(self, other: Path, spans: Sequence[ByteRange]) -> bool:
        """Whether it has the same bytes as another disk in some places, which lies in its file as this one does."""
        with other.open("rb", buffering=0) as file:
            return all(
                os.pread(self.fd, size, self._start + at) == os.pread(file.fileno(), size, self._start + at)
                for span in spans
                for at in range(span.start, span.end, MIB)
                for size in (min(MIB, span.end - at),)
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a disk was before, and what was done to it.

    Args:
        before: a copy of the disk.
        log: all that was written.
        sector_size: what is written whole.
    """

    before: Path
    log: WriteLog
    sector_size: int = 512

    def moments(self, place: Path, *, seed: int, torn: int = 2) -> Iterator[Moment]:
        """Yield the disk after each write, and ``torn`` times in each group of them with any part of the group.

        Args:
            place: a file that becomes each of these disks.
            seed: decides what is there of a group.
            torn: how often a group is torn.
        """
        chance = random.Random(seed)
        count, groups = 0, self.log.groups
        with self._opened(place) as fd:
            yield Moment(name="before the first write", path=place, fd=fd)
            for number, group in enumerate(groups):
                where = f"between flushes {number} and {number + 1}"
                for again in range(torn if self._can_be_torn(group) else 0):
                    saved = [(span.start, os.pread(fd, span.size, span.start)) for span in _spans(group)]
                    for change in chance.sample(group, len(group)):
                        self._write_some(fd, change, chance)
                    yield Moment(name=f"torn {where}, cut {again} of seed {seed}", path=place, fd=fd)
                    for at, data in saved:
                        os.pwrite(fd, data, at)
                for change in group:
                    count += 1
                    write(fd, change)
                    last = count == len(self.log.changes)
                    yield Moment(name=f"after write {count}, {where}", path=place, fd=fd, is_last=last)

    def changed(self) -> tuple[ByteRange, ...]:
        """Return where something was written that wasn't there before."""
        with self.before.open("rb", buffering=0) as file:
            return merged(
                ByteRange(change.offset, change.offset + change.length)
                for change in self.log.changes
                if os.pread(file.fileno(), change.length, change.offset) != change.content
            )

    def cut(self, left: int) -> Run:
        """Return the same without its last ``left`` writes."""
        return replace(self, log=WriteLog(groups=(self.log.changes[: len(self.log.changes) - left],)))

    def after(self, place: Path) -> Path:
        """Make the disk as all of the writes leave it."""
        with self._opened(place) as fd:
            for change in self.log.changes:
                write(fd, change)
        return place

    @contextmanager
    def _opened(self, place: Path) -> Iterator[int]:
        copied(self.before, place)
        fd = os.open(place, os.O_RDWR | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)

    def _can_be_torn(self, group: Sequence[Change]) -> bool:
        return len(group) > 1 or any(change.length > self.sector_size for change in group)

    def _write_some(self, fd: int, change: Change, chance: random.Random) -> None:
        """Write any of the sectors of a change: none, all, those up to one, or here and there one."""
        size = self.sector_size
        count = -(-change.length // size)
        match chance.randrange(4):
            case 0:
                return
            case 1:
                write(fd, change)
            case 2:
                write(fd, _part(change, 0, chance.randrange(count + 1) * size))
            case _:
                for sector in range(count):
                    if chance.random() < 0.5:
                        write(fd, _part(change, sector * size, (sector + 1) * size))


def write(fd: int, change: Change) -> None:
    """Write a change into a file."""
    os.pwrite(fd, change.content, change.offset)


def tell_power_cuts(config: pytest.Config, work: str, run: Run, outcomes: Counter[str]) -> None:
    """Put what was seen into the table of faults, where the options name one; the steps are the writes to the disk."""
    file = config.getoption("--fault-table")
    if file is None:
        return
    row = Row(
        work=work,
        fault="power cut",
        steps=len(run.log.changes),
        tried=outcomes.total(),
        outcomes=tuple((str(name), count) for name, count in sorted(outcomes.items())),
    )
    table.record(Path(str(file)), row)


def outside(size: int, *spans: ByteRange) -> tuple[ByteRange, ...]:
    """Return all of a disk but some places."""
    return without([ByteRange(0, size)], spans)


def _part(change: Change, start: int, end: int) -> Change:
    data = None if change.data is None else change.data[start:end]
    return Change(change.offset + start, min(end, change.length) - start, data)


def _spans(group: Sequence[Change]) -> tuple[ByteRange, ...]:
    return merged(ByteRange(change.offset, change.offset + change.length) for change in group)
