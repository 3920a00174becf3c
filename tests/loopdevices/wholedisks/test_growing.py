"""The last partition of a whole-disk image, and the file system on it, fill the disk before it is one."""

from __future__ import annotations

import io
import os
import subprocess
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from libironic_disk import deploy
from libironic_disk.errors import DiskError, DiskState, ImageRefused
from libironic_disk.events import Event, Phase, PhaseStarted
from libironic_disk.images import ImageType
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.report import DeployResult
from libironic_disk.pure.roles import Role
from libironic_disk.request import DeployRequest
from libironic_disk.units import KIB, MIB
from tests.conftest import Bench
from tests.support import oracles, wholedisks
from tests.support.disks import LoopDisk, attach
from tests.support.rooted_images import SIZE, bytes_of, part_of, rooted_image

pytestmark = pytest.mark.loopdevice

LARGER = 192 * MIB
METADATA = {"meta_data": {"uuid": "f0f0"}}


def put(source: Path | io.BytesIO, disk: LoopDisk, *, drive: Mapping[str, object] | None = None) -> DeployResult:
    return deploy.deploy(replace(wholedisks.request_for(disk, source), grow=True, config_drive=drive))


@pytest.mark.parametrize("filesystem", list(SIZE))
@pytest.mark.parametrize(("label", "number"), [("gpt", 1), ("dos", 1), ("dos", 5)])
def test_partition_and_file_system_reach_the_end_of_the_disk(
    bench: Bench, tmp_path: Path, filesystem: FileSystem, label: str, number: int
) -> None:
    raw = rooted_image(tmp_path / "image.raw", filesystem, label=label, number=number)
    disk = bench.disk(SIZE[filesystem] + LARGER, 512)
    wholedisks.fill(disk)
    result = put(raw, disk)
    part = result.partitions[-1]
    assert part.number == number
    assert part.start + part.size > SIZE[filesystem] + LARGER - 64 * KIB
    assert oracles.output("blockdev", "--getsize64", part.node).strip() == str(part.size)
    assert part.size - bytes_of(filesystem, part.node) < 64 * KIB
    oracles.check_filesystem(filesystem, part.node)
    with mounted(part.node, filesystem) as directory:
        assert RootDir(directory, tree=part.node).read_file("/file", limit=16) == b"kept"
    if label == "gpt":
        oracles.check_gpt(disk.node)
    assert (result.root_uuid, result.warnings) == (oracles.blkid(part.node)["UUID"], ())


def test_it_ends_where_the_config_drive_begins(bench: Bench, tmp_path: Path, sector_size: int) -> None:
    raw = rooted_image(tmp_path / "image.raw", FileSystem.EXT4, label="gpt", sector_size=sector_size)
    result = put(io.BytesIO(raw.read_bytes()), bench.disk(LARGER, sector_size), drive=METADATA)
    root, drive = result.partitions
    assert (root.role, drive.role) == (Role.ROOT, Role.CONFIG_DRIVE)
    assert root.start + root.size == drive.start
    assert root.size - bytes_of(FileSystem.EXT4, root.node) < 64 * KIB
    oracles.check_filesystem(FileSystem.EXT4, root.node)
    oracles.check_gpt(result.device)


def test_a_plain_file_grows_too(tmp_path: Path) -> None:
    raw = rooted_image(tmp_path / "image.raw", FileSystem.EXT4, label="gpt")
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(LARGER)
    request = DeployRequest(
        device=str(disk), file_sector_size=512, image=raw, image_type=ImageType.WHOLE_DISK, grow=True
    )
    result = deploy.deploy(request)
    oracles.check_gpt(str(disk))
    (part,) = result.partitions
    assert (part.node, part.role) == ("", Role.ROOT)
    with attach(disk, 512) as attached, part_of(attached, part.start, part.size) as node:
        oracles.check_filesystem(FileSystem.EXT4, node)
        assert part.size - bytes_of(FileSystem.EXT4, node) < 64 * KIB


def test_without_room_nothing_grows_and_the_result_says_so(bench: Bench, tmp_path: Path) -> None:
    last = 8 * MIB // 512 - 34
    raw = tmp_path / "image.raw"
    with raw.open("wb") as file:
        file.truncate(8 * MIB)
    script = f"label: gpt\nstart=2048, size={last - 2048}"
    subprocess.run(["sfdisk", "--quiet", str(raw)], input=script, text=True, check=True)
    result = put(raw, bench.disk(8 * MIB, 512))
    assert result.warnings == ("there is no room behind the last partition, 1: nothing grows",)


@pytest.mark.parametrize(("form", "state"), [("file", DiskState.UNCHANGED), ("stream", DiskState.UNBOOTABLE)])
def test_what_can_not_grow_is_refused(bench: Bench, tmp_path: Path, form: str, state: DiskState) -> None:
    raw = wholedisks.make_disk(tmp_path / "image.raw", 8 * MIB, seed=3)
    swap = tmp_path / "swap"
    swap.write_bytes(bytes(2 * MIB))
    oracles.output("mkswap", str(swap))
    oracles.output("dd", f"if={swap}", f"of={raw}", "bs=1M", "seek=4", "conv=notrunc", "status=none")
    disk = bench.disk(LARGER, 512)
    with pytest.raises(ImageRefused, match="its last partition, 2, can't grow: it holds swap") as refused:
        put(raw if form == "file" else io.BytesIO(raw.read_bytes()), disk)
    assert refused.value.disk is state
    assert wholedisks.opinions(disk.file, sector_size=512) == set()


