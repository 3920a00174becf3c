"""Parts in any order, pieces of any size, bytes of any kind: what QEMU reads, or a typed error."""

from __future__ import annotations

import subprocess
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libironic_disk.errors import DiskError, ImageDamaged, ImageOrderUnsupported, ImageRefused, SourceChanged
from libironic_disk.pure.images.qcow2_events import MetadataAccess
from libironic_disk.units import KIB
from tests.support.qcow2_builder import Built, Kind, Shape, build
from tests.support.qcow2_driver import Decoded, Mode, decode

MODES = [
    Mode(metadata=MetadataAccess.EAGER),
    Mode(metadata=MetadataAccess.LAZY),
    Mode(metadata=MetadataAccess.LAZY, budget=0, knows_size=False),
    Mode(spill=True),
    Mode(spill=True, budget=4 * KIB, knows_size=False),
    Mode(spill=True, budget=0),
    Mode(lend=True),
    Mode(),
]

shapes = st.one_of(
    st.builds(
        Shape,
        cluster_bits=st.sampled_from([9, 9, 10, 12]),
        version=st.just(3),
        zstd=st.booleans(),
        short_by=st.just(0),
    ),
    st.builds(Shape, cluster_bits=st.sampled_from([9, 12]), version=st.just(2)),
    st.builds(
        Shape, cluster_bits=st.just(14), extended_l2=st.just(True), zstd=st.booleans(), short_by=st.integers(0, 31)
    ),
    st.builds(Shape, cluster_bits=st.just(12), zstd=st.booleans(), short_by=st.integers(0, 7)),
)


@st.composite
def built_images(draw: st.DrawFn) -> Built:
    shape = draw(shapes)
    kinds = draw(st.lists(st.sampled_from([kind for kind in Kind if shape.allows(kind)]), min_size=1, max_size=150))
    return build(shape, kinds, Random(draw(st.integers(0, 2**32))), tables_first=draw(st.booleans()))


sizes: st.SearchStrategy[list[int]] = st.one_of(
    st.just([]),
    st.lists(st.integers(1, 40_000), max_size=30),
    st.integers(1, 5000).map(lambda size: [size] * 200),
)


def read_by_qemu(path: Path, file: bytes) -> bytes | None:
    """Return the disk as qemu-img reads it, None if it refuses the image."""
    path.write_bytes(file)
    target = path.with_suffix(".raw")
    command = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(path), str(target)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        return None
    disk = target.read_bytes()
    target.unlink()
    return disk


def outcome(file: bytes, mode: Mode, sizes: list[int] | None = None, later: bytes | None = None) -> Decoded | DiskError:
    try:
        return decode(file, mode, sizes or (), later)
    except DiskError as error:
        return error


def is_disk(decoded: Decoded | DiskError, image: Built) -> bool:
    return isinstance(decoded, Decoded) and decoded.guest == image.disk


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("qcow2") / "image"


@given(image=built_images())
@settings(max_examples=40)
def test_the_builder_builds_what_qemu_reads(scratch: Path, image: Built) -> None:
    assert read_by_qemu(scratch, image.file) == image.disk


@given(image=built_images(), mode=st.sampled_from(MODES), sizes=sizes)
@settings(max_examples=400)
def test_parts_in_any_order_and_pieces_of_any_size(image: Built, mode: Mode, sizes: list[int]) -> None:
    decoded = decode(image.file, mode, sizes)
    assert decoded.guest == image.disk
    assert decoded.most_stashed <= mode.budget
    if mode.metadata is MetadataAccess.EAGER:
        assert decoded.most_stashed == 0


@given(image=built_images(), sizes=sizes)
@settings(max_examples=60)
def test_without_any_room_it_is_decoded_or_refused(image: Built, sizes: list[int]) -> None:
    decoded = outcome(image.file, Mode(budget=0), sizes)
    assert is_disk(decoded, image) or isinstance(decoded, ImageOrderUnsupported)


@given(image=built_images(), budget=st.sampled_from([0, 2 * KIB, 16 * KIB]), sizes=sizes)
@settings(max_examples=200)
def test_what_waits_on_the_disk_itself_is_moved_before_it_is_lost(image: Built, budget: int, sizes: list[int]) -> None:
    for knows_size in (False, True):
        decoded = outcome(image.file, Mode(lend=True, budget=budget, knows_size=knows_size), sizes)
        assert is_disk(decoded, image) or isinstance(decoded, ImageOrderUnsupported)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[bytes, int]:
    """A built image with a few words changed, most of them in its tables; and its disk's size."""
    image = draw(built_images())
    file = bytearray(image.file)
    clusters = len(file) // 512
    words = st.one_of(
        st.sampled_from([0, 1, 512, 1 << 62, 2**64 - 1]),
        st.builds(
            lambda at, flags: at * 512 | flags, st.integers(0, clusters + 2), st.sampled_from([0, 1, 1 << 63, 1 << 62])
        ),
        st.integers(0, 2**64 - 1),
    )
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.integers(0, 3)):
            at = draw(st.sampled_from(image.tables)) + 8 * draw(st.integers(0, 63))
        else:
            at = draw(st.integers(512, len(file) - 8))
        if draw(st.booleans()):
            file[at : at + 8] = draw(words).to_bytes(8)
        else:
            # Another entry's neighbourhood: overlaps are where it becomes difficult.
            other = draw(st.sampled_from(image.tables)) + 8 * draw(st.integers(0, 63))
            word = int.from_bytes(file[other : other + 8]) + draw(st.sampled_from([0, 1, -1, 512, -512, 40]))
            file[at : at + 8] = (word % 2**64).to_bytes(8)
    return bytes(file), len(image.disk)


@given(image=mutated(), mode=st.sampled_from(MODES), sizes=sizes)
@settings(max_examples=250)
def test_a_changed_image_is_read_as_by_qemu_or_ends_in_a_typed_error(
    scratch: Path, image: tuple[bytes, int], mode: Mode, sizes: list[int]
) -> None:
    file, size = image
    decoded = outcome(file, mode, sizes)
    if isinstance(decoded, Decoded):
        assert len(decoded.guest) == size
        assert decoded.guest == read_by_qemu(scratch, file)
    else:
        assert isinstance(decoded, ImageRefused | ImageDamaged | ImageOrderUnsupported)


@given(image=built_images(), mode=st.sampled_from(MODES), data=st.data())
@settings(max_examples=120)
def test_a_truncated_image_is_damaged_or_lacks_what_nobody_reads(image: Built, mode: Mode, data: st.DataObject) -> None:
    decoded = outcome(image.file[: data.draw(st.integers(512, len(image.file) - 1))], mode)
    assert is_disk(decoded, image) or isinstance(decoded, ImageRefused | ImageDamaged)


@given(image=built_images(), mode=st.sampled_from(MODES[:3]), data=st.data())
@settings(max_examples=60)
def test_tables_that_were_others_when_read_ahead(image: Built, mode: Mode, data: st.DataObject) -> None:
    later = bytearray(image.file)
    at = data.draw(st.sampled_from(image.tables)) + 8 * data.draw(st.integers(0, 63))
    later[at : at + 8] = data.draw(st.sampled_from([bytes(8), later[at : at + 8], bytes(7) + b"\1"]))
    decoded = outcome(image.file, mode, later=bytes(later))
    # If there is a disk, it was the same, or never asked for.
    assert is_disk(decoded, image) or isinstance(decoded, ImageRefused | ImageDamaged | SourceChanged)
