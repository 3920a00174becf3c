"""Images from end to end on plain files: nothing wrong is ever written, and what is written is right."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import pytest

from libironic_disk import images
from libironic_disk.errors import (
    Cancelled,
    ChecksumMismatch,
    DiskError,
    FormatMismatch,
    ImageDamaged,
    ImageRefused,
    ImageTooLarge,
)
from libironic_disk.events import BytesMoved, Cancellation, Event, Phase
from libironic_disk.images import Engine, ImageFormat, ImageType, InspectedImage, Proof
from libironic_disk.units import MIB, TIB
from tests.support.badserver import Fault, ImageServer, Kind
from tests.support.oracles import output
from tests.support.qcow2_images import (
    COMPRESSED_OPTIONS,
    OPTIONS,
    assert_identical,
    converted,
    created,
    raw_image,
)
from tests.support.webserver import serving
from tests.support.written import PACKERS, packed, used, write

RAW, QCOW2 = ImageFormat.RAW, ImageFormat.QCOW2


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
        InspectedImage(
            format=RAW,
            virtual_size=1,
            source=image.source,
            header=None,
            compression=None,
            checksum=None,
            engine=Engine.NATIVE,
            made_by=None,
        )


@pytest.mark.parametrize("verify", [False, True], ids=["", "verified"])
@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize("compress", [False, True], ids=["", "compressed"])
@pytest.mark.parametrize("as_stream", [False, True], ids=["file", "stream"])
def test_what_was_written_is_the_image(
    raw: Path, tmp_path: Path, compress: bool, as_stream: bool, engine: Engine, verify: bool
) -> None:
    path = converted(raw, tmp_path / "image.qcow2", compress=compress)
    target = used(tmp_path / "target", 24 * MIB + 4096)
    events: list[Event] = []
    with path.open("rb") as stream:
        image = images.inspect(stream if as_stream else path, engine=engine)
        assert (image.format, image.virtual_size) == (QCOW2, 24 * MIB)
        assert images.required_tools(image) == (("qemu-img",) if engine is Engine.QEMU_IMG else ())
        written = write(image, target, sink=events.append, verify=verify)
    size = path.stat().st_size
    assert (written.format, written.bytes_read, written.bytes_written) == (QCOW2, size, 24 * MIB)
    assert written.proof is (Proof.NONE if as_stream else Proof.LENGTH)
    moved = [event for event in events if isinstance(event, BytesMoved)]
    last = moved[-1]
    assert (last.phase, last.done, last.total) == (Phase.IMAGE, size, None if as_stream else size)
    assert (last.written + last.zeroed, last.zeroed) == (24 * MIB, written.bytes_zeroed)
    # What qemu-img zeroes isn't told apart from what it writes.
    assert (written.bytes_zeroed > 10 * MIB) is (engine is Engine.NATIVE or verify)
    done = [event.done for event in moved]
    assert done == sorted(done)
    assert target.read_bytes()[24 * MIB :] == b"\xaa" * 4096
    os.truncate(target, 24 * MIB)
    assert_identical(path, target)


@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize("options", [*OPTIONS, *(f"-c,{options}" for options in COMPRESSED_OPTIONS)])
def test_every_kind_of_qcow2_is_written(raw: Path, tmp_path: Path, options: str, engine: Engine) -> None:
    compress = options.startswith("-c,")
    path = converted(raw, tmp_path / "image.qcow2", options.removeprefix("-c,"), compress=compress)
    target = used(tmp_path / "target", 24 * MIB)
    write(images.inspect(path, declared=QCOW2, engine=engine), target)
    assert target.read_bytes() == raw.read_bytes()


@pytest.mark.parametrize("verify", [False, True], ids=["", "verified"])
@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize("kind", [RAW, QCOW2])
@pytest.mark.parametrize("pack", PACKERS)
def test_what_is_compressed_is_unpacked_on_the_way(
    raw: Path, tmp_path: Path, pack: str, kind: ImageFormat, engine: Engine, verify: bool
) -> None:
    plain = raw if kind is RAW else converted(raw, tmp_path / "image.qcow2")
    path = packed(plain, pack)
    checksum = output("sha256sum", str(path)).split()[0]
    target = used(tmp_path / "target", 24 * MIB)
    events: list[Event] = []
    image = images.inspect(path, checksum=checksum, engine=engine)
    assert (image.format, image.virtual_size) == (kind, None if kind is RAW else 24 * MIB)
    written = write(image, target, verify=verify, sink=events.append)
    size = path.stat().st_size
    assert (written.bytes_read, written.bytes_written, written.proof) == (size, 24 * MIB, Proof.CHECKSUM)
    # Progress is that of the source: compressed bytes of compressed bytes.
    moved = [event for event in events if isinstance(event, BytesMoved)]
    assert (max(event.done for event in moved), moved[-1].done, moved[-1].total) == (size, size, size)
    assert target.read_bytes() == raw.read_bytes()


@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize("kind", [RAW, QCOW2])
def test_an_image_with_another_checksum_is_no_success(
    raw: Path, tmp_path: Path, kind: ImageFormat, engine: Engine
) -> None:
    path = raw if kind is RAW else converted(raw, tmp_path / "image.qcow2")
    target = used(tmp_path / "target", 24 * MIB)
    checksum = output("sha512sum", str(path)).split()[0]
    written = write(images.inspect(path, checksum=f"sha512:{checksum}", engine=engine), target)
    assert written.proof is Proof.CHECKSUM
    other = checksum.translate(str.maketrans("0123456789abcdef", "1234567890bcdefa"))
    with pytest.raises(ChecksumMismatch) as refused:
        write(images.inspect(path, checksum=f"sha512:{other}", engine=engine), used(target, 24 * MIB))
    assert (refused.value.wanted, refused.value.found) == (other, checksum)
    if engine is Engine.QEMU_IMG:
        # It is kept in a file and digested before qemu-img sees it.
        assert target.read_bytes() == b"\xaa" * 24 * MIB


@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize("parts", [True, False], ids=["parts", "no parts"])
@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "length"])
def test_an_image_on_a_server_is_written(
    raw: Path, tmp_path: Path, engine: Engine, parts: bool, chunked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    body = converted(raw, tmp_path / "image.qcow2").read_bytes()
    target = used(tmp_path / "target", 24 * MIB)
    with serving() as server:
        drop = [Fault(kind=Kind.NONE), Fault(kind=Kind.DROP, after=MIB)]
        served = ImageServer(server=server, body=body, faults=drop, parts=parts, chunked=chunked)
        sums = server.page("/SUMS", f"{hashlib.md5(body).hexdigest()}  disk.img\n".encode())  # noqa: S324
        image = images.inspect(served.url, checksum=sums, engine=engine)
        written = write(image, target)
    assert (written.bytes_read, written.proof) == (len(body), Proof.CHECKSUM)
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
    for engine in Engine:
        target = used(tmp_path / "target", 30 * MIB)
        write(images.inspect(path, engine=engine), target)
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
        except (ImageRefused, ImageDamaged) as error:
            reasons.append(error.reason)
        else:
            assert missing < 512
            write(image, used(target, 24 * MIB))
            assert target.read_bytes() == raw.read_bytes()
    assert len(reasons) >= 25
    words = ("truncated", "can't be unpacked (it ends", "ends within")
    assert all(any(word in reason for word in words) for reason in reasons)


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
    packed_raw = images.inspect(packed(raw, "gzip"), engine=Engine.QEMU_IMG)
    for image, verify in (
        (images.inspect(raw), False),
        (images.inspect(qcow2), False),
        (images.inspect(stream, size=24 * MIB), False),
        (images.inspect(io.BytesIO(qcow2.read_bytes())), False),
        # How large these are is known once they are unpacked, which is before qemu-img writes them.
        (packed_raw, False),
        (packed_raw, True),
    ):
        with pytest.raises(ImageTooLarge) as refused:
            write(image, target, capacity=24 * MIB - 1, verify=verify)
        assert (refused.value.wanted, refused.value.available) == (24 * MIB, 24 * MIB - 1)
    assert target.read_bytes() == b"\xaa" * 24 * MIB


def test_inspection_can_be_cancelled(raw: Path, tmp_path: Path) -> None:
    cancel = Cancellation()
    cancel.cancel()
    with pytest.raises(Cancelled):
        images.inspect(converted(raw, tmp_path / "image.qcow2"), cancel=cancel)


@pytest.mark.parametrize("source", ["/dev/zero", "/dev", "/nonexistent"])
def test_what_is_no_file_is_refused(source: str) -> None:
    with pytest.raises(DiskError, match=source):
        images.inspect(Path(source))


def test_inspecting_an_image_takes_no_memory_for_all_its_tables(tmp_path: Path) -> None:
    # 12 MiB of L2 tables, and a cluster in each.
    path = created(tmp_path / "image.qcow2", TIB, "", *(f"write -q -P 1 {at * 512}M 64k" for at in range(192)))
    tracemalloc.start()
    try:
        assert images.inspect(path).virtual_size == TIB
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


def test_nothing_is_printed_or_left_open(raw: Path, tmp_path: Path) -> None:
    """In a process of its own, as a caller would: no file left open, no thread, no word."""
    path = packed(converted(raw, tmp_path / "image.qcow2", compress=True), "gzip")
    target = used(tmp_path / "target", 24 * MIB)
    script = f"""
import os
from pathlib import Path
from libironic_disk import images
before = len(os.listdir("/proc/self/fd"))
for engine in images.Engine:
    for source in (Path({str(path)!r}), open({str(path)!r}, "rb", buffering=0)):
        image = images.inspect(source, engine=engine)
        images.write_image(image, {str(target)!r}, capacity={24 * MIB}, regular_file=True, verify=True)
    source.close()
assert len(os.listdir("/proc/self/fd")) == before, os.listdir("/proc/self/fd")
assert len(os.listdir("/proc/self/task")) == 1
"""
    assert output(sys.executable, "-W", "error", "-c", script) == ""
    assert target.read_bytes() == raw.read_bytes()
