"""One pass over images that QEMU's tools made, and over such as nobody should have made."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from libironic_disk.errors import ImageDamaged, ImageOrderUnsupported, ImageRefused, SourceChanged
from libironic_disk.pure.images import qcow2, qcow2_map, qcow2_stash
from libironic_disk.pure.images.qcow2_events import MetadataAccess
from libironic_disk.pure.images.qcow2_stream import Decoder
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.units import KIB, MIB
from tests.support.oracles import output
from tests.support.qcow2_builder import Built, Kind, Shape, build
from tests.support.qcow2_driver import Mode, decode

SIZE = 24 * MIB

EAGER = Mode(metadata=MetadataAccess.EAGER)
LAZY = Mode(metadata=MetadataAccess.LAZY)
LAZY_WITHOUT_MEMORY = Mode(metadata=MetadataAccess.LAZY, budget=0, knows_size=False)
SPILLING = Mode(spill=True)
SPILLING_SOON = Mode(spill=True, budget=4 * KIB)
SPILLING_AT_ONCE = Mode(spill=True, budget=0, knows_size=False)
MEMORY_ALONE = Mode()
MODES = [EAGER, LAZY, LAZY_WITHOUT_MEMORY, SPILLING, SPILLING_SOON, SPILLING_AT_ONCE, MEMORY_ALONE]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sparse disk with text and noise at random places."""
    random = Random(11)
    words = [random.randbytes(random.randint(3, 12)) for _ in range(500)]
    disk = bytearray(SIZE)
    for _ in range(40):
        size = random.randrange(512, 300 * KIB)
        at = random.randrange(0, (SIZE - size) // 512) * 512
        text = b"".join(random.choice(words) for _ in range(size // 7))[:size]
        blob = text if random.random() < 0.75 else random.randbytes(size)
        disk[at : at + len(blob)] = blob
    path = tmp_path_factory.mktemp("raw") / "disk.raw"
    path.write_bytes(disk)
    return path


def converted(*options: str) -> Callable[[Path, Path], None]:
    def make(raw: Path, image: Path) -> None:
        output("qemu-img", "convert", "-O", "qcow2", *options, str(raw), str(image))

    return make


def then(make: Callable[[Path, Path], None], *commands: tuple[str, ...]) -> Callable[[Path, Path], None]:
    def make_all(raw: Path, image: Path) -> None:
        make(raw, image)
        for command in commands:
            output(*(str(image) if word == "IMAGE" else word for word in command))

    return make_all


def qemu_io(*commands: str) -> tuple[str, ...]:
    return ("qemu-io", *(word for command in commands for word in ("-c", command)), "IMAGE")


GROWN = ("qemu-img", "resize", "-q", "IMAGE", "40M")
SNAPSHOT = ("qemu-img", "snapshot", "-c", "before", "IMAGE")
LATER_WRITES = qemu_io("write -P 3 1M 3M", "write -P 5 17M 64k", "write -z 20M 1M", "write -P 9 22M 200k")
DISCARDS = qemu_io("write -P 1 0 8M", "discard 2M 3M", "write -P 2 9M 4M", "discard 10M 1M", "write -P 4 3M 2M")

LAYOUTS = {
    "plain": converted(),
    "version 2": converted("-o", "compat=0.10"),
    "clusters of 512": converted("-o", "cluster_size=512"),
    "clusters of 2 MiB": converted("-o", "cluster_size=2M"),
    "out of order": converted("-W", "-m", "8", "-o", "cluster_size=4k"),
    "zlib": converted("-c"),
    "zlib, clusters of 512": converted("-c", "-o", "cluster_size=512"),
    "zlib, clusters of 4 KiB": converted("-c", "-o", "cluster_size=4k"),
    "zlib, clusters of 2 MiB": converted("-c", "-o", "cluster_size=2M"),
    "zlib, out of order": converted("-c", "-W", "-m", "8", "-o", "cluster_size=4k"),
    "zstd": converted("-c", "-o", "compression_type=zstd"),
    "zstd, clusters of 4 KiB": converted("-c", "-o", "compression_type=zstd,cluster_size=4k"),
    "subclusters": then(converted("-o", "extended_l2=on,cluster_size=16k"), LATER_WRITES),
    "subclusters, zstd": converted("-c", "-o", "extended_l2=on,cluster_size=32k,compression_type=zstd"),
    "lazy reference counts": converted("-o", "lazy_refcounts=on"),
    "metadata preallocated": converted("-o", "preallocation=metadata,cluster_size=4k"),
    "preallocated": converted("-o", "preallocation=falloc"),
    "written in full": converted("-o", "preallocation=full,cluster_size=4k"),
    "grown": then(converted("-o", "cluster_size=4k"), GROWN),
    "grown, zlib": then(converted("-c", "-o", "cluster_size=4k"), GROWN),
    "grown and used": then(converted("-o", "cluster_size=4k"), GROWN, LATER_WRITES),
    "written after a snapshot": then(converted("-c"), SNAPSHOT, LATER_WRITES),
    "gone back to a snapshot": then(
        converted(), SNAPSHOT, LATER_WRITES, ("qemu-img", "snapshot", "-a", "before", "IMAGE")
    ),
    "a bitmap": then(converted(), ("qemu-img", "bitmap", "--add", "IMAGE", "b0"), LATER_WRITES),
    "discarded": then(converted("-o", "cluster_size=4k"), DISCARDS),
    "amended": then(converted(), ("qemu-img", "amend", "-f", "qcow2", "-o", "compat=0.10", "IMAGE")),
    "shrunk": then(converted(), ("qemu-img", "resize", "-q", "--shrink", "IMAGE", "10M")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_in_every_mode_is_what_qemu_reads(tmp_path: Path, raw: Path, layout: str) -> None:
    image, oracle = tmp_path / "image.qcow2", tmp_path / "oracle.raw"
    LAYOUTS[layout](raw, image)
    output("qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(image), str(oracle))
    file, wanted = image.read_bytes(), oracle.read_bytes()
    for mode in MODES:
        decoded = decode(file, mode, [MIB - 7] * (len(file) // MIB))
        assert decoded.guest == wanted, mode
        assert decoded.most_stashed <= mode.budget
        assert mode.metadata is MetadataAccess.NEVER or not decoded.spilled


@pytest.mark.parametrize("budget", range(0, 4800, 160))
@pytest.mark.parametrize("seed", [10, 19])
def test_what_tables_explain_of_clusters_that_are_kept_is_within_the_budget(seed: int, budget: int) -> None:
    """Found by fuzzing: ten compressed clusters may end and begin within one, and each was noted down."""
    built = build(Shape(cluster_bits=9), [Kind.COMPRESSED] * 60, Random(seed))
    decoded = decode(built.file, Mode(spill=True, budget=budget), [512] * (len(built.file) // 512))
    assert decoded.guest == built.disk
    assert decoded.most_stashed <= budget


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_comes_before_its_table_may_wait_on_the_disk_itself(tmp_path: Path, raw: Path, layout: str) -> None:
    image, oracle = tmp_path / "image.qcow2", tmp_path / "oracle.raw"
    LAYOUTS[layout](raw, image)
    output("qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(image), str(oracle))
    decoded = decode(image.read_bytes(), Mode(lend=True, budget=0, knows_size=False), [MIB - 7] * 64)
    assert decoded.guest == oracle.read_bytes()
    assert decoded.lent > 0
    assert decoded.most_stashed == 0


def test_gaps_between_compressed_clusters_are_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tables, of which the second comes last, keep the gaps before it worth remembering."""
    seeds = range(40)
    files = [build(Shape(cluster_bits=12), [Kind.COMPRESSED] * 700, Random(seed)).file for seed in seeds]
    for file in files:
        decode(file, MEMORY_ALONE)
    monkeypatch.setattr(qcow2_stash, "_MOST_GAPS", 0)
    refused = 0
    for file in files:
        with suppress(ImageRefused):
            decode(file, MEMORY_ALONE)
            continue
        refused += 1
    assert refused


def test_what_tools_write_usually_needs_hardly_any_memory(tmp_path: Path, raw: Path) -> None:
    for layout in ("plain", "zlib, clusters of 4 KiB", "zstd", "preallocated", "discarded"):
        image = tmp_path / layout
        LAYOUTS[layout](raw, image)
        file = image.read_bytes()
        pieces = [4 * KIB] * (len(file) // (4 * KIB))
        assert decode(file, MEMORY_ALONE, pieces).most_stashed < 160 * KIB, layout


def test_tables_are_read_ahead_in_portions_where_they_map_too_much(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, oracle = tmp_path / "image.qcow2", raw.read_bytes()
    LAYOUTS["zlib, clusters of 512"](raw, image)
    file = image.read_bytes()
    at_once = decode(file, EAGER, [64 * KIB] * 200)
    monkeypatch.setattr(qcow2_map, "_MOST_EXTENTS", 4096)
    in_portions = decode(file, EAGER, [64 * KIB] * 200)
    assert at_once.guest == in_portions.guest == oracle
    assert in_portions.requests > at_once.requests


def test_late_tables_are_read_ahead_once_there_is_no_room(tmp_path: Path, raw: Path) -> None:
    image = tmp_path / "grown"
    LAYOUTS["grown, zlib"](raw, image)
    file = image.read_bytes()
    decoded = decode(file, LAZY_WITHOUT_MEMORY)
    assert 0 < decoded.requests < 20
    with pytest.raises(ImageOrderUnsupported, match="by a server that answers range requests"):
        decode(file, Mode(budget=MIB))


# An image with every kind of thing, whose parts are where they are always.
SHAPE = Shape(cluster_bits=9)
KINDS = [Kind.DATA, Kind.COMPRESSED, Kind.ABSENT, Kind.DATA, Kind.RESERVED_ZERO, *[Kind.DATA] * 70, Kind.COMPRESSED]
L1, L2, OTHER_L2 = 0, 1, 2


def sound() -> Built:
    return build(SHAPE, KINDS, Random(5), tables_first=True)


def changed(table: int, index: int, change: Callable[[int], int]) -> bytes:
    """Return the image with one entry of a table changed."""
    image = sound()
    file = bytearray(image.file)
    at = image.tables[table] + 8 * index
    file[at : at + 8] = change(int.from_bytes(file[at : at + 8])).to_bytes(8)
    return bytes(file)


def entry(table: int, index: int) -> int:
    image = sound()
    at = image.tables[table] + 8 * index
    return int.from_bytes(image.file[at : at + 8])


REFUSALS: dict[str, tuple[bytes, str]] = {
    "reserved bits in L1": (changed(L1, 0, lambda word: word | 1), "reserved bits are set in its L1 entry"),
    "reserved bits in L2": (changed(L2, 0, lambda word: word | 1 << 56), "reserved bits are set in its L2 entry"),
    "two tables in one place": (changed(L1, 0, lambda _: entry(L1, 1)), "two of its tables or clusters are at byte"),
    "data over data": (changed(L2, 0, lambda _: entry(L2, 3)), "two of its tables or clusters are at byte"),
    "data over data of another table": (
        changed(OTHER_L2, 0, lambda _: entry(L2, 3)),
        "two of its tables or clusters are at byte",
    ),
    "data over what reads as zeros": (
        changed(L2, 0, lambda _: entry(L2, 4) & ~1),
        "two of its tables or clusters are at byte",
    ),
    "data over L1": (changed(L2, 0, lambda _: sound().tables[L1]), "two of its tables or clusters are at byte"),
    "L2 over L1": (changed(L1, 0, lambda _: sound().tables[L1]), "two of its tables or clusters are at byte"),
    "data over its own table": (changed(L2, 0, lambda _: sound().tables[L2]), "two of its tables or clusters are at"),
    "a compressed cluster over a table": (
        changed(L2, 0, lambda _: 1 << 62 | sound().tables[OTHER_L2] + 40),
        "two of its tables or clusters are at byte",
    ),
    "a compressed cluster over the header": (
        changed(L2, 0, lambda _: 1 << 62 | 40),
        "two of its tables or clusters are at byte",
    ),
    "a compressed cluster over data": (
        changed(L2, 0, lambda _: 1 << 62 | entry(L2, 3) & (1 << 48) - 1),
        "two of its tables or clusters are at byte|can't be unpacked",
    ),
    "data behind the end": (changed(L2, 0, lambda _: 1 << 40), "truncated: a data cluster reaches to byte"),
    "L2 behind the end": (changed(L1, 0, lambda _: 1 << 40), "truncated: an L2 table reaches to byte"),
    "a compressed cluster behind the end": (
        changed(L2, 1, lambda word: word & (1 << 62) | 1 << 40),
        "truncated: a compressed cluster reaches to byte",
    ),
    "compressed noise": (changed(L2, 1, lambda word: word + 3), "can't be unpacked"),
}


@pytest.mark.parametrize(
    "mode", [EAGER, LAZY, SPILLING_AT_ONCE, MEMORY_ALONE], ids=["eager", "lazy", "spill", "memory"]
)
@pytest.mark.parametrize("what", REFUSALS)
def test_what_cannot_be_meant_is_refused(what: str, mode: Mode) -> None:
    file, words = REFUSALS[what]
    assert decode(sound().file, mode).guest == sound().disk
    with pytest.raises((ImageRefused, ImageDamaged), match=words):
        decode(file, mode)


@pytest.mark.parametrize(
    ("entry_words", "reason"),
    [
        ((3 << 14, 1 << 32 | 1), "both allocated and zero"),
        ((0, 1), "without a place"),
        ((3 << 14 | 1, 1), "reserved bits are set in its L2 entry"),
        (((3 << 14) + 512, 1), "not at the start of a cluster"),
    ],
)
def test_impossible_subclusters_are_refused(entry_words: tuple[int, int], reason: str) -> None:
    image = build(Shape(cluster_bits=14, extended_l2=True), [Kind.PARTIAL, Kind.DATA], Random(2), tables_first=True)
    file = bytearray(image.file)
    file[image.tables[L2] : image.tables[L2] + 16] = struct.pack(">2Q", *entry_words)
    with pytest.raises(ImageRefused, match=reason):
        decode(bytes(file), EAGER)


def test_version_2_has_no_zero_flag() -> None:
    image = build(Shape(version=2), [Kind.DATA], Random(2))
    file = bytearray(image.file)
    file[image.tables[L2] + 7] |= 1
    with pytest.raises(ImageRefused, match="reserved bits are set in its L2 entry"):
        decode(bytes(file), EAGER)


def test_tables_of_the_header_may_not_overlap() -> None:
    image = sound()
    file = bytearray(image.file)
    file[48:56] = image.tables[L1].to_bytes(8)
    with pytest.raises(ImageRefused, match="two of its tables or clusters are at byte"):
        decode(bytes(file), EAGER)


def test_tables_that_change_after_they_were_read_ahead_are_noticed() -> None:
    image = build(SHAPE, [Kind.DATA] * 3 + [Kind.ABSENT], Random(2), tables_first=True)
    later = bytearray(image.file)
    first = image.tables[L2]
    later[first : first + 16] = later[first + 8 : first + 16] + later[first : first + 8]
    with pytest.raises(SourceChanged, match="read ahead"):
        decode(image.file, EAGER, later=bytes(later))


def test_the_length_that_was_announced_counts() -> None:
    image = sound()
    header = qcow2.parse(image.file[:512], image="test")
    with pytest.raises(ImageDamaged, match="it goes on behind its end"):
        list(Decoder(header, image="test", size=len(image.file) - 1).push(image.file))
    longer = Decoder(header, image="test", size=len(image.file) + 512)
    list(longer.push(image.file))
    with pytest.raises(ImageDamaged, match="ended before"):
        list(longer.finish())


def test_nothing_at_all_is_truncated() -> None:
    header = qcow2.parse(sound().file[:512], image="test")
    with pytest.raises(ImageDamaged, match="truncated"):
        list(Decoder(header, image="test").finish())


@pytest.mark.parametrize("metadata", [MetadataAccess.EAGER, MetadataAccess.NEVER])
def test_a_request_that_is_not_fulfilled_is_the_drivers_mistake(metadata: MetadataAccess) -> None:
    image = build(SHAPE, KINDS, Random(5))
    header = qcow2.parse(image.file[:512], image="test")
    decoder = Decoder(header, image="test", budget=0, tail=ByteRange(SIZE, SIZE + MIB), metadata=metadata)
    with pytest.raises(ValueError, match="not given"):
        list(decoder.push(image.file))
        list(decoder.finish())


def header_of(*, cluster_bits: int, size: int, l1_entries: int) -> bytes:
    at = 1 << cluster_bits
    fields = (b"QFI\xfb", 2, 0, 0, cluster_bits, size, 0, l1_entries, 2 * at, at, 1, 0, 0)
    return struct.pack(">4sIQIIQIIQQIIQ", *fields).ljust(at, b"\0")


def peak_of(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_not_reserved_for_what_a_header_says() -> None:
    # 2**62 bytes in clusters of 2 MiB: an L1 table of 32 MiB that never comes.
    file = header_of(cluster_bits=21, size=1 << 60, l1_entries=1 << 21)
    header = qcow2.parse(file, image="test")

    def work() -> None:
        decoder = Decoder(header, image="test")
        list(decoder.push(file))
        with pytest.raises(ImageDamaged, match="truncated"):
            list(decoder.finish())

    assert peak_of(work) < 4 * len(file)


def test_a_table_full_of_fragments_ends_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qcow2_map, "_MOST_EXTENTS", 1 << 16)
    # Each of 256 tables says that its 512 clusters are somewhere far behind, none next to another.
    bits, tables = 12, 256
    head = header_of(cluster_bits=bits, size=tables * 512 << bits, l1_entries=tables)
    header = qcow2.parse(head, image="test")
    l1_at, l1_clusters = 2, 1
    l1 = struct.pack(f">{tables}Q", *((l1_at + l1_clusters + index) << bits for index in range(tables)))
    l1 = l1.ljust(1 << bits, b"\0")

    def work() -> None:
        decoder = Decoder(header, image="test")
        for piece in (head, bytes(1 << bits), l1):
            list(decoder.push(piece))
        with pytest.raises(ImageRefused, match="fragments"):
            for index in range(tables):
                first = 1 << 20 | index << 10
                list(decoder.push(struct.pack(">512Q", *(first + 2 * each << bits for each in range(512)))))

    # 24 bytes each, and as many again while two rows become one.
    assert peak_of(work) < 5 * MIB


def test_compressed_clusters_that_overlap_by_the_thousand_end_soon() -> None:
    bits = 14
    kinds = [Kind.ABSENT] * 2048
    kinds[0] = Kind.COMPRESSED
    image = build(Shape(cluster_bits=bits), kinds, Random(3))
    file = bytearray(image.file)
    at = image.tables[L2]
    file[at : at + 8 * 2048] = file[at : at + 8] * 2048
    for mode in MODES:
        # They are read as by QEMU, but where they come so late that what they had in common is gone.
        with contextlib.suppress(ImageRefused, ImageDamaged):
            assert decode(bytes(file), mode).guest == image.disk[: 1 << bits] * 2048
