"""What is left beside a file by who was killed while making it, and what is not touched."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from libironic_disk.errors import PathFailed
from libironic_disk.machine.replacing import replacing, require_plain

_DIES = """
import os, signal, sys
from pathlib import Path
from libironic_disk.machine import scratch
from libironic_disk.machine.replacing import parts_of, replacing
with replacing(Path(sys.argv[1])) as made, scratch.directory_at(parts_of(made)) as parts:
    made.write_bytes(b"half")
    (parts / "tree").mkdir()
    (parts / "tree" / "part").write_bytes(b"a part")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def write(place: Path, content: bytes) -> None:
    with replacing(place) as made:
        made.write_bytes(content)


def hidden(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.startswith(".")}


def killed_while_making(place: Path) -> str:
    """Return the name of the file that is left, which has a directory with its parts beside it."""
    ended = subprocess.run([sys.executable, "-c", _DIES, str(place)], check=False)
    assert ended.returncode == -9
    file, parts = sorted(hidden(place.parent))
    assert parts == f"{file}.parts"
    return file


def test_what_the_dead_left_goes_with_the_next_file(tmp_path: Path) -> None:
    place = tmp_path / "target"
    write(place, b"old")
    assert killed_while_making(place).startswith(".target-")
    assert place.read_bytes() == b"old"
    write(place, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert place.read_bytes() == b"new"


def test_what_the_dead_left_for_another_place_stays(tmp_path: Path) -> None:
    left = killed_while_making(tmp_path / "target")
    write(tmp_path / "target-1", b"")
    write(tmp_path / "arget", b"")
    assert hidden(tmp_path) == {left, f"{left}.parts"}


def test_of_two_that_make_the_same_file_neither_removes_the_others(tmp_path: Path) -> None:
    place = tmp_path / "target"
    with replacing(place) as first:
        first.write_bytes(b"first")
        with replacing(place) as second:
            second.write_bytes(b"second")
        assert place.read_bytes() == b"second"
    assert place.read_bytes() == b"first"
    assert not hidden(tmp_path)


def test_who_is_found_before_the_lock_makes_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "target"
    real = fcntl.flock
    gone: list[Path] = []

    def late(descriptor: int, operation: int) -> None:
        if not gone:
            gone.append(Path(f"/proc/self/fd/{descriptor}").readlink())
            write(place, b"other")
            assert not gone[0].exists()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    write(place, b"own")
    assert place.read_bytes() == b"own"
    assert gone
    assert not hidden(tmp_path)


def test_who_is_found_and_about_to_be_removed_makes_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "target"
    real = fcntl.flock
    others: list[int] = []

    def late(descriptor: int, operation: int) -> None:
        if not others:
            others.append(os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY))
            real(others[0], fcntl.LOCK_EX)
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with replacing(place) as made:
        assert made.samefile(f"/proc/self/fd/{others[0]}") is False
        made.write_bytes(b"own")
    os.close(others[0])
    assert place.read_bytes() == b"own"


def test_a_file_system_without_locks_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "target"
    left = killed_while_making(place)

    def refused(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    write(place, b"new")
    assert place.read_bytes() == b"new"
    assert hidden(tmp_path) == {left, f"{left}.parts"}


def test_what_only_has_such_a_name_stays(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"kept")
    (tmp_path / ".target-00000001").symlink_to(outside)
    (tmp_path / ".target-00000002").mkdir()
    os.mkfifo(tmp_path / ".target-00000003")
    (tmp_path / ".target-0000000g").touch()
    (tmp_path / ".target-000000001").touch()
    before = hidden(tmp_path)
    write(tmp_path / "target", b"new")
    assert hidden(tmp_path) == before
    assert outside.read_bytes() == b"kept"


@pytest.mark.parametrize("kind", ["directory", "pipe", "link to a pipe"])
def test_what_is_no_plain_file_is_told_from_one(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "target"
    if kind == "directory":
        place.mkdir()
    else:
        os.mkfifo(tmp_path / "pipe" if "link" in kind else place)
    if "link" in kind:
        place.symlink_to("pipe")
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(PathFailed, match=f"{place} "):
        require_plain(place)
    assert {path.name for path in tmp_path.iterdir()} == before
    require_plain(tmp_path / "none")
