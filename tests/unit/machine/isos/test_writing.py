"""Ropes that are written into files: whole, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from libironic_disk.errors import Cancelled, NotEnoughRoom, PathFailed, SourceChanged, SourceFailed
from libironic_disk.events import BytesMoved, Cancellation, Event
from libironic_disk.machine.isos import writing
from libironic_disk.machine.isos.opening import JoinedFiles, OpenFile
from libironic_disk.machine.replacing import replacing
from libironic_disk.pure.ropes import Range, Rope, Zeros
from libironic_disk.units import MIB

DATA = os.urandom(3 * MIB)


@pytest.fixture
def base(tmp_path: Path) -> Iterator[JoinedFiles]:
    """Two files, the first with a hole of 64 MiB behind its data."""
    first, second = tmp_path / "first", tmp_path / "second"
    with first.open("wb") as file:
        file.write(DATA)
        file.truncate(64 * MIB)
    second.write_bytes(DATA[:5000])
    with OpenFile(first) as one, OpenFile(second) as other:
        yield JoinedFiles((one, other))


@pytest.fixture
def rope(base: JoinedFiles) -> Rope:
    """All of both, with new bytes between and in an odd order."""
    return Rope.of(b"new", Range(64 * MIB + 1, 4000), Zeros(2 * MIB), Range(5, 64 * MIB), b"end", Zeros(77))


def contents(rope: Rope, base: JoinedFiles) -> bytes:
    return b"".join(rope.chunks(base))


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_file_is_the_rope(tmp_path: Path, base: JoinedFiles, rope: Rope) -> None:
    target = tmp_path / "target"
    events: list[Event] = []
    writing.write(rope, base, target, sink=events.append)
    assert target.read_bytes() == contents(rope, base)
    assert left(tmp_path) == {"first", "second", "target"}
    last = events[-1]
    assert isinstance(last, BytesMoved)
    assert (last.done, last.total) == (rope.size, rope.size)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~mask


def test_holes_stay_holes(tmp_path: Path, base: JoinedFiles, rope: Rope) -> None:
    writing.write(rope, base, tmp_path / "target")
    assert (tmp_path / "target").stat().st_blocks * 512 < 8 * MIB


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS])
def test_what_the_kernel_can_not_copy_passes_through_us(
    tmp_path: Path, base: JoinedFiles, rope: Rope, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*arguments: object, **more: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    writing.write(rope, base, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == contents(rope, base)


def test_what_is_there_is_replaced_at_once(tmp_path: Path, base: JoinedFiles, rope: Rope) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")
    with target.open("rb") as old:
        writing.write(rope, base, target)
        assert old.read() == b"old"
    assert target.stat().st_size == rope.size


def test_the_base_itself_can_be_replaced(tmp_path: Path, base: JoinedFiles, rope: Rope) -> None:
    wanted = contents(rope, base)
    writing.write(rope, base, tmp_path / "first")
    assert (tmp_path / "first").read_bytes() == wanted


def test_nothing_is_left_after_a_failure(
    tmp_path: Path, base: JoinedFiles, rope: Rope, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **more: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "target").write_bytes(b"old")
    monkeypatch.setattr(os, "copy_file_range", fail)
    with pytest.raises(PathFailed, match="No space left"):
        writing.write(rope, base, tmp_path / "target")
    assert left(tmp_path) == {"first", "second", "target"}
    assert (tmp_path / "target").read_bytes() == b"old"


def test_nothing_is_left_after_a_cancellation(tmp_path: Path, base: JoinedFiles, rope: Rope) -> None:
    cancel = Cancellation()
    with pytest.raises(Cancelled):
        writing.write(rope, base, tmp_path / "target", sink=lambda event: cancel.cancel(), cancel=cancel)
    assert left(tmp_path) == {"first", "second"}


def test_a_base_that_is_written_to_meanwhile_is_an_error(tmp_path: Path, base: JoinedFiles, rope: Rope) -> None:
    def touch(event: Event) -> None:
        os.utime(tmp_path / "second", ns=(0, 0))

    with pytest.raises(SourceChanged, match="second"):
        writing.write(rope, base, tmp_path / "target", sink=touch)
    assert left(tmp_path) == {"first", "second"}


def test_too_little_room_is_found_before_anything_is_written(
    tmp_path: Path, base: JoinedFiles, rope: Rope, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(tmp_path)
    free = os.statvfs_result((*real[:4], 1 * MIB // real.f_frsize, *real[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: free)
    with pytest.raises(NotEnoughRoom) as caught:
        writing.write(rope, base, tmp_path / "target")
    # The hole needs none.
    assert 3 * MIB < caught.value.wanted < 4 * MIB
    assert caught.value.available <= MIB
    assert left(tmp_path) == {"first", "second"}


@pytest.mark.parametrize("where", ["missing/target", "a\0b", "folder", "", "/", "first/target"])
def test_places_where_no_file_can_be_are_refused(tmp_path: Path, base: JoinedFiles, rope: Rope, where: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(PathFailed):
        writing.write(rope, base, tmp_path / where)
    assert left(tmp_path) == {"first", "second", "folder"}


def test_what_is_no_plain_file_is_never_replaced(tmp_path: Path, base: JoinedFiles, rope: Rope) -> None:
    # As a disk: who writes an ISO "to" /dev/sdb as root mustn't get a plain file of that name.
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(PathFailed, match="no plain file"):
            writing.write(rope, base, tmp_path / name)
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "link").is_symlink()
    assert left(tmp_path) == {"first", "second", "pipe", "link"}


def test_a_base_that_cannot_be_read_is_named_and_not_the_target(
    tmp_path: Path, base: JoinedFiles, rope: Rope, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: object, **more: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "copy_file_range", failing)
    monkeypatch.setattr(os, "pread", failing)
    with pytest.raises(SourceFailed, match="second failed at byte 1: Input/output error"):
        writing.write(rope, base, tmp_path / "target")
    assert left(tmp_path) == {"first", "second"}


def test_what_cannot_be_removed_is_told_beside_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: object, **more: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def broken() -> None:
        with replacing(tmp_path / "target"):
            monkeypatch.setattr(os, "unlink", failing)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(PathFailed, match=r"No space left on device; .*\.target-.* is left: Input/output error"):
        broken()
