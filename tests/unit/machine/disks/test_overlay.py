"""A disk with parts withheld is, to who reads and writes it through the overlay, the disk that it will be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import DeviceFailed
from libironic_disk.machine.disks import disk_io
from libironic_disk.machine.disks.overlay import Overlay
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.tables.model import Extent

SIZE = 96
HEAD, TAIL = ByteRange(0, 16), ByteRange(64, 96)

SPANS = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(lambda ends: ByteRange(min(ends), max(ends)))
STEPS = st.lists(st.tuples(st.sampled_from(["write", "release"]), SPANS, st.integers(1, 255)), max_size=8)


class Scene:
    """A file as the disk, its two ends withheld, and what it all should be."""

    def __init__(self, path: Path) -> None:
        self.model = bytearray(range(100, 100 + SIZE))
        self.on_disk = bytearray(self.model)
        for span in (HEAD, TAIL):
            self.on_disk[span.start : span.end] = bytes(span.size)
        path.write_bytes(self.on_disk)
        self.fd = os.open(path, os.O_RDWR)
        withheld = [Extent(span.start, bytes(self.model[span.start : span.end])) for span in (HEAD, TAIL)]
        self.overlay = Overlay(self.fd, "disk", withheld)

    def finished(self) -> bytes:
        """Return the disk once what is withheld has been written."""
        disk_io.write(self.fd, "disk", self.overlay.withheld())
        return os.pread(self.fd, SIZE, 0)


@given(steps=STEPS, looked_at=SPANS)
def test_it_reads_as_it_will_be_and_nothing_shows_before(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, ByteRange, int]], looked_at: ByteRange
) -> None:
    scene = Scene(tmp_path_factory.mktemp("overlay") / "disk")
    try:
        hidden = {*range(*HEAD), *range(*TAIL)}
        for step, span, value in steps:
            if step == "write":
                data = bytes([value]) * span.size
                scene.overlay.put([Extent(span.start, data)])
                scene.model[span.start : span.end] = data
            elif span.start:
                scene.overlay.release(span)
                hidden -= {*range(*span)}
        disk = os.pread(scene.fd, SIZE, 0)
        assert [disk[at] for at in sorted(hidden)] == [0] * len(hidden)
        assert all(disk[at] == scene.model[at] for at in range(SIZE) if at not in hidden)
        wanted = bytes(scene.model[looked_at.start : looked_at.end])
        assert scene.overlay.read(looked_at.start, looked_at.size) == wanted
        with scene.overlay.opened(looked_at) as (fd, where):
            assert os.pread(fd, where.size, where.start) == wanted
        assert scene.finished() == scene.model
    finally:
        os.close(scene.fd)


def test_the_first_sector_is_never_released(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "disk")
    scene.overlay.release(ByteRange(0, SIZE))
    assert os.pread(scene.fd, HEAD.size, 0) == bytes(HEAD.size)
    assert scene.finished() == scene.model
    os.close(scene.fd)


def test_a_disk_that_gives_other_bytes_back_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(tmp_path / "disk")
    monkeypatch.setattr(disk_io, "write", lambda *_: None)
    with pytest.raises(DeviceFailed, match="reading back from disk at byte 20 failed"):
        scene.overlay.put([Extent(20, b"y")])
    os.close(scene.fd)
