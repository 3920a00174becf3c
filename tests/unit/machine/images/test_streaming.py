"""Images streamed onto a target: whatever goes wrong on the way is an error, and everything is released."""

from __future__ import annotations

import gzip
import io
import os
import struct
import threading
import time
import zlib
from contextlib import nullcontext
from pathlib import Path

import pytest

from libironic_disk import images
from libironic_disk.errors import (
    Cancelled,
    DeviceFailed,
    ImageDamaged,
    ImageOrderUnsupported,
    ImageRefused,
    ImageTooLarge,
    SourceFailed,
)
from libironic_disk.events import BytesMoved, Cancellation, Event, ignore
from libironic_disk.images import ImageFormat, Proof
from libironic_disk.machine.images.metering import Meter
from libironic_disk.machine.images.streaming import Streamed, stream
from libironic_disk.machine.images.target import open_target
from libironic_disk.machine.images.withholding import Withheld
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.units import GIB, KIB, MIB
from tests.support.badserver import ImageServer
from tests.support.oracles import output
from tests.support.qcow2_images import assert_identical, converted, created, raw_image
from tests.support.streams import Broken, Endless
from tests.support.webserver import serving
from tests.support.written import OLD, packed, used, write

RAW, QCOW2 = ImageFormat.RAW, ImageFormat.QCOW2


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return raw_image(tmp_path_factory.mktemp("raw") / "image.raw")


def large(tmp_path: Path, kind: str) -> Path:
    """Make an image that takes a moment to write."""
    path = tmp_path / f"image.{kind}"
    if kind == "raw":
        path.write_bytes(OLD * 100 * MIB)
        return path
    return created(path, GIB, "", "write -q -P 1 0 100M")


def room(tmp_path: Path, size: int = GIB) -> Path:
    target = tmp_path / "target"
    with target.open("wb") as file:
        file.truncate(size)
    return target


