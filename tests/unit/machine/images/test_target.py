"""The target's own guards, on plain files; on real disks it is tested in tests/loopdevices."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from libironic_disk.errors import DeviceFailed, NotABlockDevice
from libironic_disk.machine.images import direct
from libironic_disk.machine.images.target import Target, open_target
from libironic_disk.units import KIB, MIB


def file_of(tmp_path: Path, size: int = MIB) -> Path:
    path = tmp_path / "target"
    path.write_bytes(b"\xaa" * size)
    return path


def descriptors() -> set[str]:
    """Return the numbers of this process's open files."""
    return {link.name for link in Path("/proc/self/fd").iterdir() if link.exists()}


@pytest.mark.parametrize("uncached", [True, False], ids=["direct", "cached"])
def test_writes_in_any_order_over_several_windows_arrive(
    tmp_path: Path, uncached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not uncached:
        monkeypatch.setattr(direct, "reopened", lambda descriptor: None)
    path = file_of(tmp_path, 100 * MIB)
    expected = bytearray(path.read_bytes())
    chance = random.Random(3)
    offsets = [*range(0, 100 * MIB, MIB)]
    chance.shuffle(offsets)
    with open_target(str(path), capacity=100 * MIB, regular_file=True) as target:
        for offset in offsets[:90]:
            data = chance.randbytes(700 * KIB)
            target.write(offset, memoryview(data))
            target.zero(offset + 700 * KIB, 13)
            expected[offset : offset + 700 * KIB + 13] = data + bytes(13)
        target.flush()
    assert path.read_bytes() == expected


@pytest.mark.parametrize(
    "act",
    [
        lambda target: target.zero(600 * KIB, 1),
        lambda target: target.zero(0, 600 * KIB + 1),
        lambda target: target.write(600 * KIB - 1, memoryview(b"xx")),
        lambda target: target.write(-1, memoryview(b"xx")),
        lambda target: target.scratch(600 * KIB - 1, memoryview(b"xx")),
        lambda target: target.recall(600 * KIB - 1, 2),
    ],
    ids=["zero behind", "zero across", "write across", "write before", "scratch across", "recall across"],
)
def test_nothing_outside_the_capacity_is_touched(tmp_path: Path, act: Callable[[Target], None]) -> None:
    path = file_of(tmp_path)
    with (
        open_target(str(path), capacity=600 * KIB, regular_file=True) as target,
        pytest.raises(DeviceFailed, match="only 614400 bytes may be written"),
    ):
        act(target)
    assert path.read_bytes() == b"\xaa" * MIB


def test_a_target_smaller_than_planned_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(DeviceFailed, match="it has 1048576 bytes, 1048577 were planned"),
        open_target(str(file_of(tmp_path)), capacity=MIB + 1, regular_file=True),
    ):
        pass


def test_a_plain_file_must_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(NotABlockDevice, match="a plain file"), open_target(str(file_of(tmp_path)), capacity=MIB):
        pass


def test_nothing_is_created(tmp_path: Path) -> None:
    for regular_file, error in ((False, NotABlockDevice), (True, DeviceFailed)):
        with (
            pytest.raises(error, match="No such file"),
            open_target(str(tmp_path / "sdx"), capacity=MIB, regular_file=regular_file),
        ):
            pass
    assert not (tmp_path / "sdx").exists()


def test_a_pipe_or_a_character_device_is_no_target(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/null"):
        with pytest.raises(NotABlockDevice), open_target(path, capacity=0):
            pass
    with pytest.raises(NotABlockDevice), open_target("/dev/null", capacity=0, regular_file=True):
        pass


def test_every_descriptor_is_closed(tmp_path: Path) -> None:
    before = descriptors()
    with open_target(str(file_of(tmp_path)), capacity=MIB, regular_file=True) as target:
        descriptor = target.descriptor
        assert len(descriptors()) > len(before)
    assert descriptors() == before
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
