"""Compressed images: what unpacks, unpacks alike by other programs and modules, in whatever pieces it comes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from collections.abc import Iterator
from io import BytesIO
from random import Random

import zstandard

from libironic_disk.errors import ImageDamaged, ImageRefused
from libironic_disk.pure.images.compression import Compression, Decompressor, detect
from libironic_disk.units import KIB, MIB
from tests.fuzz.plain import Plain, repeated

_LIMIT = 2 * MIB
_DICTIONARIES = 16 * MIB
_NAME = "image.raw"


class _Compression(Plain):
    seconds = (1.5, 40e-6)
    memory = _DICTIONARIES + 16 * MIB
    words = (
        b"\x1f\x8b\x08",
        b"\xfd7zXZ\0",
        b"\x28\xb5\x2f\xfd",
        b"BZh9",
        b"\x50\x2a\x4d\x18\x04\0\0\0skip",
        bytes(4),
        bytes(512),
        b"\xff" * 4,
    )

    def seeds(self, random: Random) -> Iterator[bytes]:
        return repeated(lambda: b"".join(_stream(random) for _ in range(random.choice([1, 1, 2, 3]))))

    def examine(self, data: bytes) -> str:
        compression = detect(data)
        if compression is None:
            return "not compressed"
        outcomes = [
            self._unpacked(compression, data, Random(len(data) + each), most)
            for each, most in enumerate((64 * KIB, 700))
        ]
        assert outcomes[0] == outcomes[1]
        if isinstance(outcomes[0], str):
            return outcomes[0]
        assert outcomes[0] == _reference(compression, data)
        return f"{compression}"

    def _unpacked(self, compression: Compression, data: bytes, random: Random, most: int) -> bytes | str:
        stream = Decompressor(compression, image=_NAME, limit=_LIMIT, memory_limit=_DICTIONARIES)
        unpacked, start = [], 0
        try:
            while start < len(data):
                end = start + random.choice([1, 5, 700, 5000, 50_000])
                # Borrowed, as a reader's buffer is.
                piece = bytearray(data[start:end])
                stream.push(piece)
                while produced := stream.pull(most):
                    assert len(produced) <= most
                    unpacked.append(produced)
                piece[:] = bytes([0xAA]) * len(piece)
                start = end
            stream.finish()
        except (ImageDamaged, ImageRefused):
            # Which of the two comes first, where it is both damaged and too large, is a matter of pieces.
            return "refused"
        return b"".join(unpacked)


def _stream(random: Random) -> bytes:
    data = random.choice([b"", bytes(random.randint(1, 300_000)), random.randbytes(random.randint(1, 9000))])
    data += random.choice([b"", b"text " * random.randint(1, 400)])
    match random.choice(list(Compression)):
        case Compression.GZIP:
            return gzip.compress(data, random.choice([1, 9]), mtime=0) + bytes(random.choice([0, 0, 512]))
        case Compression.XZ:
            check = random.choice([lzma.CHECK_CRC32, lzma.CHECK_CRC64, lzma.CHECK_NONE, lzma.CHECK_SHA256])
            return lzma.compress(data, check=check, preset=random.choice([0, 1])) + bytes(random.choice([0, 0, 4]))
        case Compression.BZIP2:
            return bz2.compress(data, 1)
        case _:
            sized, checked = random.random() < 0.5, random.random() < 0.5
            return zstandard.ZstdCompressor(level=1, write_content_size=sized, write_checksum=checked).compress(data)


def _reference(compression: Compression, data: bytes) -> bytes:
    match compression:
        case Compression.GZIP:
            return gzip.decompress(data)
        case Compression.XZ:
            # Python's own knows no padding.
            return subprocess.run(["xz", "-dc"], input=data, capture_output=True, check=True).stdout
        case Compression.BZIP2:
            return bz2.decompress(data)
        case _:
            reader = zstandard.ZstdDecompressor(max_window_size=_DICTIONARIES).stream_reader(
                BytesIO(data), read_across_frames=True
            )
            return reader.read()


TARGET = _Compression()
