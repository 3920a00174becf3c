"""Disks in memory: as large as one likes, because only what was written is kept."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from libironic_disk.pure.tables.model import Extent

DEVICE = "/dev/test"


class Disk:
    """A disk of zeros on which extents were written."""

    def __init__(self, size: int, extents: Iterable[Extent] = ()) -> None:
        self.size = size
        self.extents = [*extents]
        self.reads: list[tuple[int, int]] = []

    def write(self, offset: int, data: bytes) -> None:
        self.extents.append(Extent(offset, data))

    def read(self, offset: int, length: int) -> bytes:
        assert offset >= 0
        assert length >= 0
        self.reads.append((offset, length))
        length = max(min(length, self.size - offset), 0)
        data = bytearray(length)
        for start, written in self.extents:
            first, last = max(start, offset), min(start + len(written), offset + length)
            if first < last:
                data[first - offset : last - offset] = written[first - start : last - start]
        return bytes(data)

    def save(self, path: Path) -> str:
        with path.open("wb") as file:
            file.truncate(self.size)
            for offset, data in self.extents:
                file.seek(offset)
                file.write(data)
        return str(path)


def disk_of(path: Path) -> Disk:
    """The disk in a small file."""
    data = path.read_bytes()
    return Disk(len(data), [Extent(0, data)])
