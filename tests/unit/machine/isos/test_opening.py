"""Files that any thread reads at any place."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import pytest

from libironic_disk.errors import SourceChanged, SourceFailed
from libironic_disk.machine.isos.opening import JoinedFiles, OpenFile

DATA = bytes(range(256)) * 512


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some.iso"
    path.write_bytes(DATA)
    return path


def test_reads_are_short_only_at_the_end(file: Path) -> None:
    with OpenFile(file) as opened:
        assert opened.read_at(0, 10) == DATA[:10]
        assert opened.read_at(len(DATA) - 3, 10) == DATA[-3:]
        assert opened.read_at(len(DATA), 10) == b""
        assert opened.read_at(len(DATA) + 9, 10) == b""


def test_threads_do_not_disturb_each_other(file: Path) -> None:
    wrong: list[int] = []

    def read(first: int) -> None:
        for offset in range(first, len(DATA) - 700, 977):
            if opened.read_at(offset, 700) != DATA[offset : offset + 700]:
                wrong.append(offset)

    with OpenFile(file) as opened:
        threads = [threading.Thread(target=read, args=(first,)) for first in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_file_that_is_written_to_meanwhile_is_an_error(file: Path) -> None:
    with OpenFile(file) as opened:
        os.utime(file, ns=(0, 0))
        with pytest.raises(SourceChanged, match=r"some\.iso"):
            opened.read_at(0, 1)


def test_a_file_that_becomes_shorter_is_an_error(file: Path) -> None:
    with OpenFile(file) as opened:
        os.truncate(file, 100)
        with pytest.raises(SourceChanged):
            opened.read_at(200, 1)


def test_a_closed_file_is_an_error(file: Path) -> None:
    with OpenFile(file) as opened:
        pass
    with pytest.raises(SourceFailed):
        opened.read_at(0, 1)
    opened.close()


@pytest.mark.parametrize("name", ["", "nothing", "\0", "/dev/null", "pipe"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceFailed):
        OpenFile(tmp_path / name if name != "\0" else "\0")


def test_a_forgotten_file_is_closed(file: Path) -> None:
    opened = OpenFile(file)
    descriptor = opened.fileno()
    del opened
    gc.collect()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)


def test_joined_files_read_as_one(tmp_path: Path) -> None:
    sizes = (700, 0, 1, 5000)
    starts = (0, 700, 700, 701)
    paths = [tmp_path / str(number) for number in range(4)]
    for path, start, size in zip(paths, starts, sizes, strict=True):
        path.write_bytes(DATA[start : start + size])
    joined = JoinedFiles([OpenFile(path) for path in paths])
    assert joined.size == sum(sizes)
    assert [joined.start_of(index) for index in range(4)] == list(starts)
    for offset in (0, 1, 698, 699, 700, 701, 5700, 5701, 9000):
        for size in (0, 1, 2, 3, 600, 9000):
            assert joined.read_at(offset, size) == DATA[: sum(sizes)][offset : offset + size]
