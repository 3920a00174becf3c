"""What is decided before mdadm and LVM run."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from libironic_disk.errors import DeviceFailed, DeviceLocked, LayoutInvalid, ProgramFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine import process
from libironic_disk.machine.volumes import making
from libironic_disk.pure.roles import Role
from libironic_disk.pure.volumes.facts import Member
from libironic_disk.pure.volumes.planning import Contents, PlannedArray, PlannedGroup
from libironic_disk.pure.volumes.storage import ArrayMetadata
from libironic_disk.units import MIB


def group(name: str) -> PlannedGroup:
    return PlannedGroup(name=name, extent_size=4 * MIB, members=(), arrays=(), size=0, volumes=())


ARRAY = PlannedArray(
    name="mirror",
    uuid="0:0:0:0",
    metadata=ArrayMetadata.AT_THE_START,
    members=(Member("/dev/a", 1), Member("/dev/b", 1)),
    size=MIB,
    contents=Contents(role=Role.DATA),
)


def test_every_name_that_dev_has_is_refused_at_once() -> None:
    with pytest.raises(LayoutInvalid) as refused:
        making.check_names([group("null"), group("vg-of-nobody"), group("pts")], ())
    assert [problem.split(":")[0] for problem in refused.value.problems] == [
        "a volume group can't be named 'null'",
        "a volume group can't be named 'pts'",
    ]


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock of the arrays' numbers, in a folder that isn't there yet; mdadm always fails."""
    path = tmp_path / "lock" / "arrays"
    monkeypatch.setattr(making, "_NUMBERS_LOCK", path)
    monkeypatch.setattr(making, "_NUMBERS_TIMEOUT", 0.1)

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