@pytest.mark.parametrize("announced", [False, True])
@pytest.mark.parametrize(("options", "compress"), [("", False), ("cluster_size=512", True)])
def test_a_truncated_qcow2_stream_is_no_success_or_lacks_nothing(
    raw: Path, tmp_path: Path, options: str, compress: bool, announced: bool
) -> None:
    whole = converted(raw, tmp_path / "image.qcow2", options, compress=compress).read_bytes()
    reasons: list[str] = []
    for missing in (1, 200, 512, 4096, 65537, *range(100_000, len(whole), len(whole) // 6)):
        cut = whole[:-missing]
        target = used(tmp_path / "target", 24 * MIB)
        try:
            write(images.inspect(io.BytesIO(cut), size=len(cut) if announced else None), target)
        except ImageDamaged as damaged:
            reasons.append(damaged.reason)
        else:
            # The last sector of compressed clusters needn't be whole.
            assert missing < 512
            assert compress
            assert target.read_bytes() == raw.read_bytes()
    assert len(reasons) >= 9
    assert all("truncated" in reason or "can't be unpacked (it ends" in reason for reason in reasons)


def test_a_truncated_gzip_is_no_success_though_its_image_is_whole(raw: Path, tmp_path: Path) -> None:
    whole = packed(converted(raw, tmp_path / "image.qcow2"), "gzip").read_bytes()
    with pytest.raises(ImageDamaged, match="truncated"):
        write(images.inspect(io.BytesIO(whole[:-1])), used(tmp_path / "target", 24 * MIB))


def test_a_stream_of_unknown_size_stops_at_the_capacity(raw: Path, tmp_path: Path) -> None:
    target = used(tmp_path / "target", 24 * MIB)
    with raw.open("rb") as source, pytest.raises(ImageTooLarge, match="upload unpacks to"):
        write(images.inspect(source, name="upload"), target, capacity=10 * MIB)
    assert target.read_bytes()[10 * MIB :] == OLD * 14 * MIB


@pytest.mark.parametrize("until", [5, 300 * KIB, 20 * MIB])
def test_a_source_that_dies_is_reported_with_its_place(raw: Path, tmp_path: Path, until: int) -> None:
    with pytest.raises(SourceFailed, match="reset by peer") as failed:
        write(images.inspect(Broken(raw.read_bytes(), until)), used(tmp_path / "target", 24 * MIB))
    assert failed.value.offset == until
    assert threading.active_count() == 1


@pytest.mark.parametrize("pack", ["gzip", None])
def test_a_qcow2_stream_that_dies_is_reported_with_its_place(raw: Path, tmp_path: Path, pack: str | None) -> None:
    path = converted(raw, tmp_path / "image.qcow2")
    whole = (packed(path, pack) if pack else path).read_bytes()
    until = len(whole) - 1000
    stream = Broken(whole, until)
    with pytest.raises(SourceFailed, match="reset by peer") as failed:
        write(images.inspect(stream), used(tmp_path / "target", 24 * MIB))
    assert failed.value.offset == until
    assert threading.active_count() == 1


@pytest.mark.parametrize("parts", [True, False])
@pytest.mark.parametrize("wrong", [-1, 1, 0])
def test_an_announced_size_holds_where_a_server_says_none(
    raw: Path, tmp_path: Path, wrong: int, parts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as server:
        served = ImageServer(server=server, body=raw.read_bytes(), parts=parts, chunked=True)
        if parts:
            with pytest.raises(SourceFailed, match="were announced") if wrong else nullcontext():
                images.inspect(served.url, size=24 * MIB + wrong)
            return
        image = images.inspect(served.url, size=24 * MIB + wrong)
        assert image.virtual_size == 24 * MIB + wrong
        words = "goes on behind the 25165823 bytes|ended as if it were whole, and it has 25165825 bytes"
        with pytest.raises(SourceFailed, match=words) if wrong else nullcontext():
            assert write(image, used(tmp_path / "target", 25 * MIB)).proof is Proof.LENGTH


def test_a_stream_without_an_end_is_stopped(tmp_path: Path) -> None:
    head = created(tmp_path / "image.qcow2", MIB, "", "write -q -P 1 0 1M").read_bytes()
    endless = Endless(head)
    with pytest.raises(ImageRefused, match="goes on behind byte 69206016"):
        write(images.inspect(endless), used(tmp_path / "target", MIB))
    assert endless.given < 128 * MIB


def test_a_few_bytes_that_unpack_without_an_end_are_stopped(tmp_path: Path) -> None:
    """One deflate block of zeros after the other: as cheap to make as to send."""
    head = created(tmp_path / "image.qcow2", MIB).read_bytes()
    packer = zlib.compressobj(1, wbits=31)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(16 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)

    class Bomb(Endless):
        def read(self, size: int, /) -> bytes:
            self.given += 1
            return (start if self.given == 1 else again)[:size]

    bomb = Bomb(b"")
    with pytest.raises(ImageRefused, match="goes on behind byte 69206016"):
        write(images.inspect(bomb), used(tmp_path / "target", MIB))
    assert threading.active_count() == 1


@pytest.mark.parametrize("kind", [RAW, QCOW2])
def test_a_file_that_changed_since_inspection_is_not_written(raw: Path, tmp_path: Path, kind: ImageFormat) -> None:
    path = tmp_path / "image"
    path.write_bytes(raw.read_bytes() if kind is RAW else converted(raw, tmp_path / "other").read_bytes())
    target = used(tmp_path / "target", 24 * MIB)
    image = images.inspect(path)
    os.utime(path, ns=(0, 0))
    with pytest.raises(SourceFailed, match="changed or replaced"):
        write(image, target)
    assert target.read_bytes() == OLD * 24 * MIB


# Larger than what is read ahead: at the first event, the end hasn't been read.
@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_file_that_changes_meanwhile_is_no_success(tmp_path: Path, kind: str) -> None:
    path = large(tmp_path, kind)
    with pytest.raises(SourceFailed, match="changed or replaced"):
        write(images.inspect(path), room(tmp_path), sink=lambda event: os.utime(path, ns=(0, 0)))
    assert threading.active_count() == 1


def test_a_backing_file_that_appears_meanwhile_is_not_read(tmp_path: Path) -> None:
    path = created(tmp_path / "image.qcow2", 30 * MIB, "", "write -q -P 1 0 25M")
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret" * 5 * MIB)
    target = used(tmp_path / "target", 30 * MIB)

    def sink(event: Event) -> None:
        name = os.fsencode(secret)
        with path.open("r+b") as file:
            file.seek(8)
            file.write(struct.pack(">QI", 4096, len(name)))
            file.seek(4096)
            file.write(name)

    with pytest.raises(SourceFailed, match="changed or replaced"):
        write(images.inspect(path), target, sink=sink)
    assert b"secret" not in target.read_bytes()


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_another_image_at_the_same_path_is_not_read(raw: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(raw.read_bytes() if kind == "raw" else converted(raw, tmp_path / "plain").read_bytes())
    other = created(tmp_path / "other", 24 * MIB, "", "write -q -P 6 0 24M")
    target = used(tmp_path / "target", 24 * MIB)

    def sink(event: Event) -> None:
        if other.exists():
            other.replace(path)

    write(images.inspect(path), target, sink=sink)
    assert not other.exists()
    assert target.read_bytes() == raw.read_bytes()


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_writing_can_be_cancelled(tmp_path: Path, kind: str, verify: bool) -> None:
    cancel = Cancellation()
    events: list[Event] = []

    def sink(event: Event) -> None:
        events.append(event)
        if not verify or (isinstance(event, BytesMoved) and event.done == event.total):
            cancel.cancel()

    with pytest.raises(Cancelled):
        write(images.inspect(large(tmp_path, kind)), room(tmp_path), sink=sink, cancel=cancel, verify=verify)
    assert threading.active_count() == 1
    assert events


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_what_a_sink_raises_reaches_the_caller(tmp_path: Path, kind: str) -> None:
    def sink(event: Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(images.inspect(large(tmp_path, kind)), room(tmp_path), sink=sink)
    assert threading.active_count() == 1


def test_digesting_a_large_hole_can_be_cancelled(tmp_path: Path) -> None:
    """16 GiB of zeros take ten seconds and more to digest, and no time at all to read."""
    path = room(tmp_path, 16 * GIB).rename(tmp_path / "image")
    cancel = Cancellation()
    done: list[int] = []

    def sink(event: Event) -> None:
        if isinstance(event, BytesMoved) and event.done:
            done.append(event.done)
            cancel.cancel()

    with pytest.raises(Cancelled):
        write(images.inspect(path, checksum="0" * 64), room(tmp_path, 16 * GIB), sink=sink, cancel=cancel)
    assert threading.active_count() == 1
    # How far it is was told before the end of the hole.
    assert 0 < done[0] < 16 * GIB


class Failing:
    """A target that fails."""

    name, capacity = "/dev/failing", 1000 * GIB

    def write(self, offset: int, data: memoryview) -> None:
        raise DeviceFailed(device=self.name, action="writing", reason="Input/output error", offset=offset)

    def zero(self, offset: int, length: int) -> None:
        raise DeviceFailed(device=self.name, action="zeroing", reason="Input/output error", offset=offset)

    def flush(self) -> None:
        raise AssertionError("what failed is flushed")

    def scratch(self, offset: int, data: memoryview) -> None:
        raise NotImplementedError

    def recall(self, offset: int, length: int) -> bytes:
        raise NotImplementedError


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
@pytest.mark.parametrize("pack", ["gzip", None])
def test_a_disk_that_fails_ends_everything_with_its_error(tmp_path: Path, kind: str, pack: str | None) -> None:
    """Nothing waits for buffers that those have who are not going to write them any more."""
    path = large(tmp_path, kind)
    path = packed(path, pack) if pack else path
    for _ in range(5):
        with pytest.raises(DeviceFailed, match="Input/output error"):
            stream(images.inspect(path), Failing(), meter=Meter(ignore, None, None), cancel=None)
        assert threading.active_count() == 1


def test_a_disk_that_fails_while_all_that_was_read_waits_for_it_ends_everything(tmp_path: Path) -> None:
    """Each worker zeroes something, all buffers are behind that, and the reader waits for one of them."""

    class Zeroing(Failing):
        def write(self, offset: int, data: memoryview) -> None:
            pass

        def zero(self, offset: int, length: int) -> None:
            time.sleep(0.3)
            super().zero(offset, length)

    # Each piece of a hole is 16 GiB. Behind these is more data than all buffers take.
    processors = len(os.sched_getaffinity(0))
    path = room(tmp_path, 16 * GIB * max(2, processors)).rename(tmp_path / "image")
    with path.open("ab") as file:
        file.write(OLD * 50 * MIB)
    with pytest.raises(DeviceFailed, match="zeroing"):
        stream(images.inspect(path), Zeroing(), meter=Meter(ignore, None, None), cancel=None)
    assert threading.active_count() == 1


def test_a_disk_that_fails_is_reported_while_a_stream_stalls() -> None:
    go_on, gone_on = threading.Event(), threading.Event()

    class Stalling(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            piece = super().read(size)
            if not piece:
                go_on.wait(20)
                gone_on.set()
            return piece

    image = images.inspect(Stalling(OLD * 5 * MIB))
    with pytest.raises(DeviceFailed):
        stream(image, Failing(), meter=Meter(ignore, None, None), cancel=None)
    assert not gone_on.is_set()
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "libironic_disk-read":
            thread.join(10)
    assert threading.active_count() == 1


def late(tmp_path: Path) -> Path:
    """Make an image whose active L1 and L2 tables are behind what they map."""
    path = created(tmp_path / "image.qcow2", 8 * MIB, "", "write -q -P 1 0 5M")
    output("qemu-img", "snapshot", "-c", "first", str(path))
    output("qemu-io", "-f", "qcow2", "-c", "write -q -P 2 100k 64k", str(path))
    return path


def streamed(path: Path, target: Path, *, stash: int, spill_end: int | None = None) -> Streamed:
    image = images.inspect(io.BytesIO(path.read_bytes()))
    with open_target(str(target), capacity=target.stat().st_size, regular_file=True, recording=True) as opened:
        meter = Meter(ignore, None, None)
        done = stream(image, opened, meter=meter, cancel=None, stash_budget=stash, spill_end=spill_end)
        opened.verify(cancel=None, moved=lambda count: None)
        return done


def test_clusters_wait_for_their_table_behind_the_images_end_where_memory_is_short(tmp_path: Path) -> None:
    path, target = late(tmp_path), used(tmp_path / "target", 24 * MIB)
    assert streamed(path, target, stash=0).size == 8 * MIB
    found = target.read_bytes()
    kept = len(found[8 * MIB :].lstrip(b"\0"))
    # What was used for that is zeros, and no more than that was.
    assert 10 * MIB < kept < 16 * MIB - 3 * MIB
    assert found[-kept:] == OLD * kept
    os.truncate(target, 8 * MIB)
    assert_identical(path, target)


def test_clusters_that_find_no_room_to_wait_are_refused_with_advice(tmp_path: Path) -> None:
    path, target = late(tmp_path), used(tmp_path / "target", 24 * MIB)
    with pytest.raises(ImageOrderUnsupported):
        streamed(path, target, stash=0, spill_end=0)
    assert target.read_bytes()[8 * MIB :] == OLD * 16 * MIB
    assert streamed(path, target, stash=16 * MIB, spill_end=0).size == 8 * MIB
    assert target.read_bytes()[8 * MIB :] == OLD * 16 * MIB


def test_what_waits_keeps_off_the_start_of_a_disk_however_small_the_image_is(tmp_path: Path) -> None:
    path = created(tmp_path / "image.qcow2", 512 * KIB, "cluster_size=4k", "write -q -P 1 0 400k")
    output("qemu-img", "snapshot", "-c", "first", str(path))
    output("qemu-io", "-f", "qcow2", "-c", "write -q -P 2 100k 64k", str(path))
    places = []

    class Seen(Withheld):
        def scratch(self, offset: int, data: memoryview) -> None:
            super().scratch(offset, data)
            places.append(offset)

    target = used(tmp_path / "target", 8 * MIB)
    with open_target(str(target), capacity=8 * MIB, regular_file=True) as opened:
        seen = Seen(opened, [ByteRange(0, MIB)])
        image = images.inspect(io.BytesIO(path.read_bytes()))
        stream(image, seen, meter=Meter(ignore, None, None), cancel=None, stash_budget=0, spill_start=MIB)
    assert places
    assert min(places) >= MIB
    (start,) = seen.extents()
    oracle = tmp_path / "oracle"
    output("qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(path), str(oracle))
    assert start.data[: 512 * KIB] == oracle.read_bytes()


def test_a_hole_in_a_raw_file_is_not_read_and_becomes_zeros(tmp_path: Path) -> None:
    path = room(tmp_path, 40 * MIB).rename(tmp_path / "image")
    with path.open("r+b") as file:
        file.seek(20 * MIB)
        file.write(b"x" * MIB)
    target = used(tmp_path / "target", 40 * MIB)
    written = write(images.inspect(path), target)
    assert (written.bytes_read, written.bytes_written, written.bytes_zeroed) == (40 * MIB, 40 * MIB, 39 * MIB)
    assert target.read_bytes() == path.read_bytes()
    assert target.stat().st_blocks * 512 < 2 * MIB


def test_gzip_members_in_a_row_are_one_image(raw: Path, tmp_path: Path) -> None:
    whole = raw.read_bytes()
    members = b"".join(gzip.compress(whole[at : at + 5 * MIB], 1) for at in range(0, len(whole), 5 * MIB))
    target = used(tmp_path / "target", 24 * MIB)
    write(images.inspect(io.BytesIO(members)), target)
    assert target.read_bytes() == whole
