"""The writer's own guards, on plain files; on real disks it is tested in tests/loopdevices."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from libironic_disk.errors import DeviceFailed, NotABlockDevice
from libironic_disk.machine.images.sources import Data, Zeros
from libironic_disk.machine.images.writer import open_target
from libironic_disk.units import KIB, MIB


def target(tmp_path: Path, size: int = MIB) -> Path:
    path = tmp_path / "target"
    path.write_bytes(b"\xaa" * size)
    return path


def test_pieces_in_any_order_over_several_windows_arrive(tmp_path: Path) -> None:
    path = target(tmp_path, 100 * MIB)
    expected = bytearray(path.read_bytes())
    chance = random.Random(3)
    offsets = [*range(0, 100 * MIB, MIB)]
    chance.shuffle(offsets)
    with open_target(str(path), capacity=100 * MIB, regular_file=True) as writer:
        for offset in offsets[:90]:
            data = chance.randbytes(700 * KIB)
            writer.put(Data(offset=offset, data=memoryview(data)))
            writer.put(Zeros(offset=offset + 700 * KIB, length=13))
            expected[offset : offset + 700 * KIB + 13] = data + bytes(13)
        writer.flush()
    assert path.read_bytes() == expected


@pytest.mark.parametrize(
    "piece",
    [
        Zeros(offset=600 * KIB, length=1),
        Zeros(offset=0, length=600 * KIB + 1),
        Data(offset=600 * KIB - 1, data=memoryview(b"xx")),
        Data(offset=-1, data=memoryview(b"xx")),
    ],
)
def test_nothing_outside_the_capacity_is_touched(tmp_path: Path, piece: Data | Zeros) -> None:
    path = target(tmp_path)
    with (
        open_target(str(path), capacity=600 * KIB, regular_file=True) as writer,
        pytest.raises(DeviceFailed, match="only 614400 bytes may be written"),
    ):
        writer.put(piece)
    assert path.read_bytes() == b"\xaa" * MIB


def test_a_target_smaller_than_planned_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(DeviceFailed, match="it has 1048576 bytes, 1048577 were planned"),
        open_target(str(target(tmp_path)), capacity=MIB + 1, regular_file=True),
    ):
        pass


def test_a_plain_file_must_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(NotABlockDevice, match="a plain file"), open_target(str(target(tmp_path)), capacity=MIB):
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


def test_the_descriptor_is_closed(tmp_path: Path) -> None:
    with open_target(str(target(tmp_path)), capacity=MIB, regular_file=True) as writer:
        descriptor = writer.descriptor
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
