"""Locks: whatever has the name of one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from libironic_disk.machine import lockfile


@pytest.mark.parametrize("kind", ["pipe", "link", "directory"])
def test_what_has_the_name_of_a_lock_and_is_none_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "lock"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "link":
            path.symlink_to(tmp_path / "elsewhere")
        case _:
            path.mkdir()
    with pytest.raises(OSError, match="no plain file"):
        lockfile.attempted(path)
    assert not (tmp_path / "elsewhere").exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_lock_is_held_through_no_link(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"), lockfile.held(path):
        pass
    assert not (tmp_path / "elsewhere").exists()
