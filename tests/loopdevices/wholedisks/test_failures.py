"""Whole-disk images that fail after the first write: nobody finds a table any more, at neither end of the disk."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from libironic_disk import deploy
from libironic_disk.errors import (
    Cancelled,
    ChecksumMismatch,
    DeviceFailed,
    DiskError,
    DiskState,
    GeometryMismatch,
    ImageDamaged,
    ImageOrderUnsupported,
    ImageTooLarge,
    NodeMissing,
    SourceFailed,
)
from libironic_disk.events import BytesMoved, Cancellation, Event, Phase, PhaseFinished, PhaseStarted
from libironic_disk.machine.disks import disk_io, partition_nodes, sysfs
from libironic_disk.machine.disks.sysfs import BlockNode
from libironic_disk.machine.images import http_mirrors, streaming
from libironic_disk.machine.images.target import Target
from libironic_disk.pure.images import qcow2_spillway
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.tables.model import Extent
from libironic_disk.units import KIB, MIB
from libironic_disk.wholedisk import writing
from tests.conftest import Bench
from tests.support import oracles, wholedisks
from tests.support.badserver import Fault, ImageServer, Kind
from tests.support.disks import LoopDisk, attach
from tests.support.webserver import serving

pytestmark = pytest.mark.loopdevice

SIZE = 8 * MIB
LARGER = 11 * MIB
WRONG = f"sha256:{hashlib.sha256(b'another image').hexdigest()}"


def gzipped(image: Path) -> bytes:
    return subprocess.run(["gzip", "--stdout", str(image)], check=True, capture_output=True).stdout


def assert_unbootable(disk: LoopDisk, error: DiskError | None = None) -> None:
    """Assert that nobody finds a table or anything else on a disk, in its file either, and that an error says so."""
    if error is not None:
        assert error.disk is DiskState.UNBOOTABLE
        assert f"{disk.node} was left so that it does not boot" in str(error)
    for path in (Path(disk.node), disk.file):
        assert wholedisks.opinions(path, sector_size=disk.sector_size) == set()
    assert oracles.blkid(disk.node) == {}
    assert oracles.output("wipefs", "--noheadings", disk.node) == ""
    found = disk.file.read_bytes()
    assert found[:MIB] == found[-MIB:] == bytes(MIB)
    assert sysfs.partitions(sysfs.whole_disk(disk.node)) == ()


@pytest.mark.parametrize("form", ["raw", "qcow2"])
@pytest.mark.parametrize("by_http", [False, True], ids=["file", "http"])
def test_an_image_with_another_checksum_leaves_no_table(
    disk: LoopDisk, raw: Path, qcow2: Path, form: str, by_http: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    image = {"raw": raw, "qcow2": qcow2}[form]
    with serving() as server, pytest.raises(ChecksumMismatch) as failed:
        served = ImageServer(server=server, body=image.read_bytes())
        request = wholedisks.request_for(disk, served.url if by_http else image)
        deploy.deploy(replace(request, image_checksum=WRONG))
    assert_unbootable(disk, failed.value)


def test_a_stream_that_ends_early_leaves_no_table(disk: LoopDisk, raw: Path, qcow2: Path) -> None:
    cases: list[tuple[bytes, int | None, type[DiskError]]] = [
        (raw.read_bytes()[:-1], SIZE, SourceFailed),
        (qcow2.read_bytes()[:-100_000], None, ImageDamaged),
        (gzipped(raw)[:-1000], None, ImageDamaged),
    ]
    for body, size, wanted in cases:
        with pytest.raises(wanted) as failed:
            deploy.deploy(replace(wholedisks.request_for(disk, io.BytesIO(body)), image_size=size))
        assert_unbootable(disk, failed.value)


def test_a_server_that_stays_away_leaves_no_table(disk: LoopDisk, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(http_mirrors, "_FIRST_PAUSE", 0.01)
    faults = [Fault(kind=Kind.NONE), Fault(kind=Kind.DROP, after=5 * MIB), Fault(kind=Kind.NOT_FOUND)]
    with serving() as server:
        served = ImageServer(server=server, body=raw.read_bytes(), faults=faults)
        with pytest.raises(SourceFailed) as failed:
            deploy.deploy(wholedisks.request_for(disk, served.url))
    assert_unbootable(disk, failed.value)


@pytest.mark.parametrize("when", [Phase.CHECK, Phase.WIPE, Phase.IMAGE, BytesMoved, Phase.COMMIT])
def test_cancelling_leaves_the_old_disk_or_none_or_the_whole_new_one(
    disk: LoopDisk, raw: Path, when: Phase | type[BytesMoved]
) -> None:
    before = disk.digest()
    switch = Cancellation()

    def sink(event: Event) -> None:
        if isinstance(event, BytesMoved) if when is BytesMoved else getattr(event, "phase", None) is when:
            switch.cancel()

    request = wholedisks.request_for(disk, raw)
    if when is Phase.COMMIT:
        # Too late to stop, and never half done.
        deploy.deploy(request, sink=sink, cancel=switch)
        wholedisks.assert_has_image(disk, raw)
        return
    with pytest.raises(Cancelled) as cancelled:
        deploy.deploy(request, sink=sink, cancel=switch)
    if when is Phase.CHECK:
        assert cancelled.value.disk is DiskState.UNCHANGED
        assert disk.digest() == before
    else:
        assert_unbootable(disk, cancelled.value)


def test_cancelling_between_the_image_and_the_commit_leaves_no_table(disk: LoopDisk, raw: Path) -> None:
    switch = Cancellation()

    def sink(event: Event) -> None:
        if isinstance(event, PhaseFinished) and event.phase is Phase.IMAGE:
            switch.cancel()

    with pytest.raises(Cancelled, match="the last check before the first sector") as cancelled:
        deploy.deploy(wholedisks.request_for(disk, raw), sink=sink, cancel=switch)
    assert_unbootable(disk, cancelled.value)


def test_an_image_of_unknown_size_that_is_larger_than_the_disk_leaves_no_table(bench: Bench, raw: Path) -> None:
    small = bench.attach(wholedisks.make_disk(bench.blank_file(SIZE - 512), SIZE - 512, seed=7), 512)
    for body in (raw.read_bytes(), gzipped(raw)):
        with pytest.raises(ImageTooLarge) as failed:
            deploy.deploy(wholedisks.request_for(small, io.BytesIO(body)))
        assert_unbootable(small, failed.value)


def test_what_only_the_end_of_an_image_shows_of_its_sectors_leaves_no_table(bench: Bench, tmp_path: Path) -> None:
    disk = bench.attach(wholedisks.make_disk(bench.blank_file(72 * MIB), 72 * MIB, sector_size=4096, seed=9), 4096)
    gpt, mbr = (wholedisks.make_disk(tmp_path / f"{label}.raw", SIZE, label=label, seed=10) for label in ("gpt", "dos"))
    full = wholedisks.as_qcow2(gpt, "-o", "preallocation=full")
    # A table that comes behind what is looked at, and one that proves nothing as long as the size isn't known.
    for body in (wholedisks.with_tables_last(full).read_bytes(), gzipped(mbr)):
        with pytest.raises(GeometryMismatch) as failed:
            deploy.deploy(wholedisks.request_for(disk, io.BytesIO(body)))
        assert_unbootable(disk, failed.value)


def test_an_image_whose_waiting_clusters_have_no_room_leaves_no_table(
    disk: LoopDisk, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "stream", functools.partial(streaming.stream, stash_budget=64 * KIB))
    monkeypatch.setattr(qcow2_spillway, "_MOST_LENT", 8)
    late = wholedisks.with_tables_last(wholedisks.as_qcow2(raw, "-o", "preallocation=full"))
    with late.open("rb") as stream, pytest.raises(ImageOrderUnsupported) as failed:
        deploy.deploy(wholedisks.request_for(disk, stream))
    assert_unbootable(disk, failed.value)


def test_a_file_that_changes_while_it_is_written_leaves_no_table(disk: LoopDisk, raw: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.raw"
    image.write_bytes(raw.read_bytes())

    def sink(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase is Phase.IMAGE:
            with image.open("r+b") as file:
                file.seek(5 * MIB)
                file.write(b"changed")
            os.utime(image, ns=(1, 1))

    with pytest.raises(SourceFailed) as failed:
        deploy.deploy(wholedisks.request_for(disk, image), sink=sink)
    assert_unbootable(disk, failed.value)


def test_ironic_9_9_a_disk_that_has_no_room_for_what_it_promised_leaves_no_table(raw: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    oracles.output("mount", "-t", "tmpfs", "-o", "size=3M", "tmpfs", str(small))
    try:
        file = small / "disk.img"
        file.touch()
        os.truncate(file, LARGER)
        with attach(file, 512) as disk:
            with pytest.raises(DeviceFailed) as failed:
                deploy.deploy(wholedisks.request_for(disk, raw))
            assert_unbootable(disk, failed.value)
    finally:
        oracles.output("umount", str(small))


def test_writes_that_were_lost_before_are_not_taken_for_a_disk_that_refuses_to_be_blanked(
    disk: LoopDisk, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = disk_io.flush
    lost = [DeviceFailed(device=disk.node, action="flushing", reason="Input/output error")]

    def late_news(fd: int, device: str) -> None:
        flush(fd, device)
        if lost:
            raise lost.pop()

    def sink(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase is Phase.IMAGE:
            monkeypatch.setattr(disk_io, "flush", late_news)
            raise DeviceFailed(device=disk.node, action="writing", reason="Input/output error", offset=5 * MIB)

    with pytest.raises(DeviceFailed, match="writing") as failed:
        deploy.deploy(wholedisks.request_for(disk, raw), sink=sink)
    assert not lost
    assert_unbootable(disk, failed.value)


def test_a_disk_that_dies_is_in_an_unknown_state(disk: LoopDisk, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(*arguments: object) -> int:
        raise DeviceFailed(device=disk.node, action="writing", reason="Input/output error", offset=0)

    def sink(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase is Phase.COMMIT:
            monkeypatch.setattr(disk_io, "zero", dead)
            monkeypatch.setattr(disk_io, "write", dead)

    with pytest.raises(DeviceFailed) as failed:
        deploy.deploy(wholedisks.request_for(disk, raw), sink=sink)
    assert failed.value.disk is DiskState.UNKNOWN
    assert f"{disk.node} could not be made unbootable" in str(failed.value)


def test_a_disk_that_keeps_its_first_sector_is_not_said_to_boot_nothing(
    disk: LoopDisk, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wholedisks.make_disk(disk.file, LARGER, seed=5)
    write = disk_io.write

    def losing(fd: int, device: str, extents: Iterable[Extent]) -> None:
        write(fd, device, (extent for extent in extents if extent.offset))

    monkeypatch.setattr(disk_io, "write", losing)
    with pytest.raises(DeviceFailed, match="reading back from") as failed:
        deploy.deploy(wholedisks.request_for(disk, raw))
    assert failed.value.disk is DiskState.UNKNOWN
    assert f"{disk.node} could not be made unbootable" in str(failed.value)


@pytest.mark.parametrize("place", [MIB + 700 * KIB, 3 * MIB], ids=["data", "zeros"])
def test_verifying_finds_what_the_disk_lost(
    disk: LoopDisk, raw: Path, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = Target.flush

    def forgetful(self: Target) -> None:
        flush(self)
        with disk.file.open("r+b") as file:
            file.seek(place)
            file.write(b"?")

    monkeypatch.setattr(Target, "flush", forgetful)
    with pytest.raises(DeviceFailed, match="these are not the bytes that were written") as failed:
        deploy.deploy(replace(wholedisks.request_for(disk, raw), verify=True))
    assert_unbootable(disk, failed.value)


@pytest.mark.parametrize("place", [512, 1024, 130 * KIB, LARGER - 512])
def test_what_the_disk_lost_of_its_ends_is_found_before_the_first_sector_is_written(
    disk: LoopDisk, tmp_path: Path, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = wholedisks.make_disk(tmp_path / "image.raw", LARGER, seed=11)
    first_sectors: list[bytes] = []
    flush = disk_io.flush

    def forgetful(fd: int, device: str) -> None:
        flush(fd, device)
        with disk.file.open("r+b") as file:
            first_sectors.append(file.read(512))
            file.seek(place)
            if file.read(1) != b"\0":
                file.seek(place)
                file.write(b"?")

    def sink(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase is Phase.COMMIT:
            monkeypatch.setattr(disk_io, "flush", forgetful)

    with pytest.raises(DeviceFailed, match="reading back from") as failed:
        deploy.deploy(wholedisks.request_for(disk, image), sink=sink)
    assert_unbootable(disk, failed.value)
    assert set(first_sectors) == {bytes(512)}


def test_a_node_that_never_appears_is_told_of_a_finished_disk(
    disk: LoopDisk, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = partition_nodes.add

    def forgetful(fd: int, disk: BlockNode, number: int, span: ByteRange) -> None:
        if number != 2:
            add(fd, disk, number, span)

    monkeypatch.setattr(partition_nodes, "add", forgetful)
    monkeypatch.setattr(writing, "_NODE_TIMEOUT", 0.05)
    with pytest.raises(NodeMissing) as missing:
        deploy.deploy(wholedisks.request_for(disk, raw))
    assert (missing.value.number, missing.value.disk) == (2, DiskState.FINISHED)
    wholedisks.assert_has_image(disk, raw)


def test_a_partition_that_the_kernel_refuses_is_a_warning(
    disk: LoopDisk, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = partition_nodes.add
    monkeypatch.setattr(
        partition_nodes,
        "add",
        lambda fd, disk, number, span: add(fd, disk, number, ByteRange(MIB, 2 * MIB) if number == 2 else span),
    )
    result = deploy.deploy(wholedisks.request_for(disk, raw))
    assert [part.node for part in result.partitions] == [f"{disk.node}p1", ""]
    assert result.warnings[-1].startswith(f"adding partition 2 of {disk.node}")


@pytest.mark.parametrize("phase", [Phase.WIPE, Phase.IMAGE, Phase.COMMIT])
def test_a_sink_that_fails_before_the_end_leaves_no_table(disk: LoopDisk, raw: Path, phase: Phase) -> None:
    def sink(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase is phase:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError) as failed:
        deploy.deploy(wholedisks.request_for(disk, raw), sink=sink)
    assert failed.value.__notes__ == [f"{disk.node} was left so that it does not boot"]
    assert_unbootable(disk)


def test_a_sink_that_fails_behind_the_last_write_leaves_the_finished_disk(disk: LoopDisk, raw: Path) -> None:
    def sink(event: Event) -> None:
        if isinstance(event, PhaseFinished) and event.phase is Phase.COMMIT:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        deploy.deploy(wholedisks.request_for(disk, raw), sink=sink)
    wholedisks.assert_has_image(disk, raw)
    assert wholedisks.opinions(Path(disk.node), sector_size=512) == wholedisks.EVERYBODY


@pytest.mark.parametrize("label", ["gpt", "dos"])
@pytest.mark.parametrize("way", ["file", "stream"])
def test_an_image_that_ends_before_its_partitions_do_never_boots(
    disk: LoopDisk, tmp_path: Path, label: str, way: str
) -> None:
    whole = wholedisks.make_disk(tmp_path / "whole.raw", SIZE, label=label, seed=5).read_bytes()
    cut = tmp_path / "cut.raw"
    cut.write_bytes(whole[: SIZE - 3 * MIB])
    with cut.open("rb") as stream, pytest.raises(ImageDamaged, match="before its partition 2 does") as failed:
        deploy.deploy(wholedisks.request_for(disk, cut if way == "file" else stream))
    assert failed.value.disk is DiskState.UNBOOTABLE
    assert wholedisks.opinions(Path(disk.node), sector_size=512) == set()


@pytest.mark.parametrize("at", [512 + 40, 512, 1024 + 3], ids=["header", "magic", "entries"])
def test_an_image_with_a_damaged_gpt_leaves_no_disk(disk: LoopDisk, raw: Path, tmp_path: Path, at: int) -> None:
    """Its backup copy is not where anybody would look for it on a larger disk."""
    damaged = bytearray(raw.read_bytes())
    damaged[at] ^= 0xFF
    image = tmp_path / "damaged.raw"
    image.write_bytes(damaged)
    with pytest.raises(ImageDamaged, match="the primary copy of the GPT") as failed:
        deploy.deploy(wholedisks.request_for(disk, image))
    assert_unbootable(disk, failed.value)
