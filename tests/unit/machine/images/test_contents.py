"""What lies inside an image is seen in raw and qcow2 alike, before anything is written."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from libironic_disk import images
from libironic_disk.errors import SourceFailed, ToolMissing
from libironic_disk.images import Contents, ImageFormat
from libironic_disk.machine import process
from libironic_disk.units import KIB, MIB, TIB
from tests.support.oracles import blkid
from tests.support.qcow2_images import converted, created

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


def with_filesystem(path: Path, kind: str) -> Path:
    subprocess.run([*MAKERS[kind], str(blank(path))], check=True, capture_output=True)
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
    compress = form == "compressed"
    return converted(raw, raw.with_suffix(f".{form}"), "compression_type=zstd" if compress else "", compress=compress)


def inside(path: Path) -> Contents:
    found = images.look_inside(images.inspect(path))
    assert found is not None
    return found


@pytest.mark.parametrize("form", ["raw", "qcow2", "compressed"])
@pytest.mark.parametrize("kind", MAKERS)
def test_a_file_system_is_found_as_blkid_finds_it(tmp_path: Path, kind: str, form: str) -> None:
    raw = with_filesystem(tmp_path / "image", kind)
    wanted = blkid(str(raw))
    (found,) = inside(in_form(raw, form)).signatures
    assert (found.kind, found.label, found.uuid) == (kind, wanted["LABEL"], wanted["UUID"])


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


def test_a_stream_is_not_looked_into(tmp_path: Path) -> None:
    data = with_filesystem(tmp_path / "image", "ext4").read_bytes()
    stream = io.BytesIO(data)
    image = images.inspect(stream)
    position = stream.tell()
    assert images.look_inside(image) is None
    assert stream.tell() == position


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
    with pytest.raises(SourceFailed, match="qemu-img"):
        images.look_inside(images.inspect(path, declared=ImageFormat.QCOW2))


def test_only_qcow2_needs_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = with_filesystem(tmp_path / "image", "ext4")
    qcow2 = in_form(raw, "qcow2")
    monkeypatch.setattr(process, "_search_path", lambda: str(tmp_path))
    assert inside(raw).signatures
    with pytest.raises(ToolMissing, match="qemu-img"):
        inside(qcow2)
