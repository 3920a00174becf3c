"""The first bytes of an image: as much of it as there is, and what they unpack to."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import pytest

from libironic_disk.errors import ImageDamaged, SourceFailed
from libironic_disk.machine.images.detection import HEAD
from libironic_disk.machine.images.heads import first_bytes, unpacked
from libironic_disk.machine.images.opening import open_source
from libironic_disk.machine.images.sources.file import local_file
from libironic_disk.machine.images.sources.stream import StreamSource
from libironic_disk.pure.images.compression import Compression
from tests.support.badserver import ImageServer
from tests.support.webserver import serving


class Slow(io.BytesIO):
    """A stream that gives a few bytes at a time, as sockets do."""

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        return super().read(min(size, 65_537))


@pytest.mark.parametrize("size", [0, 1, HEAD - 1, HEAD, HEAD + 1, 2 * HEAD])
def test_they_are_the_same_from_wherever_the_image_is(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    body = os.urandom(size)
    path = tmp_path / "image"
    path.write_bytes(body)
    stream = StreamSource(Slow(body), name="upload", size=None)
    with serving() as server:
        served = open_source(ImageServer(server=server, body=body).url)
        for source in (local_file(path), stream, served):
            for _ in range(2):
                assert first_bytes(source) == body[:HEAD]
    # The stream's are still there for whoever reads it.
    with stream.opened() as opened:
        buffer = memoryview(bytearray(HEAD))
        whole = b""
        while (piece := opened.fill(buffer)) is not None:
            whole += buffer[: piece.end - piece.offset]
    assert whole == body


def test_a_file_that_changed_or_a_stream_that_was_read_has_none(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"image")
    file = local_file(path)
    os.utime(path, ns=(0, 0))
    with pytest.raises(SourceFailed, match="changed or replaced"):
        first_bytes(file)
    stream = StreamSource(io.BytesIO(bytes(HEAD)), name="upload", size=None)
    assert first_bytes(stream) == bytes(HEAD)
    with stream.opened():
        pass
    with pytest.raises(SourceFailed, match="once"):
        first_bytes(stream)


def test_what_they_unpack_to_is_bounded() -> None:
    whole = gzip.compress(bytes(10 * HEAD), 1)
    assert len(whole) < HEAD
    assert unpacked(whole, Compression.GZIP, image="i") == bytes(HEAD)


def test_the_end_is_checked_where_all_of_it_is_at_hand() -> None:
    body = os.urandom(HEAD // 2)
    whole = gzip.compress(body, 1)
    assert unpacked(whole, Compression.GZIP, image="i") == body
    with pytest.raises(ImageDamaged, match="truncated"):
        unpacked(whole[:-1], Compression.GZIP, image="i")
    with pytest.raises(ImageDamaged, match="truncated"):
        unpacked(b"\x1f\x8b\x08", Compression.GZIP, image="i")


def test_the_end_is_not_missed_where_there_is_more() -> None:
    body = os.urandom(2 * HEAD)
    head = gzip.compress(body, 1)[:HEAD]
    found = unpacked(head, Compression.GZIP, image="i")
    assert len(found) > HEAD - 100_000
    assert body.startswith(found)
