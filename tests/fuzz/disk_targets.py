"""What targets have in common whose inputs are disks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from random import Random

from libironic_disk.pure.tables import gpt, mbr
from tests.fuzz.disks import DiskCase, crossed_disks, near
from tests.fuzz.engine import Scramble
from tests.fuzz.plain import Plain, drawn
from tests.properties.test_tables import gpt_tables, hostile_disks, mbr_tables
from tests.support.hostile import hostile_disk
from tests.unit.pure.tables.disks import DEVICE, Disk


class OfDisks(Plain):
    """A target whose inputs are disks."""

    seconds = (1.5, 2e-5)

    @abstractmethod
    def examine_disk(self, case: DiskCase) -> str:
        """Read a disk, assert what has to hold, and say in a word what it was."""

    def seeds(self, random: Random) -> Iterator[bytes]:
        for table in drawn(gpt_tables(), random, 24):
            disk = Disk(table.disk_sectors * table.sector_size, gpt.encode(table, device=DEVICE))
            yield DiskCase(disk, table.sector_size, random.getrandbits(64)).merged().packed()
        for mbr_table in drawn(mbr_tables(), random, 24):
            disk = Disk(mbr_table.disk_sectors * mbr_table.sector_size, mbr.encode(mbr_table, device=DEVICE))
            yield DiskCase(disk, mbr_table.sector_size, random.getrandbits(64)).merged().packed()
        for disk, sector_size in drawn(hostile_disks(), random, 8):
            yield DiskCase(disk, sector_size).merged().packed()
        for _ in range(8):
            yield DiskCase(hostile_disk(random, 512), 512, random.getrandbits(64)).merged().packed()

    def mutate(self, data: bytes, random: Random, scramble: Scramble) -> bytes:
        case = DiskCase.unpacked(data)
        return data if case is None else near(case, random, scramble).packed()

    def cross(self, data: bytes, other: bytes, random: Random) -> bytes:
        one, two = DiskCase.unpacked(data), DiskCase.unpacked(other)
        return data if one is None or two is None else crossed_disks(one, two, random).packed()

    def examine(self, data: bytes) -> str:
        case = DiskCase.unpacked(data)
        return "no disk" if case is None else self.examine_disk(case)
