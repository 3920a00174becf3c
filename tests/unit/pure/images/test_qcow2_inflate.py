"""Single compressed clusters, among them such that were made to do harm."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from dataclasses import replace
from random import Random

import pytest
import zstandard

from libironic_disk.errors import ImageDamaged
from libironic_disk.pure.images import qcow2_inflate
from libironic_disk.pure.images.qcow2 import Compression
from libironic_disk.pure.images.qcow2_events import Compressed
from libironic_disk.pure.images.qcow2_inflate import inflate, measure
from libironic_disk.units import KIB, MIB

SIZE = 64 * KIB
TEXT = (b"text " + Random(1).randbytes(3000)) * (SIZE // 3000 + 1)
DATA = TEXT[:SIZE]
BEHIND = b"the next cluster begins here"


def deflated(data: bytes, level: int = 6) -> bytes:
    stream = zlib.compressobj(level, zlib.DEFLATED, -12)
    return stream.compress(data) + stream.flush()


def frame(data: bytes, *, size: bool = True) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=size).compress(data)


def cluster(payload: bytes, kind: Compression, *, size: int = SIZE, length: int | None = None) -> Compressed:
    return Compressed(
        guest_offset=0,
        length=length or size,
        kind=kind,
        payload=memoryview(payload),
        cluster_size=size,
        host_offset=4711,
    )


@pytest.fixture(autouse=True, params=["zlib", "isal", "libdeflate"])
def _each_decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    qcow2_inflate._new_stream.cache_clear()
    if request.param == "zlib":
        monkeypatch.setattr(qcow2_inflate, "_new_stream", lambda: zlib.decompressobj)
    else:
        assert qcow2_inflate._new_stream().__module__ != "zlib"
    if request.param == "libdeflate":
        assert qcow2_inflate._inflate_at_once() is not qcow2_inflate._inflate
    else:
        monkeypatch.setattr(qcow2_inflate, "_inflate_at_once", lambda: qcow2_inflate._inflate)


PAYLOADS = {
    "zlib": (deflated(DATA), Compression.ZLIB),
    "zlib, stored": (deflated(DATA, 0), Compression.ZLIB),
    "zstd": (frame(DATA), Compression.ZSTD),
    "zstd of unknown size": (frame(DATA, size=False), Compression.ZSTD),
    "zstd in two frames": (frame(DATA[:1000]) + frame(DATA[1000:]), Compression.ZSTD),
    "zstd behind a skippable frame": (b"\x50\x2a\x4d\x18\x03\0\0\0abc" + frame(DATA), Compression.ZSTD),
}


@pytest.mark.parametrize("what", PAYLOADS)
def test_a_cluster_ends_where_its_payload_says(what: str) -> None:
    payload, kind = PAYLOADS[what]
    for rest in (b"", BEHIND, bytes(400)):
        assert inflate(cluster(payload + rest, kind), image="test") == DATA
        assert measure(cluster(payload + rest, kind), image="test") == (DATA, len(payload))
    assert inflate(cluster(payload, kind, length=777), image="test") == DATA[:777]


def test_a_cluster_without_the_end_of_its_stream_is_whole() -> None:
    stream = zlib.compressobj(6, zlib.DEFLATED, -12)
    payload = stream.compress(DATA) + stream.flush(zlib.Z_SYNC_FLUSH)
    assert inflate(cluster(payload, Compression.ZLIB), image="test") == DATA


def test_a_cluster_that_ends_with_the_file_needs_the_end_of_its_stream() -> None:
    stream = zlib.compressobj(6, zlib.DEFLATED, -12)
    payload = stream.compress(DATA) + stream.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(ImageDamaged, match="the file ends before it does"):
        inflate(replace(cluster(payload, Compression.ZLIB), cut=True), image="test")
    for name, (whole, kind) in PAYLOADS.items():
        assert inflate(replace(cluster(whole, kind), cut=True), image="test") == DATA, name


@pytest.mark.parametrize("what", PAYLOADS)
def test_a_payload_that_is_cut_off_or_unpacks_to_less_is_damaged(what: str) -> None:
    payload, kind = PAYLOADS[what]
    for short in (b"", payload[:3], payload[: len(payload) // 2]):
        with pytest.raises(ImageDamaged, match="at byte 4711: its compressed cluster there can't be unpacked"):
            inflate(cluster(short, kind), image="test")
    with pytest.raises(ImageDamaged):
        inflate(cluster(payload, kind, size=2 * SIZE), image="test")
    with pytest.raises(ImageDamaged):
        measure(cluster(payload, kind, size=2 * SIZE), image="test")


def test_noise_is_damaged() -> None:
    for kind in Compression:
        with pytest.raises(ImageDamaged):
            inflate(cluster(b"\xff" * 300, kind), image="test")


@pytest.mark.parametrize("name", ["claims a size", "claims a window", "unpacks to more", "is thousands of frames"])
def test_a_frame_that_does_harm_costs_little(name: str) -> None:
    payload = {
        # RFC 8878 section 3.1.1.1: a frame of one segment, whose size has eight bytes.
        "claims a size": b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 45) + b"\x01\0\0",
        "claims a window": b"\x28\xb5\x2f\xfd\0\xf8\x01\0\0",
        "unpacks to more": frame(bytes(200 * MIB), size=False),
        "is thousands of frames": b"\x50\x2a\x4d\x18\0\0\0\0" * 200_000,
    }[name]
    tracemalloc.start()
    try:
        with pytest.raises(ImageDamaged):
            inflate(cluster(payload, Compression.ZSTD), image="test")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * MIB
