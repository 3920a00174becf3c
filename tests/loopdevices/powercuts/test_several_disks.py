"""The power goes while several disks are deployed anew: whichever of them firmware starts, all of its system is there.

A system has volumes on both disks: without one of them it isn't whole. Both lie in one file, so that the log has one
order. A flush of one disk counts as one of both there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from libironic_disk import multiboot
from libironic_disk.pure.boot.grubembed import BOOT_CODE_SIZE
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.roles import Firmware
from libironic_disk.request import FirmwareEntry
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.loopdevices.powercuts.conftest import Tell
from tests.support import documents, multiboot_partition, oracles
from tests.support.block_log import logged_disks
from tests.support.cut_deployments import Boots, assert_each
from tests.support.disks import attach, copied
from tests.support.firmware_rules import FirmwareView, esps, passes_on
from tests.support.multiboot_partition import image_files
from tests.support.power_cuts import Moment, Run, outside

pytestmark = [pytest.mark.loopdevice, pytest.mark.timeout(600)]

SIZE = 200 * MIB
PLACES = (ByteRange(0, SIZE), ByteRange(SIZE, 2 * SIZE))
SECTOR = 512


def make_image(bench: Bench, kernel: str) -> Path:
    """Make a small ext4 with a kernel of sorts."""
    disk = bench.disk(8 * MIB, 512)
    oracles.output("mkfs.ext4", "-q", "-b", "4096", disk.node)
    multiboot_partition.write(disk.node, FileSystem.EXT4, image_files(kernel))
    return disk.file


def deploy(nodes: Sequence[str], images: dict[str, Path]) -> None:
    """Deploy two systems, the first of which starts from the first disk and has a volume on the other."""
    one, two = (
        {"type": "partition", "mount": "/", "images": [name], "size": "16", "name": f"root-{name}"} for name in images
    )
    data = {
        "type": "partition",
        "mount": "/srv",
        "images": ["one"],
        "size": "16",
        "name": "data",
        "file_system": "ext4",
    }
    document = {
        "images": documents.images(images),
        "partitions": [
            {"type": "disk", "id": {"type": "name", "value": node}, "volumes": volumes}
            for node, volumes in zip(nodes, ([one], [{**data, "file_system": "ext4"}, two]), strict=True)
        ],
        "partitions_policy": "clean",
    }
    request = multiboot.MultibootRequest(
        description=multiboot.read(document), menu_timeout=1, os_prober=False, firmware_entry=FirmwareEntry.NEVER
    )
    multiboot.apply(multiboot.plan(request))


def in_order(nodes: Sequence[str], *, first_last: bool) -> list[str]:
    """Return nodes in the order of their paths, in which they are worked on, or the other way round."""
    return sorted(nodes, key=Path, reverse=first_last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Two disks that had systems and got others."""

    run: Run
    after: Path
    views: tuple[FirmwareView, ...]

    def boots(self, moment: Moment) -> Boots:
        """Return what the disks boot, and assert that all of it is there."""
        disks = [moment.part(place) for place in PLACES]
        starters = [view.starters(disk) for view, disk in zip(self.views, disks, strict=True)]
        if not any(starters):
            assert all(passes_on(disk) for disk in disks), moment.name
            return Boots.NOTHING
        for boots, all_of_it in ((Boots.OLD, self.run.before), (Boots.NEW, self.after)):
            if all(
                disk.equals(all_of_it, needed(all_of_it, place, by))
                for disk, place, by in zip(disks, PLACES, starters, strict=True)
            ):
                return boots
        raise AssertionError(f"{moment.name}: a mixture")


def needed(disks: Path, place: ByteRange, starters: frozenset[Firmware]) -> tuple[ByteRange, ...]:
    """Return what a disk has to have: all of it but what would start other kinds of firmware."""
    needless = [] if Firmware.BIOS in starters else [ByteRange(0, BOOT_CODE_SIZE)]
    if Firmware.UEFI not in starters:
        with attach(disks, SECTOR, place=(place.start, place.size), read_only=True) as disk:
            needless += [ByteRange(esp.start, esp.start + SECTOR) for esp in esps(Path(disk.node))]
    return outside(SIZE, *needless)


@pytest.mark.parametrize(
    ("old_last", "new_last"),
    [
        pytest.param(True, False, id="the-last-then-the-first"),
        pytest.param(False, True, id="the-first-then-the-last", marks=pytest.mark.walk),
        pytest.param(True, True, id="the-last-both-times", marks=pytest.mark.walk),
        pytest.param(False, False, id="the-first-both-times", marks=pytest.mark.walk),
    ],
)
def test_no_disk_starts_a_system_of_which_another_disk_is_gone(
    bench: Bench, torn: int, tell: Tell, old_last: bool, new_last: bool, request: pytest.FixtureRequest
) -> None:
    file, before = bench.blank_file(2 * SIZE), bench.blank_file(0)
    with logged_disks(file, PLACES, SECTOR) as disks:
        nodes = [disk.node for disk in disks]
        deploy(in_order(nodes, first_last=old_last), {name: make_image(bench, "1") for name in ("one", "two")})
        disks[0].settle()
        disks[1].settle()
        copied(file, before)
        earlier = len(disks[0].written().groups)
        deploy(in_order(nodes, first_last=new_last), {name: make_image(bench, "2") for name in ("one", "two")})
        disks[0].settle()
        disks[1].settle()
        log = disks[0].written()
    run = Run(before=before, log=type(log)(groups=log.groups[earlier - 1 :]), sector_size=SECTOR)
    place = run.after(bench.blank_file(0))
    assert oracles.output("cmp", str(place), str(file)) == ""
    seen: Counter[str] = Counter()
    with (
        attach(place, SECTOR, place=(PLACES[0].start, SIZE)) as first,
        attach(place, SECTOR, place=(PLACES[1].start, SIZE)) as second,
    ):
        views = tuple(FirmwareView(Path(disk.node), SECTOR) for disk in (first, second))
        done = Scene(run=run, after=file, views=views)
        for moment in done.run.moments(place, seed=31, torn=torn):
            seen[done.boots(moment)] += 1
    assert_each(seen)
    which = request.node.callspec.id.replace("-", " ")
    tell(f"two systems on two disks, which boot from {which}", run, seen)
