"""Reading a local file: every byte once, holes without reading them, and never another file or other bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import ImageRefused, SourceFailed
from libironic_disk.machine.images.sources import Data, Piece, Zeros
from libironic_disk.machine.images.sources.file import OpenFile, local_file
from libironic_disk.units import GIB, KIB, MIB


def read(file: OpenFile, buffer_size: int = 100 * KIB) -> list[Piece]:
    """Read to the end; every piece's bytes are copied, because the buffer is used again."""
    buffer = memoryview(bytearray(buffer_size))
    pieces: list[Piece] = []
    while (piece := file.fill(buffer)) is not None:
        pieces.append(
            Data(offset=piece.offset, data=memoryview(bytes(piece.data))) if isinstance(piece, Data) else piece
        )
    return pieces


def assembled(pieces: list[Piece]) -> bytes:
    whole = bytearray()
    for piece in pieces:
        assert piece.offset == len(whole)
        whole += piece.data if isinstance(piece, Data) else bytes(piece.length)
    return bytes(whole)


@given(
    runs=st.lists(st.tuples(st.booleans(), st.integers(1, 3 * MIB)), min_size=1, max_size=8),
    buffer_size=st.sampled_from([4096, 65537, 4 * MIB]),
)
def test_every_byte_comes_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[bool, int]], buffer_size: int
) -> None:
    path = tmp_path_factory.mktemp("file") / "image"
    with path.open("wb") as file:
        for is_data, length in runs:
            if is_data:
                file.write(os.urandom(length))
            else:
                file.seek(length, os.SEEK_CUR)
        file.truncate(max(sum(length for _, length in runs), file.tell()))
    with local_file(path).opened() as opened:
        pieces = read(opened, buffer_size)
    assert assembled(pieces) == path.read_bytes()
    assert all(piece.end > piece.offset for piece in pieces)
    path.unlink()


def test_large_holes_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(2 << 40)
        file.seek(1 << 40)
        file.write(b"x" * MIB)
    with local_file(path).opened() as opened:
        pieces = read(opened, MIB)
    assert [piece.offset for piece in pieces if isinstance(piece, Data)] == [1 << 40]
    assert sum(piece.length for piece in pieces if isinstance(piece, Zeros)) == (2 << 40) - MIB
    # Each is a job of its own: several threads share them.
    assert max(piece.length for piece in pieces if isinstance(piece, Zeros)) <= 16 * GIB


def test_many_short_holes_do_not_make_many_pieces(tmp_path: Path) -> None:
    path = tmp_path / "image"
    with path.open("wb") as file:
        for number in range(1000):
            file.seek(number * 64 * KIB)
            file.write(b"x" * 16 * KIB)
    with local_file(path).opened() as opened:
        pieces = read(opened, 4 * MIB)
    assert len(pieces) <= 17
    assert assembled(pieces) == path.read_bytes()


def test_what_is_no_regular_file_is_refused_and_not_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "link"
    link.symlink_to("/dev/zero")
    for path in (pipe, link, Path("/dev/zero"), tmp_path):
        with pytest.raises(ImageRefused, match="not a regular file"):
            local_file(path)


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"image")
    (tmp_path / "link").symlink_to("image")
    with local_file(tmp_path / "link").opened() as opened:
        assert opened.pread(0, 10) == b"image"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match=r"absent\.img.*No such file"):
        local_file(tmp_path / "absent.img")


def test_another_file_at_the_same_path_is_noticed(tmp_path: Path) -> None:
    path, other = tmp_path / "image", tmp_path / "other"
    path.write_bytes(b"first")
    file = local_file(path)
    other.write_bytes(b"other")
    other.rename(path)
    with pytest.raises(SourceFailed, match="changed or replaced"), file.opened():
        pass


def test_a_change_while_it_is_read_is_noticed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"first")
    with local_file(path).opened() as opened:
        os.utime(path, ns=(0, 0))
        with pytest.raises(SourceFailed, match="changed or replaced"):
            read(opened)


def test_a_new_hard_link_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"first")
    with local_file(path).opened() as opened:
        (tmp_path / "second").hardlink_to(path)
        assert assembled(read(opened)) == b"first"


def test_a_file_that_shrinks_while_it_is_read_fails_where_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"x" * 300 * KIB)
    with local_file(path).opened() as opened:
        buffer = memoryview(bytearray(100 * KIB))
        opened.fill(buffer)
        os.truncate(path, 150 * KIB)
        with pytest.raises(SourceFailed, match="cut off") as failed:
            opened.fill(buffer)
    assert failed.value.offset == 150 * KIB
