"""The first bytes of a qcow2 image's disk: those that QEMU gives, from no more of the file than is needed."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import ImageDamaged, ImageRefused
from libironic_disk.pure.images import qcow2
from libironic_disk.pure.images.qcow2_head import disk_head
from libironic_disk.units import KIB, MIB
from tests.support.qcow2_builder import Kind, Shape, build
from tests.support.qcow2_images import COMPRESSED_OPTIONS, EXTENDED_L2, OPTIONS, SOUND, converted, raw_image

CLUSTER = 64 * KIB


def reader(file: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: file[offset : offset + length]


def head_of(file: bytes, length: int, *, at_hand: int | None = None) -> bytes:
    header = qcow2.parse(file, image="test.img")
    return disk_head(header, reader(file[:at_hand]), length, image="test.img")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return raw_image(tmp_path_factory.mktemp("raw") / "image.raw", 6 * MIB)


@pytest.mark.parametrize("options", [*OPTIONS, *(f"-c,{options}" for options in COMPRESSED_OPTIONS)])
def test_it_is_the_head_of_the_disk_that_qemu_img_reads(raw: Path, tmp_path: Path, options: str) -> None:
    compress = options.startswith("-c,")
    file = converted(raw, tmp_path / "image.qcow2", options.removeprefix("-c,"), compress=compress).read_bytes()
    disk = raw.read_bytes()
    for length in (1, 512, CLUSTER + 1, 2 * MIB, 6 * MIB, 20 * MIB):
        assert head_of(file, length) == disk[:length]


def test_it_is_that_of_the_active_disk_after_any_history(tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    commands = ("write -P 1 0 3M", "discard 1M 200k", "write -z 1500k 64k", "write -P 2 77k 1")
    for argv in (
        ("qemu-img", "create", "-q", "-f", "qcow2", str(path), "4M"),
        ("qemu-img", "snapshot", "-c", "first", str(path)),
        ("qemu-io", "-f", "qcow2", *(word for command in commands for word in ("-c", command)), str(path)),
    ):
        subprocess.run(argv, check=True, capture_output=True)
    plain = tmp_path / "plain"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(path), str(plain)], check=True)
    assert head_of(path.read_bytes(), 2 * MIB) == plain.read_bytes()[: 2 * MIB]


@given(data=st.data(), seed=st.integers(0, 1 << 32))
def test_any_layout(data: st.DataObject, seed: int) -> None:
    extended = data.draw(st.booleans())
    shape = Shape(
        cluster_bits=14 if extended else 9,
        extended_l2=extended,
        zstd=data.draw(st.booleans()),
        short_by=data.draw(st.integers(0, 3 if extended else 0)),
    )
    allowed = [kind for kind in Kind if shape.allows(kind)]
    kinds = data.draw(st.lists(st.sampled_from(allowed), min_size=1, max_size=6 if extended else 150))
    built = build(shape, kinds, random.Random(seed))
    length = data.draw(st.integers(1, len(built.disk) + 1000))
    assert head_of(built.file, length) == built.disk[:length]


def test_what_is_not_needed_is_not_missed(raw: Path, tmp_path: Path) -> None:
    file = converted(raw, tmp_path / "image.qcow2").read_bytes()
    # Tables and clusters are in the order of the disk.
    assert head_of(file, MIB, at_hand=2 * MIB) == raw.read_bytes()[:MIB]
    with pytest.raises(ImageDamaged):
        head_of(file, 6 * MIB, at_hand=2 * MIB)


def test_no_more_is_read_than_the_tables_and_clusters_that_it_needs() -> None:
    file = SOUND.but(l2={at: 1 << 63 | at + 4 << 16 for at in range(4)}).image()
    asked: list[tuple[int, int]] = []

    def read(offset: int, length: int) -> bytes:
        asked.append((offset // CLUSTER, length))
        return file[offset : offset + length]

    header = qcow2.parse(file, image="test.img")
    assert disk_head(header, read, CLUSTER + 1, image="test.img") == b"d" * (CLUSTER + 1)
    assert asked == [(2, 8), (3, CLUSTER), (4, 2 * CLUSTER)]


@pytest.mark.parametrize("at_hand", [2 * CLUSTER, 3 * CLUSTER, 4 * CLUSTER - 1, 5 * CLUSTER - 1])
def test_a_table_or_a_cluster_that_is_missing_is_an_error(at_hand: int) -> None:
    file = SOUND.but(l2={0: 1 << 63 | 4 << 16}).image()
    assert head_of(file, CLUSTER, at_hand=5 * CLUSTER) == b"d" * CLUSTER
    with pytest.raises(ImageDamaged):
        head_of(file, CLUSTER, at_hand=at_hand)


def test_a_cluster_that_does_not_unpack_is_an_error() -> None:
    with pytest.raises(ImageDamaged, match="can't be unpacked"):
        head_of(SOUND.but(l2={0: 1 << 62 | 4 << 16}).image(), CLUSTER)


def test_an_entry_that_cannot_be_is_refused() -> None:
    for image in (SOUND.but(l2={0: 4 << 16 | 2}), EXTENDED_L2.but(l2={0: 4 << 16, 1: 1 << 32 | 1})):
        with pytest.raises(ImageRefused):
            head_of(image.image(), CLUSTER)