def test_nobody_sees_a_table_while_it_grows(bench: Bench, tmp_path: Path) -> None:
    raw = rooted_image(tmp_path / "image.raw", FileSystem.EXT4, label="gpt")
    disk = bench.disk(LARGER, 512)
    seen: list[set[str]] = []

    def look(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase in (Phase.GROW, Phase.COMMIT):
            seen.append(wholedisks.opinions(disk.file, sector_size=512))

    deploy.deploy(replace(wholedisks.request_for(disk, raw), grow=True), sink=look)
    assert seen == [set(), set()]


def test_a_damaged_file_system_leaves_no_disk(bench: Bench, tmp_path: Path) -> None:
    raw = rooted_image(tmp_path / "image.raw", FileSystem.EXT4, label="gpt")
    with raw.open("r+b") as file:
        # The tables of inodes, as far as e2fsck -p won't go without a person.
        file.seek(MIB + 8 * KIB)
        file.write(b"\xff" * 256 * KIB)
    disk = bench.disk(LARGER, 512)
    with pytest.raises(Exception, match="e2fsck") as failed:
        put(raw, disk)
    assert getattr(failed.value, "disk", None) is DiskState.UNBOOTABLE
    assert wholedisks.opinions(disk.file, sector_size=512) == set()


@pytest.mark.parametrize("tail", [300 * KIB, 900 * KIB])
def test_what_growing_writes_into_the_last_mib_stays_there(bench: Bench, tmp_path: Path, tail: int) -> None:
    """A last allocation group begins there: its superblock must not be overwritten by what was withheld."""
    raw = rooted_image(tmp_path / "image.raw", FileSystem.XFS, label="gpt")
    with attach(raw, 512) as disk, part_of(disk, MIB, SIZE[FileSystem.XFS] - 2 * MIB) as node:
        said = oracles.output("xfs_db", "-r", "-c", "sb 0", "-c", "print agblocks", node)
    group = int(said.split("=")[1]) * 4096
    result = put(raw, bench.disk(MIB + 5 * group + tail + 20 * KIB, 512))
    (part,) = result.partitions
    assert part.size - bytes_of(FileSystem.XFS, part.node) < 4096
    oracles.check_filesystem(FileSystem.XFS, part.node)


def test_what_the_image_has_in_the_last_mib_is_there_while_it_grows(bench: Bench, tmp_path: Path) -> None:
    # A group of blocks begins 700 KiB before the end.
    size = 21 * MIB + 700 * KIB
    raw = tmp_path / "image.raw"
    with raw.open("wb") as file:
        file.truncate(size)
    subprocess.run(["sfdisk", "--quiet", str(raw)], input="label: dos\nstart=2048", text=True, check=True)
    with attach(raw, 512) as disk, part_of(disk, MIB, size - MIB) as node:
        oracles.output(
            "mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-O", "^flex_bg", "-g", "4096", "-N", "512", node
        )
        with mounted(node, FileSystem.EXT4, read_only=False) as directory:
            tree, number = RootDir(directory, tree=node), 0
            with suppress(DiskError, OSError):
                while True:
                    tree.write_file(f"/{number}", bytes([number % 255 + 1]) * 60 * KIB)
                    number += 1
        before = Path(node).read_bytes()
    assert before[-200 * KIB :].strip(b"\0")
    (part,) = put(raw, bench.disk(size + 300 * KIB, 512)).partitions
    oracles.check_filesystem(FileSystem.EXT4, part.node)
    with attach(raw, 512) as disk, part_of(disk, MIB, size - MIB) as node:
        wanted = files_of(node)
    assert files_of(part.node) == wanted


def files_of(node: str) -> dict[str, int]:
    with mounted(node, FileSystem.EXT4) as directory:
        names = [name for name in os.listdir(directory) if name.isdecimal()]  # noqa: PTH208 - a descriptor
        tree = RootDir(directory, tree=node)
        return {name: zlib.crc32(tree.read_file(f"/{name}", limit=MIB)) for name in names}


def test_a_partition_of_a_hybrid_grows_in_its_mbr_too(bench: Bench, tmp_path: Path) -> None:
    raw = rooted_image(tmp_path / "image.raw", FileSystem.EXT4, label="gpt")
    oracles.output("sgdisk", "--hybrid=1", str(raw))
    disk = bench.disk(LARGER, 512)
    put(raw, disk)
    oracles.check_gpt(disk.node)


def test_a_btrfs_that_can_not_grow_is_refused_before_the_image_is_written(bench: Bench, tmp_path: Path) -> None:
    raw = rooted_image(tmp_path / "image.raw", FileSystem.BTRFS, label="gpt")
    with pytest.raises(ImageRefused, match="no btrfs below 256 MiB") as refused:
        put(raw, bench.disk(SIZE[FileSystem.BTRFS] + 16 * MIB, 512))
    assert refused.value.disk is DiskState.UNCHANGED


def test_no_member_of_an_array_is_left_where_the_partition_ends_now(bench: Bench, tmp_path: Path) -> None:
    raw = rooted_image(tmp_path / "image.raw", FileSystem.EXT4, label="dos")
    disk = bench.disk(LARGER, 512)
    # On a disk without a table nobody would look for it there: it isn't the whole disk's.
    size = LARGER - MIB
    place = (size - 8 * KIB) // (4 * KIB) * 4 * KIB
    with Path(disk.node).open("r+b", buffering=0) as node:
        os.pwrite(node.fileno(), wholedisks.raid_superblock(place), MIB + place)
    with part_of(disk, MIB, size) as node_of_old:
        assert oracles.blkid(node_of_old)["TYPE"] == "linux_raid_member"
    (part,) = put(raw, disk).partitions
    assert (part.start, part.size, part.filesystem) == (MIB, size, "ext4")
    assert oracles.blkid(part.node)["TYPE"] == "ext4"
