"""Whatever the bytes: a typed error or an image that qemu-img reads too, and never less careful than oslo.utils."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oslo_utils.imageutils.format_inspector import ImageFormatError, QcowInspector, SafetyCheckFailed

from libironic_disk import images
from libironic_disk.errors import DiskError, ImageDamaged, ImageRefused
from libironic_disk.machine.images import qemu_img
from libironic_disk.machine.images.qemu_img import Place
from libironic_disk.pure.images import qcow2
from libironic_disk.pure.images.qcow2_tables import check_tables
from libironic_disk.units import KIB
from tests.support.oracles import output
from tests.support.qcow2_images import CLUSTER, EXTENDED_L2, SOUND, HandMade

_EXTENDED_L2_BIT = 1 << 4

words = st.one_of(
    st.sampled_from([0, 1, 2, 3, 4, 72, 104, 112, 512, MAX := 2**64 - 1]),
    st.builds(
        lambda cluster, flags: cluster * CLUSTER | flags, st.integers(0, 9), st.sampled_from([0, 1, 512, 1 << 63])
    ),
    st.builds(lambda bit: 1 << bit, st.integers(0, 63)),
    st.integers(0, MAX),
)
"""Words that mean something in a header or a table, and some that don't."""


@st.composite
def images_of_any_shape(draw: st.DrawFn) -> bytes:
    """A sound image in which some words of the header and of the tables were replaced, perhaps cut off."""
    made: HandMade = draw(st.sampled_from([SOUND, SOUND.but(version=2), EXTENDED_L2]))
    tables = st.dictionaries(st.integers(0, 40), words, max_size=4)
    file = bytearray(made.but(l1=(draw(words),) if draw(st.booleans()) else made.l1, l2=draw(tables)).image())
    for _ in range(draw(st.integers(0, 2))):
        size = draw(st.sampled_from([1, 4, 8]))
        at = draw(st.integers(4, 120 // size)) * size
        file[at : at + size] = (draw(words) % (1 << 8 * size)).to_bytes(size)
    return bytes(file[: draw(st.one_of(st.just(len(file)), st.integers(0, len(file))))])


def verdict(file: bytes) -> qcow2.Header | ImageRefused | ImageDamaged:
    try:
        header = qcow2.parse(file[: qcow2.bytes_needed(file)], image="test")
        check_tables(header, lambda at, length: file[at : at + length], len(file), image="test")
    except (ImageRefused, ImageDamaged) as wrong:
        return wrong
    return header


@given(file=images_of_any_shape())
@settings(max_examples=400)
def test_hostile_images_end_in_a_verdict(file: bytes) -> None:
    found = verdict(file)
    assert found.reason if isinstance(found, ImageRefused | ImageDamaged) else 0 < found.virtual_size < 1 << 63


@given(file=images_of_any_shape())
@settings(max_examples=60)
def test_what_passes_is_read_by_qemu_img_alike(tmp_path_factory: pytest.TempPathFactory, file: bytes) -> None:
    header = verdict(file)
    # A table of snapshots is never followed here, and qemu-img reads it: they differ about one that is damaged.
    if isinstance(header, ImageRefused | ImageDamaged) or any(file[60:64]):
        return
    path = tmp_path_factory.mktemp("qcow2") / "image"
    path.write_bytes(file)
    found = qemu_img.info(Place(path=str(path), name="image"), images.ImageFormat.QCOW2)
    assert found.virtual_size == header.virtual_size
    # Metadata that qemu-img, too, can follow from end to end; what it reads must lie within the file.
    output("qemu-img", "map", "--image-opts", f"driver=qcow2,file.filename={path}")
    path.unlink()


@given(file=images_of_any_shape())
@settings(max_examples=400)
def test_what_oslo_refuses_is_refused(file: bytes) -> None:
    inspector = QcowInspector()
    inspector.eat_chunk(file[: 64 * KIB])
    inspector.finish()
    try:
        inspector.safety_check()
    except (SafetyCheckFailed, ImageFormatError) as error:
        failures = set(error.failures) if isinstance(error, SafetyCheckFailed) else {"incomplete"}
    else:
        return
    if file[4:8] == b"\0\0\0\2":
        # It reads the feature bits of headers that have none.
        failures.discard("data_file")
    elif int.from_bytes(file[72:80]) & ~0b11011 == 0:
        # The one feature that it doesn't know and that is supported here.
        failures.discard("unknown_features")
    assert not failures or isinstance(verdict(file), ImageRefused | ImageDamaged)


@given(
    data=st.one_of(st.binary(max_size=3000), images_of_any_shape()),
    declared=st.sampled_from([None, *images.ImageFormat]),
)
@example(data=b"text " * 200 + b"\xff" * 1000, declared=None)
def test_inspection_of_anything_ends_in_an_image_or_a_typed_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, declared: images.ImageFormat | None
) -> None:
    path = tmp_path_factory.mktemp("any") / "image"
    path.write_bytes(data)
    refused: DiskError | None = None
    try:
        image = images.inspect(path, declared=declared)
    except DiskError as error:
        refused = error
    if refused is None:
        assert declared in (None, image.format)
        assert image.virtual_size
    else:
        assert str(path) in str(refused)
    path.unlink()
