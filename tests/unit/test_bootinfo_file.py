"""boot-info.json as a file: whole, or as it was before."""

from __future__ import annotations

import os
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from libironic_disk import bootinfo
from libironic_disk.bootinfo import BootElement, BootInfo
from libironic_disk.errors import DocumentInvalid, EntryUnknown, PathFailed

UBUNTU = BootElement(
    grub_id=2,
    image_name="ubuntu",
    os_id="u",
    image_uuid="157636d8-62ad-499d-aecc-2ea4917ee396",
    boot_name="Ubuntu é 日本 🙂 \ud800",
    root_uuid="688c5f1e-dc46-4aca-a90e-be21ba8aa3e2",
    entry_id="u-1a2b",
)
INFO = BootInfo(elements=(UBUNTU,), current_element=2, multiboot_partition="3b360901-7896-48d4-a14d-fc35e1582c74")


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Have the kernel refuse longer files, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("kind", [Path, str])
def test_what_was_written_is_read_back_equal(kind: type[Path] | type[str], tmp_path: Path) -> None:
    path = kind(tmp_path / "boot-info.json")
    bootinfo.write(INFO, path)
    assert bootinfo.read(path) == INFO
    assert names_in(tmp_path) == ["boot-info.json"]


def test_its_mode_is_0644_whatever_the_mask(tmp_path: Path) -> None:
    with umask(0o077):
        bootinfo.write(INFO, tmp_path / "a")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """Bareon wrote into the file itself (bareon.md, defect 26)."""
    path = tmp_path / "boot-info.json"
    bootinfo.write(INFO, path)
    before = path.read_bytes()
    with file_size_limit(100), pytest.raises(PathFailed, match=f"{path} .*File too large"):
        bootinfo.write(INFO, path)
    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["boot-info.json"]


def test_the_file_is_on_the_disk_before_it_has_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "boot-info.json"
    steps: list[tuple[str, bool]] = []

    def fsync(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        steps.append((kind, path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    bootinfo.write(INFO, path)
    assert steps == [("file", False), ("directory", True)]


def test_a_value_with_defects_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    wrong = BootInfo(elements=(UBUNTU, UBUNTU), current_element=7, multiboot_partition="", version=9)
    with pytest.raises(DocumentInvalid) as caught:
        bootinfo.write(wrong, tmp_path / "a")
    assert len(caught.value.problems) == 2
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("name", ["missing/a", "a\0b", "file/a", "x" * 300, "."])
def test_a_path_that_can_not_be_written_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PathFailed, match="in the file system on this machine"):
        bootinfo.write(INFO, tmp_path / name)
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["missing", "a\0b", "."])
def test_a_path_that_can_not_be_read_is_told(name: str, tmp_path: Path) -> None:
    with pytest.raises(PathFailed, match="in the file system on this machine"):
        bootinfo.read(tmp_path / name)


def test_what_may_have_no_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", str(tmp_path / "pipe"), str(tmp_path)):
        with pytest.raises(PathFailed, match=rf"{path} .* it is not a regular file"):
            bootinfo.read(path)


def test_a_large_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(PathFailed, match=r"more than 16777216 bytes"):
        bootinfo.read(tmp_path / "hole")


def test_what_is_no_utf8_is_no_document(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b'{"elements": "\xff"}')
    with pytest.raises(DocumentInvalid, match="byte 14 is no UTF-8"):
        bootinfo.read(tmp_path / "a")


def test_a_system_is_found_by_any_of_its_names() -> None:
    for key in ("u-1a2b", UBUNTU.image_uuid, "ubuntu", "u", 2):
        assert INFO.element(key) is UBUNTU
    with pytest.raises(EntryUnknown, match=r"'centos' is unknown; there are u-1a2b \(u\)"):
        INFO.element("centos")
