"""Images from end to end on plain files: nothing wrong is ever written, and what is written is right."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import pytest

from libironic_disk import images
from libironic_disk.errors import (
    Cancelled,
    DiskError,
    FormatMismatch,
    ImageRefused,
    ImageTooLarge,
    SourceFailed,
    ToolMissing,
)
from libironic_disk.events import BytesMoved, Cancellation, Event, Phase
from libironic_disk.images import ImageFormat, ImageType, InspectedImage
from libironic_disk.machine import process
from libironic_disk.units import GIB, KIB, MIB, TIB
from tests.support.oracles import output
from tests.support.qcow2_images import (
    COMPRESSED_OPTIONS,
    OPTIONS,
    assert_identical,
    converted,
    created,
    raw_image,
)

RAW, QCOW2 = ImageFormat.RAW, ImageFormat.QCOW2


class Broken(io.RawIOBase):
    """A stream that gives an image up to a point, then fails as a connection does."""

    def __init__(self, data: bytes, until: int) -> None:
        self._data = io.BytesIO(data[:until])

    def read(self, size: int = -1, /) -> bytes:
        piece = self._data.read(size)
        if not piece:
            raise ConnectionResetError("reset by peer")
        return piece


def used(path: Path, size: int) -> Path:
    """Make a target that holds old data everywhere."""
    path.write_bytes(b"\xaa" * size)
    return path


def write(
    image: InspectedImage, target: Path, *, capacity: int | None = None, **options: object
) -> images.ImageWritten:
    size = target.stat().st_size if capacity is None else capacity
    return images.write_image(image, str(target), capacity=size, regular_file=True, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return raw_image(tmp_path_factory.mktemp("raw") / "image.raw")


@pytest.mark.parametrize(
    ("properties", "kind"),
    [
        ({}, ImageType.WHOLE_DISK),
        ({"kernel_id": None, "ramdisk_id": ""}, ImageType.WHOLE_DISK),
        ({"kernel_id": "k", "ramdisk_id": "r"}, ImageType.PARTITION),
        ({"kernel": "http://k", "ramdisk": "http://r"}, ImageType.PARTITION),
        ({"image_type": "partition"}, ImageType.PARTITION),
        ({"image_type": "whole-disk", "kernel_id": "k", "ramdisk_id": "r"}, ImageType.WHOLE_DISK),
        ({"img_type": "partition", "kernel_id": "k"}, ImageType.PARTITION),
        ({"image_type": "whole-disk", "img_type": "partition"}, ImageType.WHOLE_DISK),
    ],
)
def test_image_types_are_inferred(properties: Mapping[str, object], kind: ImageType) -> None:
    assert images.infer_image_type(properties) is kind


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"kernel_id": "k"}, "a kernel but no ramdisk"),
        ({"ramdisk_id": "r", "kernel_id": None}, "a ramdisk but no kernel"),
        ({"image_type": "floppy"}, "'floppy'"),
    ],
)
def test_image_types_that_cannot_be_inferred(properties: Mapping[str, object], words: str) -> None:
    with pytest.raises(ImageRefused, match=words):
        images.infer_image_type(properties, image="debian")


def test_only_inspection_makes_an_inspected_image(raw: Path) -> None:
    image = images.inspect(raw)
    with pytest.raises(TypeError, match="inspect"):
        InspectedImage(format=RAW, virtual_size=1, source=image.source, header=None, made_by=None)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("as_stream", [False, True])
def test_what_was_written_is_the_image(raw: Path, tmp_path: Path, compress: bool, as_stream: bool) -> None:
    path = converted(raw, tmp_path / "image.qcow2", compress=compress)
    target = used(tmp_path / "target", 24 * MIB + 4096)
    events: list[Event] = []
    with path.open("rb") as stream:
        image = images.inspect(stream if as_stream else path)
        assert (image.format, image.virtual_size) == (QCOW2, 24 * MIB)
        assert images.required_tools(image) == ("qemu-img",)
        written = write(image, target, sink=events.append)
    size = path.stat().st_size
    assert (written.bytes_read, written.bytes_written) == (size, 24 * MIB)
    assert events[-1] == BytesMoved(phase=Phase.IMAGE, done=size, written=24 * MIB, total=None if as_stream else size)
    done = [event.done for event in events if isinstance(event, BytesMoved)]
    assert done == sorted(done)
    assert target.read_bytes()[24 * MIB :] == b"\xaa" * 4096
    os.truncate(target, 24 * MIB)
    assert_identical(path, target)


@pytest.mark.parametrize("options", OPTIONS)
def test_every_kind_of_qcow2_is_written(raw: Path, tmp_path: Path, options: str) -> None:
    path = converted(raw, tmp_path / "image.qcow2", options)
    target = used(tmp_path / "target", 24 * MIB)
    write(images.inspect(path, declared=QCOW2), target)
    assert target.read_bytes() == raw.read_bytes()


@pytest.mark.parametrize("options", COMPRESSED_OPTIONS)
def test_every_kind_of_compressed_qcow2_is_written(raw: Path, tmp_path: Path, options: str) -> None:
    path = converted(raw, tmp_path / "image.qcow2", options, compress=True)
    target = used(tmp_path / "target", 24 * MIB)
    write(images.inspect(path, declared=QCOW2), target)
    assert target.read_bytes() == raw.read_bytes()


def test_an_image_with_a_history_is_written(raw: Path, tmp_path: Path) -> None:
    path = converted(raw, tmp_path / "image.qcow2", compress=True)
    output("qemu-img", "snapshot", "-c", "first", str(path))
    commands = ("write -P 7 1M 3M", "discard 8M 2M", "write -z 12M 1M", "write -P 9 100k 77")
    output("qemu-io", "-f", "qcow2", *(word for command in commands for word in ("-c", command)), str(path))
    output("qemu-img", "bitmap", "--add", str(path), "dirty")
    output("qemu-img", "resize", "-q", str(path), "31M")
    output("qemu-img", "snapshot", "-c", "second", str(path))
    output("qemu-img", "resize", "-q", "--shrink", str(path), "30M")
    target = used(tmp_path / "target", 30 * MIB)
    write(images.inspect(path), target)
    assert_identical(path, target)


def test_a_flattened_overlay_is_written_and_the_overlay_refused(raw: Path, tmp_path: Path) -> None:
    base = converted(raw, tmp_path / "base.qcow2")
    path = created(tmp_path / "image.qcow2", 24 * MIB, f"backing_file={base},backing_fmt=qcow2", "write -P 5 2M 1M")
    with pytest.raises(ImageRefused, match="backing file"):
        images.inspect(path)
    output("qemu-img", "rebase", "-f", "qcow2", "-b", "", str(path))
    target = used(tmp_path / "target", 24 * MIB)
    write(images.inspect(path), target)
    assert_identical(path, target)


def test_what_qemu_img_makes_and_nobody_should_write_is_refused(tmp_path: Path) -> None:
    data_file = created(tmp_path / "data.qcow2", MIB, f"data_file={tmp_path}/elsewhere")
    with pytest.raises(ImageRefused, match="external data file"):
        images.inspect(data_file)
    encrypted = tmp_path / "encrypted.qcow2"
    secret = ("--object", "secret,id=s,data=test", "-o", "encrypt.format=aes,encrypt.key-secret=s")
    output("qemu-img", "create", "-q", "-f", "qcow2", *secret, str(encrypted), "1M")
    with pytest.raises(ImageRefused, match="encrypted"):
        images.inspect(encrypted)


@pytest.mark.parametrize(
    ("options", "compress"), [("", False), ("", True), ("extended_l2=on", False), ("cluster_size=512", True)]
)
def test_a_truncated_qcow2_is_found_by_inspection_or_lacks_nothing(
    raw: Path, tmp_path: Path, options: str, compress: bool
) -> None:
    whole = converted(raw, tmp_path / "image.qcow2", options, compress=compress).read_bytes()
    path, target = tmp_path / "cut.qcow2", tmp_path / "target"
    reasons: list[str] = []
    for missing in (1, 7, 60, 200, 400, 511, 512, 4096, 65537, *range(100_000, len(whole), len(whole) // 25)):
        path.write_bytes(whole[:-missing])
        try:
            image = images.inspect(path)
        except ImageRefused as refused:
            reasons.append(refused.reason)
        else:
            assert missing < 512
            write(image, used(target, 24 * MIB))
            assert target.read_bytes() == raw.read_bytes()
    assert len(reasons) >= 25
    assert all("truncated" in reason or "ends within" in reason for reason in reasons)


def test_a_truncated_qcow2_stream_is_found_before_the_first_write(raw: Path, tmp_path: Path) -> None:
    whole = converted(raw, tmp_path / "image.qcow2").read_bytes()
    target = used(tmp_path / "target", 24 * MIB)
    with pytest.raises(ImageRefused, match="truncated"):
        write(images.inspect(io.BytesIO(whole[:-100_000]), name="upload"), target)
    assert target.read_bytes() == b"\xaa" * 24 * MIB


@pytest.mark.parametrize("size", ["known", "unknown", None])
def test_a_raw_image_is_written(raw: Path, tmp_path: Path, size: str | None) -> None:
    target = used(tmp_path / "target", 24 * MIB + 100)
    with raw.open("rb") as stream:
        if size is None:
            image = images.inspect(raw, declared=RAW)
        else:
            image = images.inspect(stream, size=24 * MIB if size == "known" else None)
        assert image.format is RAW
        assert image.virtual_size == (None if size == "unknown" else 24 * MIB)
        assert images.required_tools(image) == ()
        written = write(image, target)
    assert (written.bytes_read, written.bytes_written) == (24 * MIB, 24 * MIB)
    assert target.read_bytes() == raw.read_bytes() + b"\xaa" * 100


def test_raw_stays_raw_whatever_its_sectors_hold(raw: Path, tmp_path: Path) -> None:
    hidden = bytearray(raw.read_bytes())
    hidden[1 * MIB : 1 * MIB + 4] = b"QFI\xfb"
    hidden[510:512] = b"\x55\xaa"
    path = tmp_path / "image.raw"
    path.write_bytes(hidden)
    target = used(tmp_path / "target", 24 * MIB)
    write(images.inspect(path), target)
    assert target.read_bytes() == hidden


@pytest.mark.parametrize("declared", [None, RAW])
def test_a_pipe_is_read(raw: Path, tmp_path: Path, declared: ImageFormat | None) -> None:
    target = used(tmp_path / "target", 24 * MIB)
    with subprocess.Popen(["cat", str(raw)], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        write(images.inspect(program.stdout, declared=declared), target)
    assert target.read_bytes() == raw.read_bytes()


def test_declarations_must_be_true(raw: Path, tmp_path: Path) -> None:
    qcow2 = converted(raw, tmp_path / "image.qcow2")
    with pytest.raises(FormatMismatch, match="declared as raw but its bytes are qcow2"):
        images.inspect(qcow2, declared=RAW)
    with pytest.raises(FormatMismatch, match="declared as qcow2 but its bytes are raw"):
        images.inspect(raw, declared=QCOW2)


@pytest.mark.parametrize("kind", ["vmdk", "vhdx", "vdi", "qed", "vpc"])
def test_other_formats_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image"
    output("qemu-img", "create", "-q", "-f", kind, str(path), "8M")
    with pytest.raises(ImageRefused, match="vhd" if kind == "vpc" else kind):
        images.inspect(path)


def test_an_empty_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image").touch()
    for source in (tmp_path / "image", io.BytesIO()):
        with pytest.raises(ImageRefused, match="empty"):
            images.inspect(source)


def test_an_image_that_is_too_large_is_refused_before_the_first_write(raw: Path, tmp_path: Path) -> None:
    target = used(tmp_path / "target", 24 * MIB)
    qcow2 = converted(raw, tmp_path / "image.qcow2")
    stream = io.BytesIO(raw.read_bytes())
    for image in (images.inspect(raw), images.inspect(qcow2), images.inspect(stream, size=24 * MIB)):
        with pytest.raises(ImageTooLarge) as refused:
            write(image, target, capacity=24 * MIB - 1)
        assert (refused.value.wanted, refused.value.available) == (24 * MIB, 24 * MIB - 1)
    assert target.read_bytes() == b"\xaa" * 24 * MIB


def test_a_stream_of_unknown_size_stops_at_the_capacity(raw: Path, tmp_path: Path) -> None:
    target = used(tmp_path / "target", 24 * MIB)
    with raw.open("rb") as stream, pytest.raises(ImageTooLarge, match="upload unpacks to"):
        write(images.inspect(stream, name="upload"), target, capacity=10 * MIB)
    assert target.read_bytes()[10 * MIB :] == b"\xaa" * 14 * MIB


@pytest.mark.parametrize("until", [5, 300 * KIB, 20 * MIB])
def test_a_source_that_dies_is_reported_with_its_place(raw: Path, tmp_path: Path, until: int) -> None:
    with pytest.raises(SourceFailed, match="reset by peer") as failed:
        write(images.inspect(Broken(raw.read_bytes(), until)), used(tmp_path / "target", 24 * MIB))
    assert failed.value.offset == until
    assert threading.active_count() == 1


def test_a_qcow2_stream_that_dies_is_reported_and_nothing_is_written(raw: Path, tmp_path: Path) -> None:
    whole = converted(raw, tmp_path / "image.qcow2").read_bytes()
    target = used(tmp_path / "target", 24 * MIB)
    spool = tmp_path / "spool"
    spool.mkdir()
    with pytest.raises(SourceFailed, match="reset by peer"):
        write(images.inspect(Broken(whole, 3 * MIB)), target, spool_dir=spool)
    assert target.read_bytes() == b"\xaa" * 24 * MIB
    assert not [*spool.iterdir()]


def test_an_endless_qcow2_stream_is_stopped(tmp_path: Path) -> None:
    head = created(tmp_path / "image.qcow2", MIB).read_bytes()

    class Endless:
        given = 0

        def read(self, size: int, /) -> bytes:
            self.given += size
            return head[:size] if self.given == size else bytes(size)

    stream = Endless()
    with pytest.raises(ImageRefused, match="goes on"):
        write(images.inspect(stream), used(tmp_path / "target", MIB))
    assert stream.given < 128 * MIB


def test_a_spool_that_cannot_be_kept_is_reported(raw: Path, tmp_path: Path) -> None:
    whole = converted(raw, tmp_path / "image.qcow2").read_bytes()
    with pytest.raises(SourceFailed, match=r"can't be kept in .*absent"):
        write(
            images.inspect(io.BytesIO(whole), name="upload"),
            used(tmp_path / "target", 24 * MIB),
            spool_dir=tmp_path / "absent",
        )


def test_a_file_that_changed_since_inspection_is_not_written(raw: Path, tmp_path: Path) -> None:
    path = tmp_path / "image"
    target = used(tmp_path / "target", 24 * MIB)
    for make in (lambda: path.write_bytes(raw.read_bytes()), lambda: converted(raw, path)):
        make()
        image = images.inspect(path)
        os.utime(path, ns=(0, 0))
        with pytest.raises(SourceFailed, match="changed or replaced"):
            write(image, target)
    assert target.read_bytes() == b"\xaa" * 24 * MIB


def test_a_raw_file_that_changes_meanwhile_is_no_success(raw: Path, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(raw.read_bytes())
    with pytest.raises(SourceFailed, match="changed or replaced"):
        write(images.inspect(path), used(tmp_path / "target", 24 * MIB), sink=lambda event: os.utime(path, ns=(0, 0)))


def test_a_backing_file_that_appears_after_inspection_is_not_read(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = created(tmp_path / "image.qcow2", MIB)
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret" * MIB)
    image = images.inspect(path)
    target = used(tmp_path / "target", MIB)
    real = process.run

    def run(*argv: str, **options: object) -> process.Completed:
        name = os.fsencode(secret)
        with path.open("r+b") as file:
            file.seek(8)
            file.write(struct.pack(">QI", 4096, len(name)))
            file.seek(4096)
            file.write(name)
        return real(*argv, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "run", run)
    with pytest.raises(SourceFailed, match="changed or replaced"):
        write(image, target)
    assert b"secret" not in target.read_bytes()


def test_another_image_at_the_same_path_is_not_read(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = converted(raw, tmp_path / "image.qcow2")
    other = created(tmp_path / "other.qcow2", 24 * MIB, "", "write -P 6 0 24M")
    image = images.inspect(path)
    target = used(tmp_path / "target", 24 * MIB)
    real = process.run

    def run(*argv: str, **options: object) -> process.Completed:
        other.rename(path)
        return real(*argv, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "run", run)
    write(image, target)
    assert target.read_bytes() == raw.read_bytes()


@pytest.mark.parametrize("kind", [RAW, QCOW2])
def test_writing_can_be_cancelled(raw: Path, tmp_path: Path, kind: ImageFormat) -> None:
    path = raw if kind is RAW else created(tmp_path / "image.qcow2", GIB, "", "write -P 1 0 900M")
    target = tmp_path / "target"
    with target.open("wb") as file:
        file.truncate(GIB)
    cancel = Cancellation()
    with pytest.raises(Cancelled):
        write(images.inspect(path), target, sink=lambda event: cancel.cancel(), cancel=cancel)
    assert threading.active_count() == 1


@pytest.mark.parametrize("kind", [RAW, QCOW2])
def test_what_a_sink_raises_reaches_the_caller(raw: Path, tmp_path: Path, kind: ImageFormat) -> None:
    path = raw if kind is RAW else created(tmp_path / "image.qcow2", GIB, "", "write -P 1 0 900M")
    target = tmp_path / "target"
    with target.open("wb") as file:
        file.truncate(GIB)

    def sink(event: Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(images.inspect(path), target, sink=sink)
    assert threading.active_count() == 1


def test_inspection_can_be_cancelled(raw: Path, tmp_path: Path) -> None:
    cancel = Cancellation()
    cancel.cancel()
    with pytest.raises(Cancelled):
        images.inspect(converted(raw, tmp_path / "image.qcow2"), cancel=cancel)


def test_a_missing_qemu_img_is_found_before_anything_else(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = images.inspect(converted(raw, tmp_path / "image.qcow2"))
    monkeypatch.setattr(process, "_search_path", lambda: str(tmp_path))
    target = used(tmp_path / "target", 24 * MIB)
    with pytest.raises(ToolMissing, match="qemu-utils"):
        write(image, target)
    assert target.read_bytes() == b"\xaa" * 24 * MIB


@pytest.mark.parametrize("source", ["/dev/zero", "/dev", "/nonexistent"])
def test_what_is_no_file_is_refused(source: str) -> None:
    with pytest.raises(DiskError, match=source):
        images.inspect(Path(source))


def test_inspecting_a_huge_image_takes_little_memory(tmp_path: Path) -> None:
    # An L2 table for every 64 GiB of the disk, and some data.
    commands = [f"write -P 1 {at}G 64k" for at in range(0, 1024, 64)]
    path = created(tmp_path / "image.qcow2", TIB, "", *commands)
    tracemalloc.start()
    try:
        assert images.inspect(path).virtual_size == TIB
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_nothing_is_printed_or_left_open(raw: Path, tmp_path: Path) -> None:
    """In a process of its own, as a caller would: no file left open, no thread, no word."""
    path = converted(raw, tmp_path / "image.qcow2", compress=True)
    target = used(tmp_path / "target", 24 * MIB)
    script = f"""
import os
from pathlib import Path
from libironic_disk import images
before = len(os.listdir("/proc/self/fd"))
for source in (Path({str(path)!r}), open({str(path)!r}, "rb", buffering=0)):
    images.write_image(images.inspect(source), {str(target)!r}, capacity={24 * MIB}, regular_file=True)
source.close()
assert len(os.listdir("/proc/self/fd")) == before, os.listdir("/proc/self/fd")
assert len(os.listdir("/proc/self/task")) == 1
"""
    assert output(sys.executable, "-W", "error", "-c", script) == ""
    assert target.read_bytes() == raw.read_bytes()
