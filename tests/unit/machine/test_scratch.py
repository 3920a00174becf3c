"""Temporary files that can't be had: one typed error, and nothing left of them."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import pytest

from libironic_disk.errors import ImageRefused, TemporaryFilesFailed
from libironic_disk.machine import scratch
from libironic_disk.machine.boot import esp, grub_image
from libironic_disk.machine.boot.grub_image import Platform
from libironic_disk.machine.drives import fat_image

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_is_held_is_private_and_gone_afterwards(folder: Path) -> None:
    with scratch.holding(b"secret") as file:
        assert file.read_bytes() == b"secret"
        assert file.parent.stat().st_mode & 0o777 == 0o700
    assert list(folder.iterdir()) == []


def test_a_full_folder_is_a_typed_error_with_its_name(folder: Path) -> None:
    with (
        mock.patch.object(Path, "write_bytes", side_effect=FULL),
        pytest.raises(TemporaryFilesFailed, match="make room") as caught,
        scratch.holding(b"x"),
    ):
        pytest.fail("there was no room")
    assert (caught.value.directory, caught.value.reason) == (str(folder), "No space left on device")
    assert list(folder.iterdir()) == []


def test_a_machine_without_any_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    with (
        mock.patch.object(tempfile, "_get_default_tempdir", side_effect=FileNotFoundError(2, "No usable directory")),
        pytest.raises(TemporaryFilesFailed, match="No usable directory"),
        scratch.directory(),
    ):
        pytest.fail("there is none")


def test_what_was_not_removed_is_the_aftermath_of_the_first_error(folder: Path) -> None:
    first = ImageRefused(image="x", reason="the first")
    with (
        mock.patch.object(shutil, "rmtree", side_effect=FULL),
        pytest.raises(ImageRefused) as caught,
        scratch.directory() as made,
    ):
        raise first
    assert caught.value is first
    assert caught.value.aftermath == [f"{made} is left: No space left on device"]


def test_a_second_try_removes_what_a_first_could_not(folder: Path) -> None:
    really, calls = shutil.rmtree, []

    def rmtree(made: Path) -> None:
        calls.append(made)
        if len(calls) == 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        really(made)

    with mock.patch.object(shutil, "rmtree", rmtree), scratch.directory() as made:
        (made / "a").write_bytes(b"x")
    assert calls == [made, made]
    assert list(folder.iterdir()) == []


def test_what_was_not_removed_is_an_error_where_there_is_no_other() -> None:
    with (
        mock.patch.object(shutil, "rmtree", side_effect=FULL),
        pytest.raises(TemporaryFilesFailed),
        scratch.directory(),
    ):
        pass


@pytest.mark.parametrize(
    "work",
    [
        lambda: esp.write_file("/dev/null", "LOADER.EFI", b"x"),
        lambda: grub_image.network_image(Platform.I386_PC, ""),
        lambda: fat_image.make({"a": b""}, sector_size=512, label="X"),
    ],
    ids=["a file for the ESP", "GRUB's image", "a FAT image"],
)
def test_each_of_those_that_need_room_says_so(work: object) -> None:
    assert callable(work)
    with mock.patch.object(tempfile, "mkdtemp", side_effect=FULL), pytest.raises(TemporaryFilesFailed):
        work()
