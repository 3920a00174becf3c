"""Base64 and gzip: strict and bounded."""

from __future__ import annotations

import base64
import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import ConfigDriveInvalid, ConfigDriveTooLarge
from libironic_disk.pure.drives.wrapping import decode_base64, encoded_limit, gunzip

MIB = 1024 * 1024


@given(st.binary(min_size=1))
def test_base64_in_every_usual_layout(data: bytes) -> None:
    encoded = base64.b64encode(data)
    lines = base64.encodebytes(data)
    assert decode_base64(encoded) == decode_base64(lines) == data
    assert decode_base64(b" \t" + lines.replace(b"\n", b"\r\n") + b"\v\f") == data


@pytest.mark.parametrize(
    "text",
    [b"", b" \n", b"AAA", b"A", b"AAAA=", b"AA=A", b"AAAA\0", b"AA-_", b"AAA?", b"=AAA", b"AAAA====", b"\xffAAA"],
)
def test_base64_that_a_lenient_decoder_would_take_or_half_take(text: bytes) -> None:
    with pytest.raises(ConfigDriveInvalid, match="nor base64") as caught:
        decode_base64(text)
    assert caught.value.__context__ is None


@given(st.integers(0, 100_000))
def test_encoded_limit_leaves_room_for_lines(size: int) -> None:
    lines = b"\r\n".join(base64.encodebytes(bytes(size)).split(b"\n"))
    assert len(lines) <= encoded_limit(size)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(0, 9))
def test_gzip_of_one_or_several_members_and_padding(parts: list[bytes], padding: int) -> None:
    data = b"".join(map(gzip.compress, parts)) + bytes(padding)
    whole = b"".join(parts)
    assert gunzip(data, limit=len(whole)) == whole == gzip.decompress(data)


@given(st.binary(min_size=1, max_size=5000), st.data())
def test_gzip_cut_anywhere(content: bytes, data: st.DataObject) -> None:
    packed = gzip.compress(content)
    with pytest.raises(ConfigDriveInvalid):
        gunzip(packed[: data.draw(st.integers(0, len(packed) - 1))], limit=MIB)


@pytest.mark.parametrize("tail", [b"x", b"\0\0x", b"\x1f", b"\x1f\x8b", b"\x1f\x8b\x08", gzip.compress(b"a")[:-1]])
def test_gzip_followed_by_something_else(tail: bytes) -> None:
    with pytest.raises(ConfigDriveInvalid):
        gunzip(gzip.compress(b"a") + tail, limit=MIB)


def test_gzip_with_a_wrong_checksum() -> None:
    packed = bytearray(gzip.compress(b"secret" * 100))
    packed[-8] ^= 1
    with pytest.raises(ConfigDriveInvalid, match="damaged") as caught:
        gunzip(bytes(packed), limit=MIB)
    assert caught.value.__context__ is None


def test_a_bomb_is_never_unpacked_past_the_limit() -> None:
    squeezed = zlib.compressobj(wbits=31)
    bomb = b"".join(squeezed.compress(bytes(MIB)) for _ in range(512)) + squeezed.flush()
    tracemalloc.start()
    try:
        with pytest.raises(ConfigDriveTooLarge) as caught:
            gunzip(bomb, limit=MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.found == MIB + 1
    assert peak < 4 * MIB


def test_a_bomb_of_members() -> None:
    member = gzip.compress(b"x" * 1000)
    with pytest.raises(ConfigDriveTooLarge) as caught:
        gunzip(member * 2000, limit=MIB)
    assert caught.value.found == MIB + 1


def test_endless_empty_members() -> None:
    with pytest.raises(ConfigDriveInvalid, match="members"):
        gunzip(gzip.compress(b"") * 100_000, limit=MIB)
