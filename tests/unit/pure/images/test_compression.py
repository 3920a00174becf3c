"""Undoing compression: against the programs that compress, and against data that was made to do harm."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import struct
import subprocess
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import DiskError, ImageDamaged, ImageRefused
from libironic_disk.pure.images import compression
from libironic_disk.pure.images.compression import DETECTION_SIZE, Compression, Decompressor, detect
from libironic_disk.units import GIB, KIB, MIB


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


COMPRESS: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.GZIP: lambda data: gzip.compress(data, mtime=0),
    Compression.XZ: lambda data: lzma.compress(data, preset=1),
    Compression.ZSTD: zstd,
    Compression.BZIP2: bz2.compress,
}
SKIPPABLE = b"\x5a\x2a\x4d\x18" + struct.pack("<I", 5) + b"hello"
MIXED = random.Random(1).randbytes(70_000) + bytes(300_000) + b"text " * 40_000

every_compression = pytest.mark.parametrize("kind", list(Compression))


def unpack(
    data: bytes, kind: Compression, *, pushed: int = 1 << 20, pulled: int = 1 << 20, limit: int | None = None
) -> bytes:
    """Unpack; gzip with both of its decoders, because the one for rarer machines is used nowhere else here."""
    fast = compression._gzip_members()
    outcomes: list[bytes | DiskError] = []
    for members in {fast, compression._GzipMember} if kind is Compression.GZIP else {fast}:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compression, "_gzip_members", lambda members=members: members)
            try:
                outcomes.append(unpack_once(data, kind, pushed, pulled, limit))
            except DiskError as error:
                outcomes.append(error)
    first, last = outcomes[0], outcomes[-1]
    if isinstance(first, bytes):
        assert first == last
        return first
    assert type(first) is type(last)
    raise first


def unpack_once(data: bytes, kind: Compression, pushed: int, pulled: int, limit: int | None) -> bytes:
    decompressor = Decompressor(kind, image="disk.img", limit=limit)
    unpacked = bytearray()
    for at in range(0, len(data), pushed):
        decompressor.push(data[at : at + pushed])
        while piece := decompressor.pull(pulled):
            assert len(piece) <= pulled
            unpacked += piece
    decompressor.finish()
    return bytes(unpacked)


@every_compression
def test_detection(kind: Compression) -> None:
    assert detect(COMPRESS[kind](MIXED)[:DETECTION_SIZE]) is kind
    assert detect(COMPRESS[kind](b"")) is kind
    assert detect(COMPRESS[kind](b"")[:2]) is None


def test_no_detection() -> None:
    assert detect(SKIPPABLE) is Compression.ZSTD
    for head in (b"", b"\0" * 512, b"QFI\xfb\0\0\0\3", b"\xeb\x63\x90" + bytes(509), b"BZh0", b"\x1f\x8b\x07\0\0\0"):
        assert detect(head) is None


@pytest.mark.parametrize(
    ("argv", "kind"),
    [
        (("gzip", "-1"), Compression.GZIP),
        (("gzip", "-9"), Compression.GZIP),
        (("xz", "-0"), Compression.XZ),
        (("xz", "--check=sha256", "--block-size=100000"), Compression.XZ),
        (("xz", "--check=none"), Compression.XZ),
        (("xz", "-9"), Compression.XZ),
        (("zstd", "-1"), Compression.ZSTD),
        (("zstd", "-19", "--long=27"), Compression.ZSTD),
        (("zstd", "--no-check"), Compression.ZSTD),
        (("bzip2", "-1"), Compression.BZIP2),
        (("bzip2", "-9"), Compression.BZIP2),
    ],
)
def test_what_programs_compress(argv: tuple[str, ...], kind: Compression) -> None:
    for body in (b"", b"x", MIXED):
        packed = subprocess.run([*argv, "-c"], input=body, check=True, capture_output=True).stdout
        assert detect(packed) is kind
        assert unpack(packed, kind) == body
        assert unpack(packed * 2, kind) == body * 2


@given(
    kind=st.sampled_from(Compression),
    bodies=st.lists(st.binary(max_size=300) | st.sampled_from([MIXED[60_000:90_000], bytes(200_000)]), max_size=5),
    pushed=st.sampled_from([1, 2, 3, 7, 100, 5000, 1 << 20]),
    pulled=st.sampled_from([1, 3, 1000, 70_000, 1 << 20]),
)
def test_any_row_of_streams_in_any_pieces(kind: Compression, bodies: list[bytes], pushed: int, pulled: int) -> None:
    whole = b"".join(bodies)
    if len(whole) > 5000:
        pulled = max(pulled, 1000)
    packed = b"".join(COMPRESS[kind](body) for body in [*bodies, b"end"])
    assert unpack(packed, kind, pushed=pushed, pulled=pulled) == whole + b"end"


@given(kind=st.sampled_from(Compression), data=st.data())
def test_every_truncation_is_an_error(kind: Compression, data: st.DataObject) -> None:
    first, second = COMPRESS[kind](MIXED[69_000:71_000]), COMPRESS[kind](b"more")
    at = data.draw(st.integers(0, len(first) + len(second) - 1).filter(lambda at: at != len(first)))
    with pytest.raises(ImageDamaged, match="truncated") as caught:
        unpack((first + second)[:at], kind, pushed=data.draw(st.sampled_from([1, 10, 10_000])))
    assert caught.value.offset == at


@every_compression
@pytest.mark.parametrize("garbage", [b"x", b"\x1f", b"garbage" * 1000, b"\0x", b"\0\0\0\0x", b"\x1f\x8b\x08"])
def test_whatever_else_follows_is_an_error(kind: Compression, garbage: bytes) -> None:
    for pushed in (1, 1 << 20):
        with pytest.raises(ImageDamaged, match=r"followed by something else|truncated|padded"):
            unpack(COMPRESS[kind](b"body") + garbage, kind, pushed=pushed)


def test_padding() -> None:
    for pushed in (1, 1 << 20):
        for zeros in (1, 4, 1000, 1_000_000 if pushed > 1 else 10):
            assert unpack(gzip.compress(b"body") + bytes(zeros), Compression.GZIP, pushed=pushed) == b"body"
        packed = lzma.compress(b"body")
        assert unpack(packed + bytes(4) + packed + bytes(512), Compression.XZ, pushed=pushed) == b"bodybody"
        for wrong in (packed + bytes(3), packed + bytes(6) + packed, packed + bytes(513)):
            with pytest.raises(ImageDamaged, match="padded with"):
                unpack(wrong, Compression.XZ, pushed=pushed)
        with pytest.raises(ImageDamaged, match="followed by"):
            unpack(bytes(4) + packed, Compression.XZ, pushed=pushed)
        for kind in (Compression.ZSTD, Compression.BZIP2):
            with pytest.raises(ImageDamaged, match="followed by something else"):
                unpack(COMPRESS[kind](b"body") + bytes(8), kind, pushed=pushed)


def test_frames_that_hold_nothing() -> None:
    empty = b"\x50\x2a\x4d\x18" + bytes(4)
    for pushed in (1, 1 << 20):
        packed = empty + zstd(b"a") + SKIPPABLE + empty + zstd(b"") + zstd(b"b") + SKIPPABLE
        assert unpack(packed, Compression.ZSTD, pushed=pushed) == b"ab"
        with pytest.raises(ImageDamaged, match="truncated"):
            unpack(zstd(b"a") + SKIPPABLE[:-1], Compression.ZSTD, pushed=pushed)


@given(kind=st.sampled_from(Compression), at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_or_does_not_matter(kind: Compression, at: int, bit: int) -> None:
    body = MIXED[68_000:73_000]
    packed = bytearray(COMPRESS[kind](body))
    packed[at % len(packed)] ^= 1 << bit
    try:
        assert unpack(bytes(packed), kind, limit=2 * len(body)) == body
    except (ImageDamaged, ImageRefused) as error:
        assert "disk.img" in str(error)  # noqa: PT017


@given(kind=st.sampled_from(Compression), data=st.binary(max_size=200), pushed=st.sampled_from([1, 1000]))
def test_any_bytes_end_in_bytes_or_in_a_typed_error(kind: Compression, data: bytes, pushed: int) -> None:
    with pytest.raises((ImageDamaged, ImageRefused)):
        unpack(COMPRESS[kind](b"x")[:5] + data, kind, pushed=pushed, limit=MIB)


def bomb(kind: Compression) -> Iterator[bytes]:
    """At least 256 MiB of zeros in small pieces."""
    match kind:
        case Compression.GZIP:
            packer = zlib.compressobj(9, wbits=31)
            yield from (packer.compress(bytes(64 * MIB)) for _ in range(4))
        case Compression.XZ:
            lzma_packer = lzma.LZMACompressor(preset=0)
            yield b"".join(lzma_packer.compress(bytes(64 * MIB)) for _ in range(4))
        case Compression.BZIP2:
            yield bz2.compress(bytes(256 * MIB))
        case Compression.ZSTD:
            # Blocks that repeat one byte 128 Ki times, section 3.1.1.2.2: 4 bytes each, in a frame of unknown size.
            block = (0 | 1 << 1 | 128 * KIB << 3).to_bytes(3, "little") + b"\0"
            yield b"\x28\xb5\x2f\xfd\x00\x58" + block * (4 * GIB // (128 * KIB))


@every_compression
def test_a_bomb_costs_no_memory(kind: Compression) -> None:
    pieces = [*bomb(kind)]
    assert sum(map(len, pieces)) < MIB
    decompressor = Decompressor(kind, image="disk.img", limit=200 * MIB)
    unpacked = 0
    tracemalloc.start()
    try:
        with pytest.raises(ImageRefused, match="unpacks to more than the 200 MiB"):
            for piece in pieces:
                decompressor.push(piece)
                while produced := decompressor.pull(64 * KIB):
                    unpacked += len(produced)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()
    assert 199 * MIB < unpacked <= 200 * MIB


def test_a_zstd_block_that_is_too_large_is_refused() -> None:
    block = (1 << 1 | (128 * KIB + 1) << 3).to_bytes(3, "little") + b"\0"
    with pytest.raises(ImageDamaged, match="a block of 131073 bytes"):
        unpack(b"\x28\xb5\x2f\xfd\x00\x58" + block, Compression.ZSTD)


@pytest.mark.parametrize(
    ("kind", "packed"),
    [
        (Compression.XZ, lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 256 * MIB}])),
        # A window descriptor of 2 GiB, section 3.1.1.1.2; then a single segment of 1 GiB.
        (Compression.ZSTD, b"\x28\xb5\x2f\xfd\x00" + bytes([21 << 3]) + b"\1\0\0"),
        (Compression.ZSTD, b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", GIB) + b"\1\0\0"),
    ],
)
def test_a_format_that_wants_too_much_memory_is_refused(kind: Compression, packed: bytes) -> None:
    with pytest.raises(ImageRefused, match="more than the 128 MiB of memory"):
        unpack(packed, kind)


def test_a_dictionary_that_nobody_has() -> None:
    samples: list[bytes | bytearray | memoryview] = [os.urandom(20) * 10 + bytes([each]) for each in range(200)]
    dictionary = zstandard.train_dictionary(1024, samples)
    packed = zstandard.ZstdCompressor(dict_data=dictionary).compress(b"body")
    with pytest.raises(ImageDamaged, match="zstd data is wrong"):
        unpack(packed, Compression.ZSTD)


@every_compression
def test_a_row_of_tiny_streams_takes_no_more_than_its_time(kind: Compression) -> None:
    count = 20_000
    assert unpack(COMPRESS[kind](b"x") * count, kind) == b"x" * count


def test_pushing_too_early_is_a_mistake() -> None:
    decompressor = Decompressor(Compression.GZIP, image="disk.img")
    decompressor.push(gzip.compress(MIXED))
    assert decompressor.pull(1)
    with pytest.raises(ValueError, match="left"):
        decompressor.push(b"more")


@pytest.mark.parametrize("checked", [False, True])
def test_a_zstd_frame_that_lost_its_blocks_but_for_an_empty_last_one_is_damaged(checked: bool) -> None:
    """A stream decoder takes it for whole: its header says 230 bytes, its last block and the checksum are of none."""
    checksum = bytes.fromhex("99e9d851") if checked else b""
    short = b"\x28\xb5\x2f\xfd" + bytes([0x24 if checked else 0x20, 230]) + b"\1\0\0" + checksum
    assert zstandard.get_frame_parameters(short).content_size == 230
    said = subprocess.run(["zstd", "-dc"], input=short, capture_output=True, check=False)
    assert said.returncode
    for pushed in (1, 1000):
        with pytest.raises(ImageDamaged, match="a frame of 230 bytes has 0"):
            unpack(short, Compression.ZSTD, pushed=pushed)
