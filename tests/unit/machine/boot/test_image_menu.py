"""An image's own boot configuration, in a plain directory: how much of it is read at most."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from libironic_disk.machine.boot import image_menu
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.units import MIB


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[RootDir]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield RootDir(descriptor, tree="/dev/test")
    finally:
        os.close(descriptor)


def test_a_file_with_ten_thousand_names_is_not_read_for_each(tmp_path: Path, tree: RootDir) -> None:
    entries = tmp_path / "boot/loader/entries"
    entries.mkdir(parents=True)
    first = entries / "0000.conf"
    first.write_text("linux /boot/vmlinuz-1\noptions own.word\n" + "#" * (MIB - 100))
    for number in range(1, 9_000):
        (entries / f"{number:04}.conf").hardlink_to(first)
    (tmp_path / "boot/grub").mkdir()
    began = time.process_time()
    assert image_menu.parameters(tree, None) == {"vmlinuz-1": ("own.word",)}
    assert time.process_time() - began < 5


@pytest.mark.parametrize("kind", ["file", "fifo", "loop"])
def test_a_directory_of_entries_that_is_none(tmp_path: Path, tree: RootDir, kind: str) -> None:
    (tmp_path / "boot/loader").mkdir(parents=True)
    (tmp_path / "etc/default").mkdir(parents=True)
    (tmp_path / "boot/vmlinuz-1").touch()
    (tmp_path / "etc/default/grub").write_text("GRUB_CMDLINE_LINUX=usual\n")
    entries = tmp_path / "boot/loader/entries"
    match kind:
        case "file":
            entries.touch()
        case "fifo":
            os.mkfifo(entries)
        case _:
            entries.symlink_to("entries")
    assert image_menu.parameters(tree, None)["vmlinuz-1"] == ("usual",)
