"""Changing somebody else's table: what is refused is said, and what is changed is a sound table with all they had."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from random import Random

from libironic_disk.errors import ImageRefused, LayoutDoesNotFit, TableLimit
from libironic_disk.pure.tables.model import FoundTable, TableKind
from libironic_disk.pure.tables.reading import read_table
from libironic_disk.pure.wholedisks.changes import Changes, Wishes
from libironic_disk.units import MIB
from libironic_disk.wholedisk.reading import Place, changes_of, is_drive_by_name
from tests.fuzz.disk_targets import OfDisks
from tests.fuzz.disks import DiskCase
from tests.fuzz.plain import sampled
from tests.support.oracles import output
from tests.unit.pure.tables.disks import DEVICE, Disk

_ONE_IN = 8
_LARGEST_FILE = 1 << 42


class _WholeDisks(OfDisks):
    refusals = (LayoutDoesNotFit, TableLimit, ImageRefused)

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()

    def examine_disk(self, case: DiskCase) -> str:
        disk, size, chance = case.disk, case.sector_size, Random(case.choice)
        wanted = chance.choice([0, 1, 64 * 1024, MIB, 3 * MIB + 1, disk.size // 2])
        grow = chance.random() < 0.5
        wishes = Wishes.of(drive_size=wanted, grow=grow, seed=b"fuzz")
        before = self._seen(disk, size)
        done = self._changes(disk, size, wishes)
        if done is None:
            return "stays as it is"
        after = Disk(disk.size, disk.extents)
        for offset, data in done.extents:
            assert 0 <= offset <= offset + len(data) <= disk.size
            after.write(offset, data)
        assert before is not None
        table = self._seen(after, size)
        assert table is not None
        # An image may lack what nobody asked for, such as a protective MBR; nothing new may be wrong.
        assert {*table.problems} <= {*before.problems}, table.problems
        assert table.kind is before.kind
        assert table.partitions == done.partitions
        self._check_kept(before, done, wishes)
        self._check_bytes(disk, after, done)
        # Who wishes for a drive no longer may see the one that is there grow.
        there = done.drive.size if done.drive and not done.drive_is_new else 0
        again = self._changes(after, size, Wishes.of(drive_size=there, grow=grow, seed=b"fuzz"))
        assert again is None or again.partitions == done.partitions or again.notes or done.drive_is_new
        if (
            table.kind is TableKind.GPT
            and not before.problems
            and size == 512
            and disk.size < _LARGEST_FILE
            and sampled(case.packed(), _ONE_IN)
        ):
            said = output("sgdisk", "--verify", after.save(Path(self._directory.name, "disk")))
            assert "No problems found" in said, said
        drive, size_now = ("a drive" if done.drive_is_new else "no new drive"), ("grown" if done.grown else "as large")
        return f"{table.kind}, {drive}, {size_now}"

    def _seen(self, disk: Disk, size: int) -> FoundTable | None:
        return read_table(disk.read, device=DEVICE, disk_size=disk.size, sector_size=size)

    def _changes(self, disk: Disk, size: int, wishes: Wishes) -> Changes | None:
        place = Place(name=DEVICE, size=disk.size, sector_size=size)
        return changes_of(disk.read, place, wishes, image="image", is_drive=is_drive_by_name)

    def _check_kept(self, before: FoundTable, done: Changes, wishes: Wishes) -> None:
        now = {part.number: part for part in done.partitions}
        for part in before.partitions:
            kept = now[part.number]
            assert (kept.start, kept.type_id, kept.bootable) == (part.start, part.type_id, part.bootable)
            assert kept.size == part.size or (done.grown == kept and kept.size > part.size)
        added = {*now} - {part.number for part in before.partitions}
        if before.partitions or wishes.drive_size:
            assert len(added) == (1 if done.drive_is_new else 0), added
        if done.drive is not None:
            assert done.drive.size >= wishes.drive_size
        spans = sorted((part.start, part.end) for part in done.partitions)
        assert all(one[1] <= two[0] for one, two in pairwise(spans))

    def _check_bytes(self, disk: Disk, after: Disk, done: Changes) -> None:
        """Assert that no byte of the image's partitions changed."""
        for offset, data in done.extents:
            for part in done.partitions:
                first, end = max(offset, part.start), min(offset + len(data), part.end)
                if first < end and part != done.drive:
                    same = disk.read(first, end - first) == after.read(first, end - first)
                    assert same or (done.grown == part and done.added is not None and first >= done.added.start)
        with suppress(IndexError):
            assert done.extents[-1].offset == 0 or all(each.offset for each in done.extents)


TARGET = _WholeDisks()
