"""The tables of a qcow2 image: everything that they may point at wrongly is refused."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from collections.abc import Mapping

import pytest

from libironic_disk.errors import ImageDamaged, ImageRefused
from libironic_disk.pure.images import qcow2
from libironic_disk.pure.images.qcow2_tables import check_tables
from libironic_disk.units import MIB, TIB
from tests.support.qcow2_images import CLUSTER, COMPRESSED, COPIED, EXTENDED_L2, SOUND, HandMade


def check(made: HandMade, file: bytes | None = None) -> None:
    contents = made.image() if file is None else file
    header = qcow2.parse(contents, image="test.qcow2")
    check_tables(header, lambda at, length: contents[at : at + length], len(contents), image="test.qcow2")


def compressed(offset: int, sectors: int = 1) -> int:
    """Return the L2 entry of a compressed cluster that reaches into so many sectors."""
    return COMPRESSED | (sectors - 1) << (62 - 8) | offset


@pytest.mark.parametrize(
    ("made", "l2"),
    [
        (SOUND, {}),
        (SOUND, {0: COPIED | 4 * CLUSTER, 15: 7 * CLUSTER}),
        (SOUND, {0: 1, 1: COPIED | 5 * CLUSTER | 1}),
        # A cluster that reads as zeros may be reserved where the file doesn't reach yet.
        (SOUND, {0: COPIED | 90 * CLUSTER | 1}),
        # Compressed clusters share a cluster of the file, begin anywhere and reach into the next one.
        (
            SOUND,
            {0: compressed(4 * CLUSTER + 3), 1: compressed(4 * CLUSTER + 99, 2), 2: compressed(5 * CLUSTER - 7, 2)},
        ),
        # What maps bytes behind the disk's end is nobody's business.
        (SOUND, {16: 2 * CLUSTER + 17}),
        (SOUND.but(version=2), {0: COPIED | 4 * CLUSTER}),
        (EXTENDED_L2, {0: COPIED | 4 * CLUSTER, 1: 0x0000_0000_FFFF_FFFF}),
        (EXTENDED_L2, {0: COPIED | 4 * CLUSTER, 1: 0xFFFF_0000_0000_FFFF}),
        (EXTENDED_L2, {1: 0xFFFF_FFFF_0000_0000}),
        (EXTENDED_L2, {0: compressed(4 * CLUSTER)}),
    ],
)
def test_what_the_format_allows_passes(made: HandMade, l2: Mapping[int, int]) -> None:
    check(made.but(l2=l2))


@pytest.mark.parametrize(
    ("made", "l2", "words"),
    [
        (SOUND, {0: 4 * CLUSTER | 2}, "reserved bits"),
        (SOUND, {0: 4 * CLUSTER | 1 << 56}, "reserved bits"),
        (SOUND.but(version=2), {0: 1}, "reserved bits"),
        (SOUND, {0: 4 * CLUSTER + 512}, "start of a cluster"),
        (SOUND, {0: 4 * CLUSTER + 512 | 1}, "start of a cluster"),
        (SOUND, {0: 8 * CLUSTER}, "truncated"),
        (SOUND, {0: (1 << 56) - CLUSTER}, "truncated"),
        (SOUND, {0: 4 * CLUSTER, 3: 4 * CLUSTER}, "two of its tables or clusters"),
        (SOUND, {0: CLUSTER}, "two of its tables or clusters"),
        (SOUND, {0: 2 * CLUSTER}, "two of its tables or clusters"),
        (SOUND, {0: 3 * CLUSTER}, "two of its tables or clusters"),
        (SOUND, {0: compressed(0)}, "two of its tables or clusters"),
        (SOUND, {0: compressed(3 * CLUSTER + 700)}, "two of its tables or clusters"),
        (SOUND, {0: compressed(4 * CLUSTER), 1: 4 * CLUSTER}, "two of its tables or clusters"),
        (SOUND, {0: 4 * CLUSTER, 1: compressed(4 * CLUSTER)}, "two of its tables or clusters"),
        (SOUND, {0: 5 * CLUSTER, 1: compressed(5 * CLUSTER - 7, 2)}, "two of its tables or clusters"),
        (SOUND, {0: compressed(8 * CLUSTER)}, "truncated"),
        (SOUND, {0: compressed(8 * CLUSTER - 7, 2)}, "truncated"),
        (SOUND, {0: compressed((1 << 54) - 1, 256)}, "truncated"),
        (EXTENDED_L2, {0: 4 * CLUSTER | 1, 1: 1}, "reserved bits"),
        (EXTENDED_L2, {0: 4 * CLUSTER, 1: 0x0000_0001_0000_0001}, "both allocated and zero"),
        (EXTENDED_L2, {1: 1}, "without a place"),
        (EXTENDED_L2, {0: 8 * CLUSTER, 1: 1}, "truncated"),
    ],
)
def test_what_points_wrongly_is_refused_in_words(made: HandMade, l2: Mapping[int, int], words: str) -> None:
    kind = ImageDamaged if words == "truncated" else ImageRefused
    with pytest.raises(kind, match=r"test\.qcow2") as refused:
        check(made.but(l2=l2))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (SOUND.but(l1=(COPIED | 3 * CLUSTER | 1,)), "reserved bits"),
        (SOUND.but(l1=(COMPRESSED | 3 * CLUSTER,)), "reserved bits"),
        (SOUND.but(l1=(3 * CLUSTER + 512,)), "start of a cluster"),
        (SOUND.but(l1=(8 * CLUSTER,)), "truncated"),
        (SOUND.but(l1=(2 * CLUSTER,)), "two of its tables or clusters"),
        (SOUND.but(size=1024 * MIB, l1_size=2, l1=(3 * CLUSTER, 3 * CLUSTER)), "two of its tables or clusters"),
        (SOUND.but(l1_offset=CLUSTER), "two of its tables or clusters"),
        (SOUND.but(l1_offset=100 * CLUSTER), "L1 table reaches"),
        (SOUND.but(refcount_clusters=100), "refcount table reaches"),
        (SOUND.but(refcount_offset=2 * CLUSTER), "two of its tables or clusters"),
    ],
)
def test_tables_that_lie_wrongly_are_refused_in_words(made: HandMade, words: str) -> None:
    with pytest.raises((ImageRefused, ImageDamaged)) as refused:
        check(made)
    assert words in str(refused.value)
    assert isinstance(refused.value, ImageDamaged) == ("truncated" in str(refused.value))


def test_the_part_of_the_last_cluster_behind_the_disk_may_be_missing() -> None:
    made = SOUND.but(size=CLUSTER + 1024, l2={1: 7 * CLUSTER})
    whole = made.image()
    check(made, whole[: 7 * CLUSTER + 1024])
    with pytest.raises(ImageDamaged, match="truncated"):
        check(made, whole[: 7 * CLUSTER + 1023])


def test_only_allocated_subclusters_need_be_there() -> None:
    made = EXTENDED_L2.but(l2={0: 7 * CLUSTER, 1: 0b111})
    whole = made.image()
    check(made, whole[: 7 * CLUSTER + 3 * 2048])
    with pytest.raises(ImageDamaged, match="truncated"):
        check(made, whole[: 7 * CLUSTER + 3 * 2048 - 1])


def test_a_compressed_cluster_that_was_cut_off_within_its_last_sector_is_found() -> None:
    letters = bytes(random.Random(1).choices(b"abcdefgh", k=CLUSTER))
    packer = zlib.compressobj(wbits=-12)
    data = packer.compress(letters) + packer.flush()
    assert len(data) % 512 > 100
    made = SOUND.but(l2={0: compressed(7 * CLUSTER, -(-len(data) // 512))})
    whole = made.image()[: 7 * CLUSTER] + data
    check(made, whole)
    for missing in (20, 50, 100):
        with pytest.raises(ImageDamaged, match=r"can't be unpacked \(it ends after \d+ bytes"):
            check(made, whole[:-missing])


def test_a_file_of_too_many_clusters_takes_no_memory() -> None:
    header = qcow2.parse(SOUND.image(), image="test.qcow2")
    with pytest.raises(ImageRefused, match="clusters"):
        check_tables(header, lambda at, length: bytes(length), 64 * TIB, image="test.qcow2")


def test_memory_stays_small_however_large_the_disk() -> None:
    made = SOUND.but(size=32 * TIB, l1_size=(32 * TIB) // (512 * MIB))
    header = qcow2.parse(made.header(), image="test.qcow2")
    tracemalloc.start()
    try:
        check_tables(header, lambda at, length: bytes(length), 8 * MIB, image="test.qcow2")
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()
