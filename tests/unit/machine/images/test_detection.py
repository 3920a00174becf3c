"""Recognising formats: by the images that qemu-img and others really make, and by what only resembles one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from libironic_disk.errors import ImageRefused
from libironic_disk.machine.images.detection import HEAD, PIECE, signatures
from libironic_disk.units import KIB, MIB
from tests.support.oracles import output


def pieces(data: bytes) -> Iterator[bytes]:
    return (data[at : at + PIECE] for at in range(0, len(data), PIECE))


def found(data: bytes | bytearray) -> set[str]:
    return set(signatures(pieces(bytes(data)), image="test.img"))


@pytest.mark.parametrize("kind", ["qcow2", "vmdk", "vhdx", "vdi", "qed", "vpc"])
def test_images_by_qemu_img_are_recognised(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image"
    output("qemu-img", "create", "-q", "-f", kind, str(path), "8M")
    assert found(path.read_bytes()) == {"vhd" if kind == "vpc" else kind}


def test_old_qcow_is_recognised_by_its_magic(tmp_path: Path) -> None:
    path = tmp_path / "image"
    output("qemu-img", "create", "-q", "-f", "qcow", str(path), "8M")
    assert found(path.read_bytes()) == {"qcow2"}


@pytest.mark.parametrize("version", [1, 2])
def test_luks_is_recognised_by_its_magic(version: int) -> None:
    assert found((b"LUKS\xba\xbe" + version.to_bytes(2)).ljust(MIB, b"\0")) == {"luks"}


def test_an_iso_and_a_hybrid_iso_are_recognised() -> None:
    iso = bytearray(MIB)
    iso[32 * KIB : 32 * KIB + 6] = b"\x01CD001"
    assert found(iso) == {"iso"}
    iso[510:512] = b"\x55\xaa"
    assert found(iso) == {"iso", "gpt"}


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "vfat"])
def test_file_systems_are_raw(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(320 * MIB)
    output(f"mkfs.{kind}", str(path))
    assert found(path.read_bytes()[: 8 * MIB]) == {"raw"}


def test_a_boot_sector_of_an_unknown_file_system_is_taken_for_a_partition_table() -> None:
    ntfs = bytearray(MIB)
    ntfs[:11] = b"\xebR\x90NTFS    "
    ntfs[510:512] = b"\x55\xaa"
    assert found(ntfs) == {"gpt"}


@pytest.mark.parametrize("data", [b"x", b"x" * 70, b"\0" * 600, b"plain text\n" * 100])
def test_short_images_are_raw(data: bytes) -> None:
    assert found(data) == {"raw"}


def test_no_more_is_read_than_needed() -> None:
    taken = 0

    def endless(first: bytes) -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += PIECE
            yield first.ljust(PIECE, b"\0") if taken == PIECE else bytes(PIECE)

    assert signatures(endless(b""), image="test.img") == {"raw"}
    assert taken == 256 * KIB
    taken = 0
    # A region table that leads behind the end of the world keeps the inspector waiting.
    assert signatures(endless(b"KDMV\x01\0\0\0".ljust(28, b"\0") + b"\x01"), image="test.img") == {"vmdk"}
    assert taken <= HEAD


def test_bytes_that_puzzle_an_inspector_are_refused() -> None:
    # Text long enough for a VMDK descriptor, then bytes that can't be in one: the inspector is left without a type.
    with pytest.raises(ImageRefused, match="can't be told whether its bytes are vmdk"):
        found(b"text " * 200 + b"\xff" * 1000)
