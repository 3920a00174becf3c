"""qemu-img's opinion of a file, asked for within bounds of time and memory."""

from __future__ import annotations

import os
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

from libironic_disk.units import GIB, MIB

_SECONDS = 20
_MEMORY = 4 * GIB
_PIECE = MIB
_REFCOUNT_ORDER = 4
_V3_FIELDS = 72
_OFFSET = 0x00FF_FFFF_FFFF_FE00
_COMPRESSED = 1 << 62
_QEMU_WINDOW = -12


class QemuImg:
    """Converts images within a directory."""

    def __init__(self, directory: Path) -> None:
        self._image = directory / "image.qcow2"
        self._disk = directory / "qemu.raw"

    def read(self, file: bytes) -> Path | str:
        """Return the disk as qemu-img reads it, or what it says where it refuses the image."""
        self._image.write_bytes(file)
        self._disk.unlink(missing_ok=True)
        bounds = ["prlimit", f"--as={_MEMORY}", f"--cpu={_SECONDS}", "--core=0"]
        command = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(self._image), str(self._disk)]
        ended = subprocess.run([*bounds, *command], check=False, capture_output=True, timeout=4 * _SECONDS)
        assert ended.returncode in (0, 1), f"qemu-img ended with {ended.returncode}: {ended.stderr!r}"
        return ended.stderr.decode(errors="replace").strip() if ended.returncode else self._disk


def without_extras(file: bytes) -> bytes:
    """Return the same image without what no reader of the active disk needs, sound or not.

    The format's specification lets a reader pass over these, and so does the decoder: internal snapshots, header
    extensions, compatible and autoclear features with what they stand for (bitmaps), the dirty bit, and reference
    counts, of which an empty table has none.
    """
    image = bytearray(file)
    struct.pack_into(">IQ", image, 60, 0, 0)
    if int.from_bytes(file[4:8]) == 2:
        return _without_refcounts(image, 72)
    incompatible, _, _, _, length = struct.unpack_from(">QQQII", file, _V3_FIELDS)
    struct.pack_into(">QQQI", image, _V3_FIELDS, incompatible & ~1, 0, 0, _REFCOUNT_ORDER)
    return _without_refcounts(image, length)


def _without_refcounts(image: bytearray, header_length: int) -> bytes:
    cluster = 1 << int.from_bytes(image[20:24])
    image[header_length:cluster] = bytes(cluster - header_length)
    image += bytes(-len(image) % cluster)
    struct.pack_into(">QI", image, 48, len(image), 1)
    return bytes(image + bytes(cluster))


def has_wide_window(file: bytes) -> bool:
    """Whether a compressed cluster refers back farther than QEMU's window of 4 KiB: QEMU then fails to read it.

    The specification says RFC 1951, in which 32 KiB are right, and other programs write that.
    """
    bits, (l1_entries, l1) = int.from_bytes(file[20:24]), struct.unpack_from(">IQ", file, 36)
    for entry in _words(file, l1, min(l1_entries, len(file))):
        for word in _words(file, entry & _OFFSET, 1 << bits - 3):
            place = word & (1 << 70 - bits) - 1
            if word & _COMPRESSED and _refers_far_back(file[place:], 1 << bits):
                return True
    return False


def _words(file: bytes, start: int, count: int) -> tuple[int, ...]:
    count = max(0, min(count, (len(file) - start) // 8)) if start else 0
    return struct.unpack_from(f">{count}Q", file, start) if count else ()


def _refers_far_back(payload: bytes, size: int) -> bool:
    try:
        zlib.decompressobj(_QEMU_WINDOW).decompress(payload, size)
    except zlib.error as error:
        return "too far back" in str(error)
    return False


def difference(one: Path, other: Path) -> int | None:
    """Return the first byte in which two sparse files differ, None if they are the same."""
    with one.open("rb") as here, other.open("rb") as there:
        size = os.fstat(here.fileno()).st_size
        if size != os.fstat(there.fileno()).st_size:
            return min(size, os.fstat(there.fileno()).st_size)
        differ = [
            _differ(here.fileno(), there.fileno(), start, min(_PIECE, end - start))
            for each in (here, there)
            for begin, end in _data(each.fileno(), size)
            for start in range(begin, end, _PIECE)
        ]
    return min((at for at in differ if at is not None), default=None)


def _differ(one: int, other: int, start: int, length: int) -> int | None:
    here, there = os.pread(one, length, start), os.pread(other, length, start)
    return None if here == there else start + next(at for at in range(length) if here[at] != there[at])


def _data(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Give the ranges of a file that aren't holes."""
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end
