"""The power goes at any moment of a switch: GRUB, which reads no journal, finds the old state or the new one.

So does Linux, which reads the journal, and to which the file system is whole then. ext4 needs that its superblock is
written whole, which has two sectors of 512 bytes: it does where sectors have 4096. To GRUB those of 512 are enough.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from libironic_disk import switching
from libironic_disk.pure.boot import switching as pure_switching
from libironic_disk.pure.boot.multimenu import CONFIG
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.loopdevices.powercuts.conftest import Tell
from tests.support import multiboot_partition, oracles
from tests.support.block_log import logged
from tests.support.disks import copied
from tests.support.multiboot_partition import Partitions, image_files
from tests.support.power_cuts import Run

pytestmark = [pytest.mark.loopdevice, pytest.mark.timeout(600)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What GRUB would do, with the texts that it reads on its way."""

    state: pure_switching.SwitchState
    menu: bytes
    config: bytes


def as_grub(disk: Path) -> Seen:
    """Read the multiboot partition with GRUB's own file system code."""
    state, menu = multiboot_partition.as_grub_finds(disk)
    return Seen(state=state, menu=menu, config=oracles.grub_cat(disk, CONFIG))


def as_linux(disk: Path, copy: Path) -> Seen:
    """Read it as after the journal was played back and the file system was checked."""
    copied(disk, copy)
    checked = subprocess.run(["e2fsck", "-p", str(copy)], capture_output=True, text=True, check=False)
    assert checked.returncode in (0, 1), checked.stdout
    oracle = subprocess.run(["e2fsck", "-f", "-n", str(copy)], capture_output=True, text=True, check=False)
    assert oracle.returncode == 0, oracle.stdout
    return as_grub(copy)


@pytest.fixture
def two(bench: Bench) -> Partitions:
    """Two systems, the first of which is the default."""
    return multiboot_partition.make(bench, {"a": image_files("1"), "b": image_files("1")}, size=24 * MIB)


def nothing(two: Partitions) -> None:
    """Leave it as it is."""


def on_trial(two: Partitions) -> None:
    """Have the second system tried."""
    switching.try_boot(two.multiboot, "b")


def updated(two: Partitions) -> None:
    """Give the second system a newer kernel."""
    multiboot_partition.write(two.roots["b"], FileSystem.EXT4, image_files("2"))


CALLS: dict[str, tuple[Callable[[Partitions], None], Callable[[str, Partitions], object]]] = {
    "set_default": (nothing, lambda node, two: switching.set_default(node, "b")),
    "boot_once": (nothing, lambda node, two: switching.boot_once(node, "b")),
    "try_boot": (nothing, lambda node, two: switching.try_boot(node, "b")),
    "confirm": (on_trial, lambda node, two: switching.confirm(node)),
    "rollback": (on_trial, lambda node, two: switching.rollback(node)),
    "refresh": (updated, lambda node, two: switching.refresh(node, two.nodes)),
}


@pytest.mark.parametrize("name", CALLS)
def test_grub_finds_the_old_state_or_the_new_one(
    bench: Bench, two: Partitions, torn: int, tell: Tell, name: str
) -> None:
    prepare, call = CALLS[name]
    prepare(two)
    file, before = bench.blank_file(0), bench.blank_file(0)
    copied(Path(two.multiboot), file)
    copied(file, before)
    with logged(file) as disk:
        call(disk.node, two)
        # Here it has returned: nothing more is needed for the new state.
        run = Run(before=before, log=disk.written())
    place, copy = bench.blank_file(0), bench.blank_file(0)
    old, new = as_grub(before), as_grub(run.after(place))
    assert old != new
    seen: Counter[str] = Counter()
    for unit in (512, 4096):
        for moment in replace(run, sector_size=unit).moments(place, seed=23, torn=3 * torn):
            found = as_grub(place)
            assert found in (old, new), moment.name
            if unit == 4096:
                assert as_linux(place, copy) in (old, new), moment.name
            seen["old" if found == old else "new"] += 1
            last = found
        assert last == new
    assert min(seen["old"], seen["new"]) >= 1
    tell(f"switching: {name}", run, seen)
