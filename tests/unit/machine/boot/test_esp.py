"""On plain files: mtools needs no device. Each time fsck.vfat says what it thinks of the result."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from libironic_disk.errors import ProgramFailed
from libironic_disk.machine.boot import esp
from libironic_disk.pure.roles import Architecture


def fat(path: Path, sector_size: int, *, size: int = 64 << 20) -> str:
    with path.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.vfat", "-S", str(sector_size), path], check=True, stdout=subprocess.DEVNULL)
    return str(path)


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_files_are_written_replaced_and_read(tmp_path: Path, sector_size: int) -> None:
    node = fat(tmp_path / "esp", sector_size)
    loader = esp.REMOVABLE_LOADERS[Architecture.X86_64]
    esp.write_file(node, loader, b"first")
    esp.write_file(node, loader, bytes(range(256)) * 8000)
    esp.write_file(node, esp.REMOVABLE_LOADERS[Architecture.AARCH64], b"arm")
    esp.write_file(node, "top.txt", b"")
    assert esp.read_file(node, loader) == bytes(range(256)) * 8000
    assert esp.read_file(node, "EFI/BOOT/BOOTAA64.EFI") == b"arm"
    subprocess.run(["fsck.vfat", "-n", node], check=True, stdout=subprocess.DEVNULL)
    names = subprocess.run(["mdir", "-/", "-b", "-i", node, "::"], check=True, capture_output=True, text=True).stdout
    assert sorted(name for name in names.split() if not name.endswith("/")) == [
        "::/EFI/BOOT/BOOTAA64.EFI",
        "::/EFI/BOOT/BOOTX64.EFI",
        "::/top.txt",
    ]


def test_no_fat_and_no_room(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(bytes(1 << 20))
    with pytest.raises(ProgramFailed):
        esp.write_file(str(empty), "EFI/BOOT/BOOTX64.EFI", b"x")
    assert empty.read_bytes() == bytes(1 << 20)
    with pytest.raises(ProgramFailed, match="Disk full"):
        esp.write_file(fat(tmp_path / "small", 512, size=1 << 20), "EFI/BOOT/BOOTX64.EFI", bytes(2 << 20))
    with pytest.raises(ProgramFailed):
        esp.read_file(fat(tmp_path / "esp", 512), "EFI/none")
