"""A GPT for sectors of another size is written anew where what it leads to works in the disk's sectors."""

from __future__ import annotations

import io
import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from libironic_disk import deploy
from libironic_disk.errors import DiskState, GeometryMismatch, ImageRefused
from libironic_disk.pure.report import DeployResult
from libironic_disk.units import KIB, MIB
from tests.conftest import Bench
from tests.support import oracles, wholedisks
from tests.support.disks import LoopDisk, attach
from tests.support.rooted_images import part_of

pytestmark = pytest.mark.loopdevice


@dataclass(frozen=True)
class Part:
    """A partition of an image: how large it is, and what makes its contents on a device."""

    size: int
    make: Callable[[str], object]


def program(*argv: str) -> Callable[[str], object]:
    return lambda node: oracles.output(*argv, node)


def noise(node: str) -> None:
    Path(node).write_bytes(random.Random(4).randbytes(64 * KIB))


BLANK = Part(MIB, lambda node: None)
EXT = Part(8 * MIB, program("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096"))
EXT_1K = Part(8 * MIB, program("mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024"))
XFS = Part(320 * MIB, program("mkfs.xfs", "-q", "-s", "size=4096"))
XFS_512 = Part(320 * MIB, program("mkfs.xfs", "-q", "-s", "size=512"))
BTRFS = Part(128 * MIB, program("mkfs.btrfs", "-q", "--mixed"))
SWAP = Part(4 * MIB, program("mkswap"))
FAT = Part(16 * MIB, program("mkfs.vfat", "-S", "4096"))
FAT_512 = Part(16 * MIB, program("mkfs.vfat", "-S", "512"))
NOISE = Part(MIB, noise)


def image(path: Path, made_for: int, parts: tuple[Part, ...], *, label: str = "gpt", skew: int = 0) -> Path:
    """Make an image for sectors of a size; ``skew`` moves every partition by bytes."""
    starts = [MIB + skew + sum(part.size for part in parts[:at]) for at in range(len(parts))]
    with path.open("wb") as file:
        file.truncate(starts[-1] + parts[-1].size + MIB)
    rows = [f"start={at // made_for}, size={part.size // made_for}" for at, part in zip(starts, parts, strict=True)]
    with attach(path, made_for) as disk:
        argv = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk.node]
        subprocess.run(argv, input="\n".join([f"label: {label}", *rows]), text=True, check=True)
    with attach(path, 512) as disk:
        for at, part in zip(starts, parts, strict=True):
            with part_of(disk, at, part.size) as node:
                part.make(node)
    return path


def put(source: Path | io.BytesIO, disk: LoopDisk) -> DeployResult:
    return deploy.deploy(replace(wholedisks.request_for(disk, source), image_other_sectors=True))


@pytest.mark.parametrize(
    ("made_for", "parts"),
    [(512, (EXT, XFS, BTRFS, SWAP, FAT, BLANK)), (4096, (FAT, EXT)), (4096, (FAT_512, EXT_1K, XFS_512, SWAP))],
    ids=["512", "4096", "4096-with-small-blocks"],
)
@pytest.mark.parametrize("form", ["file", "stream"])
def test_the_table_is_made_anew_and_the_partitions_stay(
    bench: Bench, tmp_path: Path, made_for: int, parts: tuple[Part, ...], form: str
) -> None:
    raw = image(tmp_path / "image.raw", made_for, parts)
    size, sector = raw.stat().st_size, 4096 + 512 - made_for
    disk = bench.disk(size + 8 * MIB, sector)
    wholedisks.litter_with_partitions(disk)
    result = put(raw if form == "file" else io.BytesIO(raw.read_bytes()), disk)
    oracles.check_gpt(disk.node)
    with attach(raw, made_for) as original:
        before, after = oracles.sfdisk(original.node), oracles.sfdisk(disk.node)
    assert before.disk_id == after.disk_id
    for old, new in zip(before.rows, after.rows, strict=True):
        assert (old.start * made_for, old.size * made_for) == (new.start * sector, new.size * sector)
        assert (old.uuid, old.type_id) == (new.uuid, new.type_id)
    for part in result.partitions:
        oracles.output("cmp", "--bytes", str(part.size), "--ignore-initial", f"0:{part.start}", part.node, str(raw))
        if part.filesystem in ("ext4", "xfs", "btrfs", "vfat"):
            oracles.check_filesystem(part.filesystem, part.node)
    # Nobody finds the table that the image had.
    kinds = oracles.output("wipefs", "--noheadings", "--output", "TYPE,OFFSET", disk.node).split()
    assert kinds == ["gpt", hex(sector), "gpt", hex(disk.file.stat().st_size - sector), "PMBR", "0x1fe"]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ((EXT_1K,), "holds ext4, which was made for sectors of at most 1024 bytes"),
        ((EXT, XFS_512), "partition 2 holds xfs, which was made for sectors of at most 512 bytes"),
        ((FAT_512,), "holds vfat, which was made for sectors of at most 512 bytes"),
        ((NOISE,), "holds what isn't known, which can't be shown to work"),
    ],
    ids=["ext", "xfs", "fat", "noise"],
)
@pytest.mark.parametrize(("form", "state"), [("file", DiskState.UNCHANGED), ("stream", DiskState.UNBOOTABLE)])
def test_what_would_not_work_is_refused(
    bench: Bench, tmp_path: Path, parts: tuple[Part, ...], words: str, form: str, state: DiskState
) -> None:
    raw = image(tmp_path / "image.raw", 512, parts)
    disk = bench.disk(raw.stat().st_size + MIB, 4096)
    with pytest.raises(ImageRefused, match=words) as refused:
        put(raw if form == "file" else io.BytesIO(raw.read_bytes()), disk)
    assert refused.value.disk is state
    assert wholedisks.opinions(disk.file, sector_size=4096) == set()


def test_partitions_without_whole_sectors_are_refused(bench: Bench, tmp_path: Path) -> None:
    raw = image(tmp_path / "image.raw", 512, (EXT,), skew=512)
    with pytest.raises(ImageRefused, match="has no whole sectors behind the table") as refused:
        put(raw, bench.disk(64 * MIB, 4096))
    assert refused.value.disk is DiskState.UNCHANGED


def test_an_mbr_is_never_made_anew(bench: Bench, tmp_path: Path) -> None:
    raw = image(tmp_path / "image.raw", 512, (EXT,), label="dos")
    with pytest.raises(GeometryMismatch):
        put(raw, bench.disk(64 * MIB, 4096))


def test_unless_it_is_asked_for_nothing_is_made_anew(bench: Bench, tmp_path: Path) -> None:
    raw = image(tmp_path / "image.raw", 512, (EXT,))
    with pytest.raises(GeometryMismatch):
        deploy.deploy(wholedisks.request_for(bench.disk(64 * MIB, 4096), raw))
