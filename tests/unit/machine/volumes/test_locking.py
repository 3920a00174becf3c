"""Locks between applies that have no disk in common: of arrays' numbers, and of groups' names."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from libironic_disk.errors import DeviceFailed, DeviceLocked, ProgramFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine import process
from libironic_disk.machine.volumes import locking, making
from libironic_disk.pure.roles import Role
from libironic_disk.pure.volumes.facts import Member
from libironic_disk.pure.volumes.planning import Contents, PlannedArray
from libironic_disk.pure.volumes.storage import ArrayMetadata
from libironic_disk.units import MIB

ARRAY = PlannedArray(
    name="mirror",
    uuid="0:0:0:0",
    metadata=ArrayMetadata.AT_THE_START,
    members=(Member("/dev/a", 1), Member("/dev/b", 1)),
    size=MIB,
    contents=Contents(role=Role.DATA),
)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the locks that isn't there yet."""
    path = tmp_path / "locks"
    monkeypatch.setattr(locking, "_DIRECTORY", path)
    monkeypatch.setattr(locking, "_NUMBERS_TIMEOUT", 0.1)
    return path


@pytest.fixture
def lock(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock of the arrays' numbers; mdadm always fails."""
    path = directory / "arrays"

    def mdadm(*argv: str, **options: object) -> process.Completed:
        with path.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        raise ProgramFailed(argv=argv, stderr="", exit_code=1)

    monkeypatch.setattr(process, "run", mdadm)
    return path


def test_a_number_is_locked_until_mdadm_has_taken_it(lock: Path) -> None:
    for _ in range(2):
        with pytest.raises(ProgramFailed):
            making.make_array(ARRAY, [], Cancellation())
    assert lock.exists()


def test_who_keeps_the_numbers_is_told(lock: Path) -> None:
    lock.parent.mkdir()
    with lock.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DeviceLocked, match=f"{lock} is locked by .* gave up after 0.1 s"):
            making.make_array(ARRAY, [], Cancellation())


def test_a_link_in_place_of_the_lock_is_not_followed(lock: Path, tmp_path: Path) -> None:
    lock.parent.mkdir()
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeviceFailed, match="opening the lock"):
        making.make_array(ARRAY, [], Cancellation())
    assert not (tmp_path / "elsewhere").exists()


def test_a_name_is_given_to_one_at_a_time_and_others_are_free_meanwhile(directory: Path) -> None:
    cancel = Cancellation()
    with locking.names_locked(["vg1", "vg0"], timeout=0.1, cancel=cancel):
        # Root alone may keep the locks.
        assert directory.stat().st_mode & 0o777 == 0o700
        with pytest.raises(DeviceLocked) as locked, locking.names_locked(["vg1", "vg2"], timeout=0.1, cancel=cancel):
            pass
        assert locked.value.device == str(directory / "group-vg1")
        with locking.names_locked(["vg2"], timeout=0.1, cancel=cancel):
            pass
    with locking.names_locked(["vg0", "vg1"], timeout=0.1, cancel=cancel):
        pass
