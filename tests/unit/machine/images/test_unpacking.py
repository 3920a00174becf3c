"""Compressed pieces through a decompressor, and from a server to the end of it."""

from __future__ import annotations

import gzip
import lzma
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import ImageDamaged, SourceFailed
from libironic_disk.machine.http import HttpPolicy
from libironic_disk.machine.images.http_client import Location
from libironic_disk.machine.images.http_source import http_image
from libironic_disk.machine.images.sources import Data, OpenSource, Piece, Zeros
from libironic_disk.machine.images.sources.readahead import reading_ahead
from libironic_disk.machine.images.unpacking import Unpacked
from libironic_disk.pure.images.checksums import Algorithm, LiveDigest
from libironic_disk.pure.images.compression import DETECTION_SIZE, Compression, Decompressor, detect
from libironic_disk.units import MIB
from tests.support.badserver import Fault, ImageServer, Kind
from tests.support.webserver import serving


def borrowed(data: bytes, size: int) -> Iterator[Piece]:
    """Give pieces that are overwritten as soon as the next one is asked for."""
    buffer = bytearray(size)
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        buffer[: len(piece)] = piece
        yield Data(offset=at, data=memoryview(buffer)[: len(piece)])
        buffer[:] = b"\xaa" * size


def read(opened: OpenSource, size: int) -> bytes:
    buffer = memoryview(bytearray(size))
    whole = bytearray()
    while (piece := opened.fill(buffer)) is not None:
        assert isinstance(piece, Data)
        assert piece.offset == len(whole)
        whole += piece.data
    assert opened.fill(buffer) is None
    return bytes(whole)


@given(
    body=st.binary(max_size=2000) | st.just(bytes(100_000)),
    kind=st.sampled_from([Compression.GZIP, Compression.XZ]),
    size=st.integers(1, 3000),
    filled=st.integers(100, 30_000),
)
def test_any_pieces(body: bytes, kind: Compression, size: int, filled: int) -> None:
    packed = gzip.compress(body) if kind is Compression.GZIP else lzma.compress(body, preset=0)
    assert read(Unpacked(borrowed(packed, size), Decompressor(kind, image="disk.img")), filled) == body
    with pytest.raises(ImageDamaged, match="truncated"):
        read(Unpacked(borrowed(packed[:-1], size), Decompressor(kind, image="disk.img")), filled)


def test_a_hole_is_zeros() -> None:
    packed = memoryview(gzip.compress(b"body"))
    pieces: list[Piece] = [Data(offset=0, data=packed), Zeros(offset=len(packed), length=5 * MIB + 1)]
    assert read(Unpacked(pieces, Decompressor(Compression.GZIP, image="disk.img")), 100) == b"body"
    with pytest.raises(ImageDamaged, match="followed by something else"):
        pieces = [Data(offset=0, data=packed), Zeros(offset=len(packed), length=5), Data(offset=99, data=packed[3:])]
        read(Unpacked(pieces, Decompressor(Compression.GZIP, image="disk.img")), 100)


@pytest.mark.parametrize("parts", [True, False])
def test_from_a_server_that_drops_connections_to_the_image(parts: bool) -> None:
    """All stages at once, each in its thread: read, hash, unpack; the digest is that of the compressed file."""
    body = os.urandom(3 * MIB) + bytes(20 * MIB) + os.urandom(2 * MIB)
    packed = gzip.compress(body, compresslevel=1)
    drops = [Fault(kind=Kind.NONE), *(Fault(kind=Kind.DROP, after=after * MIB) for after in (1, 2, 3))]
    live = LiveDigest(Algorithm.SHA256)

    def hashed(pieces: Iterator[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            assert isinstance(piece, Data)
            live.update(piece.data)
            yield piece

    with serving() as server:
        bad = ImageServer(server=server, body=packed, faults=drops, parts=parts)
        image = http_image(Location(url=bad.url), policy=HttpPolicy(), head_size=4096)
        kind = detect(image.head[:DETECTION_SIZE])
        assert kind is Compression.GZIP
        with image.opened() as opened, reading_ahead(opened) as pieces:
            unpacked = Unpacked(hashed(pieces), Decompressor(kind, image=image.name))
            with reading_ahead(unpacked) as found:
                whole = b"".join(bytes(piece.data) for piece in found if isinstance(piece, Data))
    assert whole == body
    expected = LiveDigest(Algorithm.SHA256)
    expected.update(packed)
    live.check(expected.checksum(), image=image.name)


def test_a_source_that_fails_fails_as_itself() -> None:
    def failing() -> Iterator[Piece]:
        yield Data(offset=0, data=memoryview(gzip.compress(b"body"))[:10])
        raise SourceFailed(source="disk.img", reason="gone", offset=10)

    with pytest.raises(SourceFailed, match="gone"):
        read(Unpacked(failing(), Decompressor(Compression.GZIP, image="disk.img")), 100)
