"""Images on partitions of real block devices: right to the last byte on a used disk, and honest about failures."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from libironic_disk import images
from libironic_disk.errors import DeviceFailed
from libironic_disk.events import BytesMoved, Event
from libironic_disk.images import Engine
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support.disks import LoopDisk, looped, mounted
from tests.support.oracles import check_filesystem, output
from tests.support.qcow2_images import COMPRESSED_OPTIONS, OPTIONS, assert_identical, converted, created, raw_image
from tests.support.written import packed

pytestmark = pytest.mark.loopdevice

BEFORE = MIB
SIZE = 32 * MIB
AFTER = MIB


@contextmanager
def partition(disk: LoopDisk, *, start: int = BEFORE, size: int = SIZE) -> Iterator[str]:
    """Give the node of a partition that only the kernel knows of, on a disk that holds old data everywhere."""
    with open(disk.node, "r+b", buffering=0) as file:  # noqa: PTH123 - a device, not a path of ours
        while file.tell() < start + size + AFTER:
            file.write(b"\xaa" * MIB)
    # addpart counts in units of 512 bytes on every disk.
    output("addpart", disk.node, "1", str(start // 512), str(size // 512))
    try:
        yield f"{disk.node}p1"
    finally:
        output("delpart", disk.node, "1")


@pytest.fixture
def target(bench: Bench, sector_size: int) -> Iterator[tuple[LoopDisk, str]]:
    disk = bench.disk(BEFORE + SIZE + AFTER, sector_size)
    with partition(disk) as node:
        yield disk, node


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return raw_image(tmp_path_factory.mktemp("raw") / "image.raw")


def contents(disk: LoopDisk) -> bytes:
    """Return what the device holds, past every cache."""
    return subprocess.run(
        ["dd", f"if={disk.node}", "bs=1M", "iflag=direct", "status=none"], capture_output=True, check=True
    ).stdout


def assert_written(disk: LoopDisk, image: bytes) -> None:
    """Assert that the image is on the partition and that not a byte around it was touched."""
    found = contents(disk)
    assert found[:BEFORE] == b"\xaa" * BEFORE
    assert found[BEFORE : BEFORE + len(image)] == image
    assert found[BEFORE + len(image) :] == b"\xaa" * (SIZE - len(image) + AFTER)


@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize("options", [*OPTIONS, *(f"-c,{options}" for options in COMPRESSED_OPTIONS)])
def test_a_qcow2_image_replaces_all_that_was_there(
    target: tuple[LoopDisk, str], raw: Path, tmp_path: Path, options: str, engine: Engine
) -> None:
    disk, node = target
    compress = options.startswith("-c,")
    path = converted(raw, tmp_path / "image.qcow2", options.removeprefix("-c,"), compress=compress)
    images.write_image(images.inspect(path, engine=engine), node, capacity=SIZE)
    assert_written(disk, raw.read_bytes())


@pytest.mark.parametrize("engine", Engine)
def test_an_image_with_snapshots_and_holes_replaces_all_that_was_there(
    target: tuple[LoopDisk, str], tmp_path: Path, engine: Engine
) -> None:
    _disk, node = target
    path = created(tmp_path / "image.qcow2", SIZE, "", "write -P 1 0 20M", "discard 1M 9M", "write -z 11M 3M")
    output("qemu-img", "snapshot", "-c", "first", str(path))
    output("qemu-io", "-f", "qcow2", "-c", "write -P 2 5M 100k", str(path))
    images.write_image(images.inspect(path, engine=engine), node, capacity=SIZE)
    assert_identical(path, node)


@pytest.mark.parametrize("verify", [False, True], ids=["", "verified"])
@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize("kind", ["file", "stream", "qcow2 stream", "qcow2 in gzip", "raw in zstd"])
def test_raw_images_and_streams_replace_all_that_was_there(
    target: tuple[LoopDisk, str], raw: Path, tmp_path: Path, kind: str, engine: Engine, verify: bool
) -> None:
    disk, node = target
    path = converted(raw, tmp_path / "image.qcow2") if "qcow2" in kind else raw
    path = packed(path, kind.split()[-1]) if " in " in kind else path
    with path.open("rb") as stream:
        image = images.inspect(stream if "stream" in kind else path, engine=engine)
        images.write_image(image, node, capacity=SIZE, verify=verify)
    assert_written(disk, raw.read_bytes())


def test_holes_are_made_by_the_device_and_not_written(bench: Bench, sector_size: int, tmp_path: Path) -> None:
    sparse = tmp_path / "image.raw"
    with sparse.open("wb") as file:
        file.truncate(300 * MIB + 512)
        file.seek(150 * MIB)
        file.write(b"x" * MIB)
    disk = bench.disk(500 * MIB, sector_size)
    with partition(disk, size=400 * MIB) as node:
        images.write_image(images.inspect(sparse), node, capacity=400 * MIB)
        # The compared device is larger; the rest of it still holds old data, so the image's own bytes are compared.
        output("cmp", "--bytes", str(300 * MIB + 512), str(sparse), node)
        assert output(
            "cmp", "--ignore-initial", f"0:{300 * MIB + 512}", "--bytes", str(MIB), "/dev/zero", node, ok=(1,)
        )
    # Of 300 MiB that were written, only the data takes room on the file behind the disk; 100 MiB weren't.
    assert disk.file.stat().st_blocks * 512 < 110 * MIB


def test_a_file_system_image_is_whole_and_its_progress_reported(bench: Bench, sector_size: int, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "marker").write_text("here")
    plain = tmp_path / "image.raw"
    output("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", str(tree), str(plain), "300M")
    path = converted(plain, tmp_path / "image.qcow2", compress=True)
    disk = bench.disk(400 * MIB, sector_size)
    events: list[Event] = []
    with partition(disk, size=350 * MIB) as node:
        written = images.write_image(images.inspect(path), node, capacity=350 * MIB, sink=events.append)
        check_filesystem("ext4", node)
        with mounted(node, tmp_path / "mount", "-o", "ro") as where:
            assert (where / "marker").read_text() == "here"
    assert written.bytes_written == 300 * MIB
    moved = [event for event in events if isinstance(event, BytesMoved)]
    assert moved[-1].done == moved[-1].total == path.stat().st_size


@contextmanager
def disk_without_room(where: Path, room: int) -> Iterator[str]:
    """Give a disk of 64 MiB whose medium fails behind the first ``room`` bytes that are written."""
    where.mkdir()
    output("mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(where))
    try:
        file = where / "disk.img"
        with file.open("wb") as opened:
            opened.truncate(64 * MIB)
        with looped(file) as node:
            yield node
    finally:
        output("umount", str(where))


@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize("kind", ["raw", "qcow2", "gzip"])
def test_a_write_that_the_device_lost_is_never_a_success(tmp_path: Path, kind: str, engine: Engine) -> None:
    full = tmp_path / "full.raw"
    full.write_bytes(b"f" * 24 * MIB)
    path = {"raw": lambda: full, "qcow2": lambda: converted(full, tmp_path / "image.qcow2")}.get(
        kind, lambda: packed(full, "gzip")
    )()
    image = images.inspect(path, engine=engine)
    with disk_without_room(tmp_path / "small", 8 * MIB) as node, pytest.raises(DeviceFailed) as failed:
        images.write_image(image, node, capacity=64 * MIB)
    assert failed.value.device == node
    assert failed.value.action in ("writing", "flushing")


def test_a_partition_smaller_than_planned_is_refused(target: tuple[LoopDisk, str], raw: Path) -> None:
    disk, node = target
    with pytest.raises(DeviceFailed, match="were planned"):
        images.write_image(images.inspect(raw), node, capacity=SIZE + 512)
    assert_written(disk, b"")
