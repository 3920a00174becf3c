"""The power goes while all is written anew but one system, the multiboot partition and the EFI system partition.

What is kept is bit for bit as it was at each moment, and so is the table. Firmware finds a loader, and GRUB the system
that is kept; of the others, which are written one after another, the menu names those that are whole.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from libironic_disk import multiboot
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.ranges import ByteRange, without
from libironic_disk.pure.roles import Firmware
from libironic_disk.request import FirmwareEntry
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.loopdevices.powercuts.conftest import Tell
from tests.support import documents, multiboot_partition, oracles, wholedisks
from tests.support.block_log import logged
from tests.support.disks import LoopDisk, attach, copied
from tests.support.firmware_rules import FirmwareView
from tests.support.multiboot_partition import image_files
from tests.support.power_cuts import Run, outside
from tests.support.rooted_images import part_of

pytestmark = [pytest.mark.loopdevice, pytest.mark.timeout(600)]

SIZE = 300 * MIB
KEPT, ANEW = "one", ("two", "three")
OLD = {name: f"aaaaaaaa-0000-4000-8000-00000000000{number}" for number, name in enumerate((KEPT, *ANEW))}
NEW = {name: f"bbbbbbbb-0000-4000-8000-00000000000{number}" for number, name in enumerate(ANEW)}
"""The UUIDs of the images, by which the menu names them."""
MADE = ("root-two", "root-three", "scratch")
"""The volumes that are written anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How the disk is made."""

    firmwares: frozenset[Firmware]
    sector_size: int = 512

    def __str__(self) -> str:
        """Return its name in the table of faults."""
        kinds = " and ".join(sorted(self.firmwares))
        return f"all but one system anew, {kinds} with sectors of {self.sector_size}"


def make_image(bench: Bench, kernel: str, uuid: str) -> Path:
    """Make a small ext4 with a kernel of sorts."""
    disk = bench.disk(8 * MIB, 512)
    oracles.output("mkfs.ext4", "-q", "-b", "4096", "-U", uuid, disk.node)
    multiboot_partition.write(disk.node, FileSystem.EXT4, image_files(kernel))
    return disk.file


def deploy(kind: Kind, node: str, images: dict[str, Path], *, anew: bool) -> None:
    """Deploy all of it, or what is to be anew."""
    volumes: list[dict[str, object]] = [
        {"mount": "/", "images": [name], "size": "16", "name": f"root-{name}", "keep_data": name == KEPT}
        for name in images
    ]
    for name, users, kept in (("data", (KEPT, *ANEW), True), ("scratch", ANEW, False)):
        mount = {"mount": f"/srv/{name}", "images": [*users], "name": name, "keep_data": kept}
        volumes.append({**mount, "size": "16", "file_system": "ext4"})
    document = {
        "images": documents.images(images),
        "partitions": [
            {
                "type": "disk",
                "id": {"type": "name", "value": node},
                "volumes": [{"type": "partition", **volume} for volume in volumes],
            }
        ],
        "partitions_policy": "verify" if anew else "clean",
    }
    request = multiboot.MultibootRequest(
        description=multiboot.read(document),
        firmwares=kind.firmwares,
        menu_timeout=1,
        os_prober=False,
        firmware_entry=FirmwareEntry.NEVER,
    )
    multiboot.apply(multiboot.plan(request))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A disk of which a part was written anew, and where its partitions are."""

    run: Run
    after: Path
    place: Path
    spans: dict[str, ByteRange]

    def changing(self) -> list[ByteRange]:
        """Return where anything may change."""
        return [self.spans[name] for name in ("multiboot", *MADE)]


def scene(bench: Bench, kind: Kind) -> Scene:
    """Deploy three systems, and then two of them anew."""
    file, before = bench.blank_file(SIZE), bench.blank_file(0)
    with attach(file, kind.sector_size) as plain:
        deploy(kind, plain.node, {name: make_image(bench, "1", uuid) for name, uuid in OLD.items()}, anew=False)
    copied(file, before)
    with logged(file, kind.sector_size) as disk:
        images = {KEPT: Path("/none"), **{name: make_image(bench, "2", uuid) for name, uuid in NEW.items()}}
        deploy(kind, disk.node, images, anew=True)
        run = Run(before=before, log=disk.written(), sector_size=kind.sector_size)
        rows, size = oracles.sfdisk(disk.node).rows, kind.sector_size
    spans = {row.name: ByteRange(row.start * size, (row.start + row.size) * size) for row in rows}
    return Scene(run=run, after=file, place=run.after(bench.blank_file(0)), spans=spans)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(Kind(firmwares=frozenset(Firmware)), id="both", marks=pytest.mark.walk),
        pytest.param(Kind(firmwares=frozenset({Firmware.UEFI}), sector_size=4096), id="uefi-4096"),
    ],
)
def test_what_is_kept_is_there_at_each_moment_and_boots(bench: Bench, torn: int, tell: Tell, kind: Kind) -> None:
    done = scene(bench, kind)
    # No write at all changes a table, a loader, the kept system or the kept data: so none does that is torn.
    assert without(done.run.changed(), done.changing()) == ()
    of_grub = without(done.run.changed(), outside(SIZE, done.spans["multiboot"]))
    view = FirmwareView(Path(bench.attach(done.place, kind.sector_size).node), kind.sector_size)
    menus: dict[bytes, bytes] = {}
    seen: Counter[str] = Counter()
    # Of the file, and not of a loop device upon it, whose pages would be those of another moment.
    plain = LoopDisk(node=str(done.place), file=done.place, sector_size=512)
    with part_of(plain, done.spans["multiboot"].start, done.spans["multiboot"].size) as partition:
        for moment in done.run.moments(done.place, seed=30, torn=torn):
            if not seen or moment.is_last:
                assert view.starters(moment) == kind.firmwares
                assert view.opinions(moment) == wholedisks.EVERYBODY
            state = hashlib.sha256(b"".join(moment.read(span.start, span.size) for span in of_grub)).digest()
            if state not in menus:
                _, menus[state] = multiboot_partition.as_grub_finds(partition)
            found = systems_in(menus[state])
            assert KEPT in found, moment.name
            for age, disk, uuids in (("old", done.run.before, OLD), ("new", done.after, NEW)):
                roots = [done.spans[f"root-{name}"] for name in ANEW if uuids[name].encode() in menus[state]]
                assert moment.equals(disk, roots), f"{moment.name}: an {age} system isn't whole"
            seen[" and ".join(found)] += 1
    assert [*seen] == ["one and old two and old three", "one", "one and new two and new three"]
    tell(str(kind), done.run, seen)


def systems_in(shown: bytes) -> list[str]:
    """Return the systems that a menu names."""
    return [
        name if name == KEPT else f"{age} {name}"
        for age, uuids in (("old", OLD), ("new", {name: NEW[name] for name in ANEW}))
        for name, uuid in uuids.items()
        if uuid.encode() in shown
    ]
