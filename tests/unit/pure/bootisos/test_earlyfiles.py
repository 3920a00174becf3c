"""Archives for an initial RAM disk, unpacked by cpio itself."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

from libironic_disk.pure.bootisos import earlyfiles


def unpacked(archive: bytes, folder: Path) -> None:
    done = subprocess.run(["cpio", "-idm", "--quiet"], input=archive, cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_cpio_unpacks_what_was_packed(tmp_path: Path) -> None:
    files = {"/etc/a": b"one", "/etc/b": b"", "/deep/er/c": bytes(range(256)) * 9, "/top": b"four"}
    unpacked(earlyfiles.archive(files), tmp_path)
    assert {
        f"/{path.relative_to(tmp_path)}": path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    } == files


def test_programs_can_be_executed_and_nothing_else(tmp_path: Path) -> None:
    unpacked(earlyfiles.archive({"/hook": b"#!/bin/sh\n", "/tool": b"\x7fELF...", "/note": b"text"}), tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"hook": 0o755, "tool": 0o755, "note": 0o644}


def test_directories_that_may_be_links_are_not_in_it() -> None:
    archive = earlyfiles.archive({"/lib/firmware/x": b"", "/usr/sbin/y": b"", "/tmp/z": b""})
    listed = subprocess.run(["cpio", "-it", "--quiet"], input=archive, capture_output=True, check=True).stdout.decode()
    assert set(listed.split()) == {"lib/firmware", "lib/firmware/x", "usr", "usr/sbin/y", "tmp", "tmp/z"}


def test_the_temporary_directory_stays_everybody_s(tmp_path: Path) -> None:
    unpacked(earlyfiles.archive({"/tmp/z": b""}), tmp_path)
    assert stat.S_IMODE((tmp_path / "tmp").stat().st_mode) == 0o1777


def test_it_begins_and_ends_at_multiples_of_four() -> None:
    for size in range(9):
        assert (size + len(earlyfiles.padding(size))) % 4 == 0
        assert len(earlyfiles.archive({"/a": bytes(size), "/bc": b""})) % 4 == 0
