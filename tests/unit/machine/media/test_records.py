"""What a directory knows of each machine: a lock that ends with its process, and room that is promised once."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import BootTaskBusy, NotEnoughRoom, PathFailed
from libironic_disk.machine.media import records
from libironic_disk.machine.media.records import Records


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".media-lock"}


def test_what_was_remembered_is_there_for_the_next_and_gone_with_the_last(tmp_path: Path) -> None:
    with Records(tmp_path, None).claimed("a") as record:
        record.take_room("iso", 10)
        record.set_content("digest")
    with Records(tmp_path, None).claimed("a") as record:
        assert record.content == "digest"
        record.give_back("iso")
        record.give_back("iso")
    assert names(tmp_path) == {"a.media"}
    with Records(tmp_path, None).claimed("a") as record:
        record.set_content("")
    assert names(tmp_path) == set()


def test_room_is_shared_by_all_machines(tmp_path: Path) -> None:
    kept = Records(tmp_path, 100)
    with kept.claimed("a") as one, kept.claimed("b") as other:
        one.take_room("iso", 60)
        with pytest.raises(NotEnoughRoom) as caught:
            other.take_room("iso", 41)
        assert (caught.value.wanted, caught.value.available) == (41, 40)
        other.take_room("iso", 40)
        # In place of what it had, not beside it.
        one.take_room("iso", 50)
        one.take_room("more", 10)
        with pytest.raises(NotEnoughRoom):
            one.take_room("more", 11)
        other.give_back("iso")
        one.take_room("more", 50)


def test_a_claim_ends_with_the_process_that_had_it(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib; from libironic_disk.machine.media.records import Records\n"
        "with Records(pathlib.Path(sys.argv[1]), None).claimed('a') as record:\n"
        "    record.take_room('iso', 7); print('mine', flush=True); sys.stdin.readline(); os._exit(1)\n"
    )
    argv = [sys.executable, "-c", program, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(records.__file__).parents[3])}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(BootTaskBusy), Records(tmp_path, None).claimed("a"):
            raise AssertionError
        other.communicate("\n")
    limited = Records(tmp_path, 10)
    with limited.claimed("b") as record, pytest.raises(NotEnoughRoom):
        record.take_room("iso", 4)
    with limited.claimed("a") as record:
        record.give_back("iso")
    assert names(tmp_path) == set()


def test_a_file_that_was_removed_after_it_was_opened_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, place = fcntl.flock, tmp_path / "a.media"
    attempts = itertools.count()

    def removed_before(descriptor: int, operation: int) -> None:
        if next(attempts) == 0:
            place.unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", removed_before)
    with Records(tmp_path, None).claimed("a"):
        assert place.exists()
        with pytest.raises(BootTaskBusy), Records(tmp_path, None).claimed("a"):
            raise AssertionError


def test_one_of_many_has_it_at_a_time_and_no_lock_is_lost(tmp_path: Path) -> None:
    """Each removes the file when it is done, under the eyes of those who have just opened it."""
    kept = Records(tmp_path, None)
    inside, worst, done = [0], [0], [0]

    def work() -> None:
        had = 0
        while had < 50:
            try:
                with kept.claimed("a"):
                    inside[0] += 1
                    worst[0] = max(worst[0], inside[0])
                    done[0] += 1
                    inside[0] -= 1
                had += 1
            except BootTaskBusy:
                # How often that is depends on how busy the machine is: a lost lock would keep it so for ever.
                time.sleep(0.0005)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worst == [1]
    assert done == [300]
    assert names(tmp_path) == set()


@given(text=st.binary(max_size=80) | st.just(b"[" * 4096) | st.just(b'{"iso": -5, "content": 7, "a": true}'))
def test_a_damaged_record_is_one_that_says_less(text: bytes) -> None:
    rooms, content = records.parsed(text)
    assert all(type(size) is int and size >= 0 for size in rooms.values())
    assert isinstance(content, str)


def test_what_cannot_be_written_down_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Records(tmp_path, 100).claimed("a") as record:
        record.take_room("iso", 60)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            with pytest.raises(PathFailed, match=r"a\.media.*No space left"):
                record.set_content("digest")
            with pytest.raises(PathFailed, match=r"a\.media.*No space left"):
                record.take_room("more", 10)
            assert record.content == ""
            # A full disk doesn't keep from saying nothing any more.
            record.give_back("iso")
    assert names(tmp_path) == set()


def test_a_directory_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(PathFailed, match=r"there/a\.media.*No such file"), Records(tmp_path / "there", 1).claimed("a"):
        pass
