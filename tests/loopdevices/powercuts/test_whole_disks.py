"""The power goes while a whole-disk image takes another one's place, grows and gets a config drive: old, none, or new.

Other than in ``wholedisks/test_power_cuts.py`` the log is the disk's: it has what programs and the file systems of the
kernel wrote while the root grew.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import pytest

from libironic_disk import deploy
from libironic_disk.images import ImageSource, ImageType
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.report import DeployResult
from libironic_disk.pure.roles import Firmware, Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.request import DeployRequest, FirmwareEntry
from libironic_disk.units import KIB, MIB
from tests.conftest import Bench
from tests.loopdevices.powercuts.conftest import Tell
from tests.support import oracles, wholedisks
from tests.support.bootable_images import bootable_image, size_of
from tests.support.cut_deployments import assert_each, deployed_twice
from tests.support.disks import attach
from tests.support.rooted_images import bytes_of, part_of

pytestmark = [pytest.mark.loopdevice, pytest.mark.timeout(600)]

DRIVE = {"meta_data": {"uuid": "f0f0"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What the image is, how it comes, and what is done to it on the disk."""

    table: TableKind
    sector_size: int = 512
    filesystem: FileSystem = FileSystem.EXT4
    grows: bool = True
    with_drive: bool = False
    late_tables: bool = False
    image_sectors: int | None = None

    def __str__(self) -> str:
        """Return its name in the table of faults."""
        said = [f"whole disk over another, {self.table} with sectors of {self.sector_size}"]
        said += [f"its {self.filesystem} grows"] if self.grows else []
        said += ["a config drive is added"] if self.with_drive else []
        said += ["a qcow2 whose tables come last"] if self.late_tables else []
        said += [f"made for sectors of {self.image_sectors}"] if self.image_sectors else []
        return ", ".join(said)


GPT, MBR = TableKind.GPT, TableKind.MBR
KINDS = [
    pytest.param(Kind(table=GPT, with_drive=True), id="gpt-grows-with-drive"),
    pytest.param(Kind(table=MBR), id="mbr-grows"),
    pytest.param(Kind(table=GPT, sector_size=4096, grows=False), id="gpt-4096"),
    pytest.param(Kind(table=GPT, grows=False), id="gpt", marks=pytest.mark.walk),
    pytest.param(Kind(table=MBR, grows=False), id="mbr", marks=pytest.mark.walk),
    pytest.param(Kind(table=MBR, sector_size=4096, with_drive=True), id="mbr-4096-grows", marks=pytest.mark.walk),
    pytest.param(Kind(table=GPT, sector_size=4096, with_drive=True), id="gpt-4096-grows", marks=pytest.mark.walk),
    pytest.param(Kind(table=GPT, late_tables=True), id="gpt-grows-late-tables", marks=pytest.mark.walk),
    pytest.param(Kind(table=GPT, image_sectors=4096), id="gpt-grows-other-sectors", marks=pytest.mark.walk),
    pytest.param(Kind(table=GPT, filesystem=FileSystem.XFS), id="gpt-xfs-grows", marks=pytest.mark.walk),
    pytest.param(Kind(table=MBR, filesystem=FileSystem.BTRFS), id="mbr-btrfs-grows", marks=pytest.mark.walk),
]


def source_of(kind: Kind, folder: Path, name: str) -> ImageSource:
    """Make an image, in the form in which it comes."""
    sectors = kind.image_sectors or kind.sector_size
    made = bootable_image(
        folder / f"{name}.raw", name, table=kind.table, sector_size=sectors, filesystem=kind.filesystem
    )
    return wholedisks.with_tables_last(wholedisks.as_qcow2(made)) if kind.late_tables else made


def deployed(kind: Kind, node: str, source: ImageSource) -> DeployResult:
    """Deploy an image; one whose tables come late as a stream, in which nothing can be looked up."""
    image = io.BytesIO(source.read_bytes()) if kind.late_tables and isinstance(source, Path) else source
    request = DeployRequest(
        device=node,
        image=image,
        image_type=ImageType.WHOLE_DISK,
        image_other_sectors=kind.image_sectors is not None,
        grow=kind.grows,
        config_drive=DRIVE if kind.with_drive else None,
        firmware_entry=FirmwareEntry.NEVER,
        seed=b"drive",
    )
    return deploy.deploy(request)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_all_there_or_no_disk(bench: Bench, tmp_path: Path, torn: int, tell: Tell, kind: Kind) -> None:
    old, new = (source_of(kind, tmp_path, name) for name in ("old", "new"))
    size = size_of(kind.filesystem) + 40 * MIB + 300 * KIB
    done = deployed_twice(
        bench,
        size=size,
        sector_size=kind.sector_size,
        firmwares=frozenset(Firmware),
        old=lambda node: deployed(kind, node, old),
        new=lambda node: deployed(kind, node, new),
    )
    seen = done.seen(seed=29, torn=torn)
    assert_each(seen)
    assert_root_is_new(kind, done.after, done.span_of(Role.ROOT), size)
    tell(str(kind), done.run, seen)


def assert_root_is_new(kind: Kind, disk: Path, root: ByteRange, size: int) -> None:
    """Assert that what boots in the end is the new system, whose file system is whole and has grown."""
    assert (root.end > size - 2 * MIB) is kind.grows
    with attach(disk, kind.sector_size) as attached, part_of(attached, root.start, root.size) as node:
        oracles.check_filesystem(kind.filesystem, node)
        assert root.size - bytes_of(kind.filesystem, node) < 64 * KIB
        if kind.filesystem is FileSystem.EXT4:
            assert oracles.output("debugfs", "-R", "ls -p /", node).count("/new") == 8
