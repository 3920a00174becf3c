"""Reading partition tables: nothing is raised, what is read stays on the disk, and sfdisk reads a sound table alike."""

from __future__ import annotations

import tempfile
from pathlib import Path
from subprocess import CalledProcessError
from uuid import UUID

from libironic_disk.errors import GeometryMismatch, ImageRefused, TableInvalid
from libironic_disk.pure.tables.foreign import read_foreign
from libironic_disk.pure.tables.geometry import check_geometry, check_is_disk
from libironic_disk.pure.tables.model import FoundTable, TableKind
from libironic_disk.pure.tables.reading import kind_of_table, read_table, regions
from libironic_disk.units import MIB
from tests.fuzz.disk_targets import OfDisks
from tests.fuzz.disks import DiskCase
from tests.fuzz.plain import sampled
from tests.unit.pure.tables.disks import DEVICE
from tests.unit.pure.tables.oracles import seen_by_sfdisk

_MOST_READS = 2 * 600
_MOST_BYTES = 8 * MIB
_ONE_IN = 6
_LARGEST_FILE = 1 << 42
_UNUSED = {str(UUID(int=0)), "0x00"}
# Of the others sfdisk says nothing.
_NAMED_BITS = 7 | 0xFFFF << 48


class _Tables(OfDisks):
    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()

    def examine_disk(self, case: DiskCase) -> str:
        disk, size = case.disk, case.sector_size
        disk.reads.clear()
        found = read_table(disk.read, device=DEVICE, disk_size=disk.size, sector_size=size)
        assert len(disk.reads) < _MOST_READS
        assert sum(length for _, length in disk.reads) < _MOST_BYTES
        reads = [*disk.reads]
        places = regions(found, disk.size, size)
        for offset, length in reads:
            end = min(offset + length, disk.size)
            assert offset >= end or any(at <= offset and end <= at + more for at, more in places)
        kind = kind_of_table(disk.read, disk_size=disk.size, sector_size=size)
        assert kind is (found.kind if found else None)
        self._check_image(case)
        if found is None:
            return "none"
        self._check(found, case)
        if found.problems:
            return f"{found.kind} with problems"
        if size == 512 and disk.size < _LARGEST_FILE and sampled(case.packed(), _ONE_IN):
            self._ask_sfdisk(case, found)
        return f"{found.kind}"

    def _check(self, found: FoundTable, case: DiskCase) -> None:
        assert len(found.problems) <= 21
        assert len({part.number for part in found.partitions}) == len(found.partitions)
        for part in found.partitions:
            assert 0 <= part.start < part.end <= case.disk.size
            part.name.encode()
        try:
            foreign = read_foreign(
                case.disk.read, found.kind, device=DEVICE, disk_size=case.disk.size, sector_size=case.sector_size
            )
        except TableInvalid as error:
            assert found.problems, error.problems
            return
        if not found.problems:
            assert foreign.partitions == found.partitions

    def _check_image(self, case: DiskCase) -> None:
        head = case.disk.read(0, MIB)
        for size in (case.disk.size, None):
            try:
                check_is_disk(head, image="image")
                check_geometry(
                    head,
                    image="image",
                    image_size=size,
                    device=DEVICE,
                    disk_size=case.disk.size,
                    sector_size=case.sector_size,
                )
            except (ImageRefused, GeometryMismatch) as error:
                assert str(error)

    def _ask_sfdisk(self, case: DiskCase, found: FoundTable) -> None:
        path = Path(case.disk.save(Path(self._directory.name, "disk")))
        try:
            seen = seen_by_sfdisk(path)
        except CalledProcessError as error:
            raise AssertionError(f"accepted, and sfdisk says: {error.stderr!r}") from error
        assert seen.disk_id == found.disk_id
        ours = {
            (part.start, part.size, part.type_id, part.bootable, part.attributes & _NAMED_BITS)
            for part in found.partitions
        }
        # It lists what is left of unused entries too.
        used = [part for part in seen.partitions if part.type_id not in _UNUSED]
        assert ours == {(part.start, part.size, part.type_id, part.bootable, part.attributes) for part in used}
        if found.kind is TableKind.GPT:
            assert {(part.number, part.uuid) for part in found.partitions} == {
                (part.number, part.uuid) for part in used
            }


TARGET = _Tables()
