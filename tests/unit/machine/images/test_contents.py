"""What lies inside an image is seen in raw and qcow2 alike, wherever it is, before anything is written."""

from __future__ import annotations

import gzip
import io
import subprocess
from pathlib import Path

import pytest

from libironic_disk import images
from libironic_disk.errors import ImageDamaged, SourceFailed, ToolMissing
from libironic_disk.images import Contents, Engine, ImageFormat, ImageSource
from libironic_disk.machine import process
from libironic_disk.machine.images.detection import HEAD
from libironic_disk.units import KIB, MIB, TIB
from tests.support.badserver import ImageServer
from tests.support.oracles import blkid, output
from tests.support.qcow2_images import converted, created
from tests.support.webserver import serving

MAKERS = {
    "btrfs": ("mkfs.btrfs", "-q", "-L", "label"),
    "ext2": ("mkfs.ext2", "-q", "-L", "label"),
    "ext3": ("mkfs.ext3", "-q", "-L", "label"),
    "ext4": ("mkfs.ext4", "-q", "-L", "label"),
    "swap": ("mkswap", "-q", "-L", "label"),
    "vfat": ("mkfs.vfat", "-n", "label"),
    "xfs": ("mkfs.xfs", "-q", "-L", "label"),
}
SCRIPT = b"#!/usr/bin/env python3\nprint('not an image')\n"


def blank(path: Path, size: int = 320 * MIB) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def with_filesystem(path: Path, kind: str, size: int = 320 * MIB) -> Path:
    subprocess.run([*MAKERS[kind], str(blank(path, size))], check=True, capture_output=True)
    return path


def with_table(path: Path, label: str) -> Path:
    """A disk whose only partition holds an ext4."""
    script = f"label: {label}\nstart=2048\n"
    subprocess.run(["sfdisk", "-q", str(blank(path))], input=script.encode(), check=True)
    subprocess.run(["mkfs.ext4", "-q", "-E", f"offset={MIB}", str(path), "64M"], check=True)
    return path


def in_form(raw: Path, form: str) -> Path:
    if form == "raw":
        return raw
    if form == "packed":
        packed = raw.with_suffix(".gz")
        packed.write_bytes(gzip.compress(raw.read_bytes(), compresslevel=1))
        return packed
    compress = form == "compressed"
    return converted(raw, raw.with_suffix(f".{form}"), "compression_type=zstd" if compress else "", compress=compress)


