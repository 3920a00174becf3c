"""A deployment onto a disk that had a system, cut off at each moment: what firmware would start then, if anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from libironic_disk.pure.boot.grubembed import BOOT_CODE_SIZE
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.report import DeployResult
from libironic_disk.pure.roles import Firmware, Role
from tests.conftest import Bench
from tests.support import oracles, wholedisks
from tests.support.block_log import logged
from tests.support.disks import attach, copied
from tests.support.firmware_rules import FirmwareView, passes_on
from tests.support.power_cuts import Moment, Run

Deploy = Callable[[str], DeployResult]
"""Deploys onto a disk."""


class Boots(StrEnum):
    """What a disk is good for at a moment."""

    OLD = "old"
    NOTHING = "nothing"
    NEW = "new"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A disk that had a system and got another one, all that was written, and a disk to look at.

    Args:
        firmwares: what can start the systems.
        run: what was written.
        after: the disk as it was left.
        place: a file that becomes the disk of each moment.
        view: firmware's view of that.
        result: what the second deployment returned.
    """

    firmwares: frozenset[Firmware]
    run: Run
    after: Path
    place: Path
    view: FirmwareView
    result: DeployResult

    def span_of(self, role: Role) -> ByteRange:
        """Return where the partition with a role is."""
        (part,) = (part for part in self.result.partitions if part.role is role)
        return ByteRange(part.start, part.start + part.size)

    def boots(self, moment: Moment) -> Boots:
        """Return what a disk boots, and assert that there is no mixture: all of a system is there, or none."""
        starters = self.view.starters(moment)
        assert starters <= self.firmwares, moment.name
        if starters:
            return self._whole(moment)
        # A disk that is for UEFI alone has no boot code; while one for BIOS is being made, the machine goes on to its
        # next device.
        assert Firmware.BIOS not in self.firmwares or passes_on(moment), moment.name
        return Boots.NOTHING

    def seen(self, *, seed: int, torn: int, kept: Sequence[ByteRange] = ()) -> Counter[str]:
        """Look at the disk at each moment, and return how often it boots what.

        There is a table for everybody when it boots something, and for nobody else; or, where ranges are kept, always,
        and these are as they were.
        """
        seen: Counter[str] = Counter()
        for moment in self.run.moments(self.place, seed=seed, torn=torn):
            boots = self.boots(moment)
            seen[boots] += 1
            wanted = wholedisks.EVERYBODY if kept or boots is not Boots.NOTHING else set()
            assert self.view.opinions(moment) == wanted, moment.name
            assert moment.equals(self.run.before, kept), moment.name
        return seen

    def _whole(self, moment: Moment) -> Boots:
        # To UEFI the boot code is nothing.
        start = 0 if Firmware.BIOS in self.firmwares else BOOT_CODE_SIZE
        all_of_it = ByteRange(start, self.after.stat().st_size)
        if moment.equals(self.run.before, [all_of_it]):
            return Boots.OLD
        same = moment.equals(self.after, [all_of_it])
        assert same, f"{moment.name}: a mixture"
        return Boots.NEW


def deployed_twice(
    bench: Bench, *, size: int, sector_size: int, firmwares: frozenset[Firmware], old: Deploy, new: Deploy
) -> Scene:
    """Deploy twice, and look at the second time."""
    file, before = bench.blank_file(size), bench.blank_file(0)
    with attach(file, sector_size) as disk:
        old(disk.node)
    copied(file, before)
    with logged(file, sector_size) as disk:
        result = new(disk.node)
        disk.settle()
        log = disk.written()
    run = Run(before=before, log=log, sector_size=sector_size)
    place = run.after(bench.blank_file(0))
    # What was seen is all that happened.
    assert oracles.output("cmp", str(place), str(file)) == ""
    view = FirmwareView(Path(bench.attach(place, sector_size).node), sector_size)
    return Scene(firmwares=firmwares, run=run, after=file, place=place, view=view, result=result)


def assert_each(seen: Counter[str], *, least: int = 30) -> None:
    """Assert that there were moments of each kind, and mostly such without a system."""
    assert seen[Boots.OLD] >= 1
    assert seen[Boots.NEW] >= 1
    assert seen[Boots.NOTHING] > least
