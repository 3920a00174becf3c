"""What file systems say of their size, made by their own programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from libironic_disk.pure.images.superblocks import NEEDED, beyond_itself, file_system_size
from libironic_disk.units import KIB, MIB
from tests.support.oracles import output

SIZE = 320 * MIB


@pytest.mark.parametrize(
    ("program", "options"),
    [
        ("mke2fs", ["-q", "-t", "ext2"]),
        ("mke2fs", ["-q", "-t", "ext4", "-b", "1024", "-O", "^64bit"]),
        ("mke2fs", ["-q", "-t", "ext4", "-b", "4096", "-O", "64bit"]),
        ("mkfs.xfs", ["-q"]),
        ("mkfs.btrfs", ["-q"]),
    ],
)
def test_a_file_system_says_how_large_it_is(tmp_path: Path, program: str, options: list[str]) -> None:
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(SIZE)
    output(program, *options, str(path))
    assert file_system_size(path.read_bytes()[:NEEDED]) == SIZE


def test_an_ext4_of_more_than_four_billion_blocks_counts_them_all(tmp_path: Path) -> None:
    head = bytearray(NEEDED)
    head[0x438:0x43A] = b"\x53\xef"
    head[0x404:0x408] = (5).to_bytes(4, "little")
    head[0x418] = 2
    head[0x460] = 0x80
    head[0x550] = 1
    assert file_system_size(bytes(head)) == ((1 << 32) + 5) * 4 * KIB
    head[0x460] = 0
    assert file_system_size(bytes(head)) == 5 * 4 * KIB


@pytest.mark.parametrize("head", [b"", bytes(NEEDED), b"\xff" * NEEDED, b"XFS", b"some text " * 10_000])
def test_anything_else_says_nothing(head: bytes) -> None:
    assert file_system_size(head) is None


@pytest.mark.parametrize("options", ["-Onone", "-text2", "-text4"])
def test_a_file_system_that_is_all_in_one_wants_no_other_device(tmp_path: Path, options: str) -> None:
    image = tmp_path / "image"
    output("mke2fs", "-q", options, str(image), "8M")
    assert beyond_itself(image.read_bytes()[:NEEDED]) == ""