def as_stream(path: Path) -> io.BytesIO:
    """Give as much of an image as planning may read; to read on from there fails."""

    class Head(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert 0 <= self.tell() + size <= HEAD, "more was read than is kept"
            return super().read(size)

    return Head(path.read_bytes())


def inside(source: ImageSource) -> Contents:
    found = images.look_inside(images.inspect(source))
    assert found is not None
    return found


@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_system_is_found_as_blkid_finds_it(tmp_path: Path, kind: str) -> None:
    raw = with_filesystem(tmp_path / "image", kind)
    wanted = blkid(str(raw))
    for form in ("raw", "qcow2", "compressed"):
        (found,) = inside(in_form(raw, form)).signatures
        assert (found.kind, found.label, found.uuid) == (kind, wanted["LABEL"], wanted["UUID"])


@pytest.mark.parametrize("form", ["raw", "qcow2", "compressed", "packed"])
def test_streams_and_servers_are_looked_into_as_files_are(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    path = in_form(with_filesystem(tmp_path / "image", "ext4", 40 * MIB), form)
    wanted = inside(path)
    assert [each.kind for each in wanted.signatures] == ["ext4"]
    assert inside(as_stream(path)) == wanted
    with serving() as server:
        served = ImageServer(server=server, body=path.read_bytes())
        assert inside(served.url) == wanted
        assert served.ranges == [f"bytes=0-{HEAD - 1}"]


@pytest.mark.parametrize("form", ["qcow2", "packed"])
def test_what_was_looked_into_can_still_be_written(tmp_path: Path, form: str) -> None:
    raw = with_filesystem(tmp_path / "image", "ext4", 40 * MIB)
    target = tmp_path / "target"
    target.write_bytes(b"\xaa" * 40 * MIB)
    image = images.inspect(io.BytesIO(in_form(raw, form).read_bytes()))
    assert images.look_inside(image) == images.look_inside(image) == inside(raw)
    images.write_image(image, str(target), capacity=40 * MIB, regular_file=True)
    output("cmp", str(raw), str(target))
    with pytest.raises(SourceFailed, match="once"):
        images.look_inside(image)


def test_a_stream_with_its_tables_at_the_end_is_not_looked_into(tmp_path: Path) -> None:
    """Its head says what it is; where its clusters belong comes behind everything that is kept."""
    path = created(tmp_path / "image.qcow2", 8 * MIB, "", "write -P 1 0 8M")
    output("qemu-img", "snapshot", "-c", "first", str(path))
    output("qemu-io", "-f", "qcow2", "-c", "write -P 2 0 64k", str(path))
    assert images.look_inside(images.inspect(path)) is not None
    assert images.look_inside(images.inspect(as_stream(path))) is None


@pytest.mark.parametrize("form", ["raw", "qcow2"])
@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_a_whole_disk_has_a_table_and_no_file_system(tmp_path: Path, label: str, form: str) -> None:
    found = inside(in_form(with_table(tmp_path / "disk", label), form))
    assert found == Contents(signatures=(), has_table=True)


@pytest.mark.parametrize("content", [SCRIPT, bytes(1), bytes(8 * MIB), b"\xff" * MIB, SCRIPT * 100_000])
def test_in_what_is_no_image_nothing_is_found(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert inside(path) == Contents(signatures=(), has_table=False)


def test_in_an_empty_qcow2_disk_nothing_is_found_however_large_it_is(tmp_path: Path) -> None:
    for size in (KIB, 17 * TIB):
        path = created(tmp_path / f"{size}.qcow2", size)
        assert inside(path) == Contents(signatures=(), has_table=False)


def test_two_superblocks_are_both_told(tmp_path: Path) -> None:
    path = with_filesystem(tmp_path / "image", "btrfs")
    swap = with_filesystem(tmp_path / "swap", "swap").read_bytes()[: 4 * KIB]
    with path.open("r+b") as file:
        file.write(swap)
    assert [each.kind for each in inside(path).signatures] == ["swap", "btrfs"]


def test_what_lies_at_the_end_is_left_out(tmp_path: Path) -> None:
    """An mdraid superblock of version 0.90 lies in the last 64 KiB, which isn't where the partition ends."""
    path = blank(tmp_path / "member", 8 * MIB)
    magic, major, minor = 0xA92B4EFC, 0, 90
    with path.open("r+b") as file:
        file.seek(8 * MIB - 64 * KIB)
        file.write(b"".join(word.to_bytes(4, "little") for word in (magic, major, minor)))
    assert blkid(str(path))["TYPE"] == "linux_raid_member"
    assert inside(path) == Contents(signatures=(), has_table=False)


def test_a_file_that_changed_since_is_not_judged(tmp_path: Path) -> None:
    path = with_filesystem(tmp_path / "image", "ext4")
    image = images.inspect(path)
    path.write_bytes(SCRIPT)
    with pytest.raises(SourceFailed, match="changed or replaced"):
        images.look_inside(image)


def test_a_cluster_that_cannot_be_decoded_is_the_images_fault(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(b"some text " * 100_000)
    path = converted(raw, tmp_path / "image.qcow2", compress=True)
    data = path.read_bytes()
    start = 5 * 64 * KIB  # behind the header and two levels each of refcounts and of mapping
    path.write_bytes(data[:start] + b"\xff" * (len(data) - start))
    with pytest.raises(ImageDamaged, match="can't be unpacked") as failed:
        images.look_inside(images.inspect(path, declared=ImageFormat.QCOW2))
    assert failed.value.offset == start


@pytest.mark.parametrize("driver", ["vmdk", "vpc", "vhdx", "vdi"])
def test_qemu_img_looks_into_what_only_it_can_read(tmp_path: Path, driver: str) -> None:
    raw = with_filesystem(tmp_path / "image", "ext4")
    path = tmp_path / "other"
    output("qemu-img", "convert", "-f", "raw", "-O", driver, str(raw), str(path))
    found = images.look_inside(images.inspect(path, engine=Engine.QEMU_IMG))
    assert found is not None
    assert found.signatures == inside(raw).signatures
    # It reads files only.
    assert images.look_inside(images.inspect(io.BytesIO(path.read_bytes()), engine=Engine.QEMU_IMG)) is None


def test_only_other_formats_need_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = with_filesystem(tmp_path / "image", "ext4")
    qcow2 = in_form(raw, "compressed")
    other = tmp_path / "image.vdi"
    output("qemu-img", "convert", "-f", "raw", "-O", "vdi", str(raw), str(other))
    image = images.inspect(other, engine=Engine.QEMU_IMG)
    monkeypatch.setattr(process, "_search_path", lambda: str(tmp_path))
    assert inside(raw).signatures == inside(qcow2).signatures
    with pytest.raises(ToolMissing, match="qemu-img"):
        images.look_inside(image)
