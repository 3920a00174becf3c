"""Switches on a multiboot partition whose disk fails: GRUB's own code, which reads no journal, reads old or new."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from libironic_disk import switching
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.machines.inside.conftest import Told
from tests.support import faultydisks, multiboot_partition
from tests.support.faults.walking import Row
from tests.support.faults.works.switches import as_grub_reads
from tests.support.faultydisk_walks import called
from tests.support.faultydisks import Fault, FaultyDisk, Place
from tests.support.multiboot_partition import Partitions, image_files

pytestmark = [pytest.mark.inside, pytest.mark.timeout(300)]

SIZE = 48 * MIB
FULL = pytest.mark.full
CALLS: dict[str, Callable[[str, Partitions], object]] = {
    "set_default": lambda node, parts: switching.set_default(node, "two"),
    "boot_once": lambda node, parts: switching.boot_once(node, "two"),
    "try_boot": lambda node, parts: switching.try_boot(node, "two"),
    "refresh": lambda node, parts: switching.refresh(node, parts.nodes),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Switchable:
    """A multiboot partition that can be broken, what it is like at first, and the partitions with the systems."""

    disk: FaultyDisk
    first: Path
    parts: Partitions


@pytest.fixture
def switchable(bench: Bench, tmp_path: Path) -> Iterator[Switchable]:
    images = {name: image_files("1", name=name) for name in ("one", "two")}
    parts = multiboot_partition.make(bench, images, size=SIZE)
    multiboot_partition.write(parts.roots["two"], FileSystem.EXT4, image_files("2", name="two"))
    first = tmp_path / "first"
    first.write_bytes(Path(parts.multiboot).read_bytes())
    with faultydisks.faulty(bench, SIZE) as disk:
        disk.fill(first)
        yield Switchable(disk=disk, first=first, parts=parts)


@pytest.mark.parametrize("fault", [Fault.DEAD, Fault.NO_WRITE])
@pytest.mark.parametrize("steps", [1, pytest.param(60, marks=[pytest.mark.walk, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize(
    "name", ["set_default", *(pytest.param(name, marks=FULL) for name in CALLS if name != "set_default")]
)
def test_a_place_of_the_disk_is_bad(
    bench: Bench, switchable: Switchable, name: str, steps: int, fault: Fault, told: Told
) -> None:
    disk, parts = switchable.disk, switchable.parts

    def call(*_: object) -> object:
        return CALLS[name](disk.node, parts)

    old = as_grub_reads(disk.sound.file)
    log = bench.disk(4 * SIZE, 512)
    with disk.logged(log):
        assert called(call, disk.node).error is None
    new = as_grub_reads(disk.sound.file)
    assert new != old
    places = faultydisks.written_places(log)
    outcomes: Counter[str] = Counter()
    for start, end in random.Random(f"{name} {fault}").sample(places, min(steps, len(places))):
        disk.fill(switchable.first)
        disk.break_at([Place(start=start, end=end, fault=fault)])
        ended = called(call, disk.node)
        seen = as_grub_reads(disk.sound.file)
        where = f"with a bad place at {start}: {ended.error}"
        assert seen in (old, new), where
        assert seen == new or ended.error is not None, f"nothing was raised {where}"
        outcomes[
            "done" if ended.error is None else f"{type(ended.error).__name__}: {'old' if seen == old else 'new'}"
        ] += 1
        disk.mend()
        again = called(call, disk.node)
        assert again.error is None, f"made again {where}: {again.trace}"
        assert as_grub_reads(disk.sound.file) == new, f"made again {where}"
    told(Row.of(f"switching.{name}", f"a place of the disk is bad ({fault})", len(places), outcomes))
