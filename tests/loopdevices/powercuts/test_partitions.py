"""The power goes while a single partition is changed: a config drive in its place, a loader on the ESP."""

from __future__ import annotations

from collections import Counter

import pytest

from libironic_disk import configdrive, filesystems
from libironic_disk.configdrive import VolumeKind
from libironic_disk.machine.boot import esp
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.roles import Architecture
from libironic_disk.units import KIB, MIB
from tests.conftest import Bench
from tests.loopdevices.powercuts.conftest import Tell
from tests.support import firmware_rules, oracles
from tests.support.block_log import logged
from tests.support.disks import attach, copied
from tests.support.power_cuts import Run

pytestmark = pytest.mark.loopdevice

LOADER = esp.REMOVABLE_LOADERS[Architecture.X86_64]


def test_firmware_loads_the_old_loader_none_or_the_new_one(bench: Bench, torn: int, tell: Tell) -> None:
    file, before = bench.blank_file(40 * MIB), bench.blank_file(0)
    old, new = (name * 100 * KIB for name in (b"old", b"new"))
    with attach(file, 512) as plain:
        filesystems.make(FileSystem.VFAT, plain.node, label="esp", uuid="1234-ABCD")
        esp.write_file(plain.node, LOADER, old)
    copied(file, before)
    with logged(file) as disk:
        esp.write_file(disk.node, LOADER, new)
        run = Run(before=before, log=disk.written())
    place = bench.blank_file(0)
    seen: Counter[str] = Counter()
    names = {None: "none", old: "old", new: "new"}
    for moment in run.moments(place, seed=25, torn=6 * torn):
        found = firmware_rules.loader(place, ByteRange(0, 40 * MIB))
        assert found in names, moment.name
        seen[names[found]] += 1
    assert found == new
    assert min(seen["old"], seen["new"]) > 5
    tell("a loader's file in its place", run, seen)


@pytest.mark.parametrize("kind", VolumeKind)
def test_a_config_drive_is_the_old_one_none_or_the_new_one(
    bench: Bench, torn: int, tell: Tell, kind: VolumeKind
) -> None:
    size = 4 * MIB
    file, before = bench.blank_file(size), bench.blank_file(0)
    sector_size = 4096 if kind is VolumeKind.FAT else 512
    old, new = (
        configdrive.load({"meta_data": {"uuid": name}, "user_data": name * 100 * KIB}, sector_size=sector_size)
        for name in ("old", "new")
    )
    assert old.kind is new.kind is kind
    with attach(file, 512) as plain:
        configdrive.place(old, plain.node, capacity=size)
    copied(file, before)
    with logged(file) as disk:
        configdrive.place(new, disk.node, capacity=size)
        run = Run(before=before, log=disk.written())
    place = bench.blank_file(0)
    seen: Counter[str] = Counter()
    for moment in run.moments(place, seed=26, torn=6 * torn):
        # By its label cloud-init looks for it.
        if oracles.blkid(str(place)).get("LABEL", "").lower() != configdrive.LABEL:
            found = "none"
        else:
            whole = moment.read(0, size)
            found = "old" if whole.startswith(old.data) else "new"
            assert found == "old" or whole.startswith(new.data), f"{moment.name}: a mixture"
        seen[found] += 1
    assert found == "new"
    assert min(seen["old"], seen["none"]) > 0
    tell(f"a config drive in its place, {kind}", run, seen)
