"""A driver of the decoder whose disk is a sparse file: any size, and nothing of it in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from libironic_disk.pure.images import qcow2
from libironic_disk.pure.images.qcow2_events import Compressed, Event, Raw, Recall, Spill, WantMetadata
from libironic_disk.pure.images.qcow2_events import Zeros as ZeroRange
from libironic_disk.pure.images.qcow2_inflate import inflate
from libironic_disk.pure.images.qcow2_stream import Decoder
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.units import KIB, MIB
from tests.fuzz.qcow2.case import Case

NAME = "the image"
OLD = 0xAA
_MOST_DATA = 64 * MIB
_TAIL = 1 << 61


class DiskFull(Exception):
    """The decoder gave more than this machine should hold: no finding, as a real disk is that large."""


class Disk:
    """What a decoder writes to. Every byte must be given once."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self.size = size
        self.written = 0
        self._given: list[tuple[int, int]] = []
        self._kept: set[tuple[int, int]] = set()

    def write(self, at: int, data: bytes | bytearray | memoryview) -> None:
        self._give(at, len(data))
        self.written += len(data)
        if self.written > _MOST_DATA:
            raise DiskFull
        assert os.pwrite(self._descriptor, data, at) == len(data)

    def zero(self, at: int, length: int) -> None:
        for start, end in self._kept:
            first, last = max(at, start), min(at + length, end)
            if first < last:
                os.pwrite(self._descriptor, bytes(last - first), first)
        self._give(at, length)

    def keep(self, at: int, data: bytes) -> None:
        """Keep something where the disk's own bytes haven't been given."""
        self._check_not_given(at, len(data))
        assert os.pwrite(self._descriptor, data, at) == len(data)
        self._kept.add((at, at + len(data)))

    def kept(self, at: int, length: int) -> bytes:
        """Return what was kept."""
        self._check_not_given(at, length)
        return os.pread(self._descriptor, length, at)

    def finish(self) -> None:
        """Assert that nothing is missing and nothing came twice."""
        self._given.sort()
        assert self._given, "nothing of the disk was given"
        assert self._given[0][0] == 0, "the disk's start was never given"
        assert self._given[-1][1] == self.size, "the disk's end was never given"
        for (_, end), (start, _) in pairwise(self._given):
            assert end >= start, f"bytes {end} to {start} of the disk were never given"
            assert end <= start, f"bytes {start} to {end} of the disk were given twice"

    def _check_not_given(self, at: int, length: int) -> None:
        assert 0 <= at <= at + length <= self.size, f"{length} bytes are kept at {at} of a disk of {self.size}"
        for start, end in self._given:
            assert end <= at or at + length <= start, f"bytes {start} to {end} of the disk were given before"

    def _give(self, at: int, length: int) -> None:
        assert length > 0, f"{length} bytes were given at {at}"
        assert 0 <= at <= at + length <= self.size, f"{length} bytes were given at {at} of a disk of {self.size}"
        self._given.append((at, at + length))


def decode(case: Case, path: Path) -> Disk:
    """Decode a case into a sparse file, which is made.

    Raises:
        DiskError: what the decoder raised.
        DiskFull: it gave too much.
    """
    header = qcow2.parse(case.file[: qcow2.bytes_needed(case.file)], image=NAME)
    decoder = Decoder(
        header,
        image=NAME,
        size=len(case.file) if case.size_known else None,
        budget=case.budget,
        tail=ByteRange(_TAIL, 2 * _TAIL * case.spill),
        lent=ByteRange(KIB, header.virtual_size),
        metadata=case.access,
    )
    with path.open("w+b") as file:
        disk = Disk(file.fileno(), header.virtual_size)
        driver = _Driver(decoder, disk, case.other_file())
        for piece in _pieces(case):
            for event in decoder.push(piece):
                driver.carry_out(event)
            assert decoder.stashed <= case.budget, f"{decoder.stashed} bytes are stashed"
        for event in decoder.finish():
            driver.carry_out(event)
        disk.finish()
        file.truncate(header.virtual_size)
    return disk


def _pieces(case: Case) -> Iterator[memoryview]:
    start, sizes = 0, case.sizes()
    while start < len(case.file):
        # The buffer is used again, as a reader's is: what the decoder wants to keep, it has to copy.
        buffer = bytearray(case.file[start : start + next(sizes)])
        yield memoryview(buffer)
        start += len(buffer)
        buffer[:] = bytes([OLD]) * len(buffer)


class _Driver:
    def __init__(self, decoder: Decoder, disk: Disk, later: bytes) -> None:
        self._decoder = decoder
        self._disk = disk
        self._later = later
        self._spilled: dict[int, bytes] = {}

    def carry_out(self, event: Event) -> None:
        match event:
            case Raw(guest_offset=at, data=data):
                self._disk.write(at, data)
            case Compressed(guest_offset=at, length=length):
                unpacked = inflate(event, image=NAME)
                assert len(unpacked) == length, f"a compressed cluster of {length} bytes has {len(unpacked)}"
                self._disk.write(at, unpacked)
            case ZeroRange(guest_offset=at, length=length):
                self._disk.zero(at, length)
            case WantMetadata(ranges=ranges):
                for offset, length in ranges:
                    self._decoder.give_metadata(offset, self._later[offset : offset + length])
            case Spill(place=at, data=data):
                if at < _TAIL:
                    self._disk.keep(at, data)
                    return
                assert at not in self._spilled, f"byte {at} was spilled twice"
                self._spilled[at] = bytes(data)
            case Recall(place=at, length=length):
                self._decoder.give_spilled(self._recalled(at, length))

    def _recalled(self, at: int, length: int) -> bytes:
        if at < _TAIL:
            return self._disk.kept(at, length)
        kept = bytearray()
        while len(kept) < length:
            kept += self._spilled[at + len(kept)]
        return bytes(kept[:length])
