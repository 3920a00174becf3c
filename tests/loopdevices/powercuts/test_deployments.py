"""The power goes at any moment of a deployment: the disk boots the old system whole, nothing, or the new one whole."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from lab.systemdisk import FILES
from libironic_disk import deploy
from libironic_disk.pure.boot.grubembed import BOOT_CODE_SIZE
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.report import DeployResult
from libironic_disk.pure.roles import Firmware, Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.request import DeployRequest
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.loopdevices.powercuts.conftest import Tell
from tests.support import oracles, wholedisks
from tests.support.block_log import logged
from tests.support.disks import attach, copied
from tests.support.firmware_rules import FirmwareView, passes_on
from tests.support.power_cuts import Moment, Run

pytestmark = [pytest.mark.loopdevice, pytest.mark.timeout(600)]

SIZE = 640 * MIB
DRIVE = {"meta_data": {"uuid": "f0f0"}}


class Boots(StrEnum):
    """What a disk is good for at a moment."""

    OLD = "old"
    NOTHING = "nothing"
    NEW = "new"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How a disk is made."""

    firmware: Firmware
    table: TableKind
    sector_size: int = 512

    def __str__(self) -> str:
        """Return its name in the table of faults."""
        return f"{self.firmware} from {self.table} with sectors of {self.sector_size}"


KINDS = [
    pytest.param(Kind(firmware=firmware, table=table, sector_size=sector_size), marks=marks, id=name)
    for name, firmware, table, sector_size, marks in (
        ("uefi", Firmware.UEFI, TableKind.GPT, 512, ()),
        ("bios", Firmware.BIOS, TableKind.MBR, 512, ()),
        ("uefi-4096", Firmware.UEFI, TableKind.GPT, 4096, pytest.mark.walk),
        ("uefi-mbr", Firmware.UEFI, TableKind.MBR, 512, pytest.mark.walk),
        ("bios-gpt", Firmware.BIOS, TableKind.GPT, 512, pytest.mark.walk),
    )
]


def make_image(folder: Path, name: str) -> Path:
    """Make a partition image: an ext4 with a kernel of sorts, whose every file says whose it is."""
    for path, content in FILES.items():
        file = folder / name / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(f"{name}\n".encode() + content)
    raw = folder / f"{name}.raw"
    oracles.output("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", str(folder / name), str(raw), "16M")
    return raw


def deployed(kind: Kind, node: str, image: Path, *, preserve: bool = False) -> DeployResult:
    """Deploy with all partitions that there are."""
    request = DeployRequest(
        device=node,
        image=image,
        firmware=kind.firmware,
        table=kind.table,
        seed=image.stem.encode(),
        swap_mb=8,
        ephemeral_mb=16,
        root_mb=32,
        config_drive=DRIVE,
        preserve_ephemeral=preserve,
    )
    return deploy.deploy(request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A disk that had a system and got another one, all that was written, and a disk to look at."""

    kind: Kind
    run: Run
    after: Path
    place: Path
    view: FirmwareView
    partitions: dict[Role | None, ByteRange]

    def boots(self, moment: Moment) -> Boots:
        """Return what a disk boots, and assert that there is no mixture: all of a system is there, or none."""
        starters = self.view.starters(moment)
        assert starters <= {self.kind.firmware}, moment.name
        if starters:
            return self._whole(moment)
        # A UEFI disk has no boot code; while one for BIOS is being made, the machine goes on to its next device.
        assert self.kind.firmware is Firmware.UEFI or passes_on(moment), moment.name
        return Boots.NOTHING

    def _whole(self, moment: Moment) -> Boots:
        # To UEFI the boot code is nothing.
        all_of_it = ByteRange(BOOT_CODE_SIZE if self.kind.firmware is Firmware.UEFI else 0, SIZE)
        if moment.equals(self.run.before, [all_of_it]):
            return Boots.OLD
        same = moment.equals(self.after, [all_of_it])
        assert same, f"{moment.name}: a mixture"
        return Boots.NEW


def scene(bench: Bench, folder: Path, kind: Kind, *, preserve: bool = False) -> Scene:
    """Deploy twice, and look at the second time."""
    file, before = bench.blank_file(SIZE), bench.blank_file(0)
    with attach(file, kind.sector_size) as disk:
        deployed(kind, disk.node, make_image(folder, "old"))
    copied(file, before)
    with logged(file, kind.sector_size) as disk:
        result = deployed(kind, disk.node, make_image(folder, "new"), preserve=preserve)
        disk.settle()
        log = disk.written()
    run = Run(before=before, log=log, sector_size=kind.sector_size)
    place = run.after(bench.blank_file(0))
    partitions = {part.role: ByteRange(part.start, part.start + part.size) for part in result.partitions}
    # What was seen is all that happened.
    assert oracles.output("cmp", str(place), str(file)) == ""
    view = FirmwareView(Path(bench.attach(place, kind.sector_size).node), kind.sector_size)
    return Scene(kind=kind, run=run, after=file, place=place, view=view, partitions=partitions)


def assert_each(seen: Counter[str]) -> None:
    """Assert that there were moments of each kind, and mostly such without a system."""
    assert seen[Boots.OLD] >= 1
    assert seen[Boots.NEW] >= 1
    assert seen[Boots.NOTHING] > 30


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_no_table_before_the_last_write(
    bench: Bench, tmp_path: Path, torn: int, tell: Tell, kind: Kind
) -> None:
    done = scene(bench, tmp_path, kind)
    seen: Counter[str] = Counter()
    for moment in done.run.moments(done.place, seed=21, torn=torn):
        boots = done.boots(moment)
        seen[boots] += 1
        wanted = wholedisks.EVERYBODY if boots is not Boots.NOTHING else set()
        assert done.view.opinions(moment) == wanted, moment.name
    assert_each(seen)
    tell(f"deploy over a system, {kind}", done.run, seen)


def table_of(disk: Path) -> object:
    """What sfdisk says of a table: all of it."""
    return json.loads(oracles.output("sfdisk", "--json", str(disk)))["partitiontable"]["partitions"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kept_partition_and_its_entry_are_there_at_each_moment(
    bench: Bench, tmp_path: Path, torn: int, tell: Tell, kind: Kind
) -> None:
    done = scene(bench, tmp_path, kind, preserve=True)
    kept = done.partitions[Role.EPHEMERAL]
    table = table_of(done.place)
    seen: Counter[str] = Counter()
    for moment in done.run.moments(done.place, seed=22, torn=torn):
        seen[done.boots(moment)] += 1
        assert done.view.opinions(moment) == wholedisks.EVERYBODY, moment.name
        assert moment.equals(done.run.before, [kept]), moment.name
    assert table_of(done.place) == table
    assert_each(seen)
    tell(f"deploy beside a kept volume, {kind}", done.run, seen)
