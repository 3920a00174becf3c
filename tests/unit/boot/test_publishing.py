"""Files in a directory that a server serves: whole or not at all, within bounds, and never through a link."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from libironic_disk.boot.publishing import DirectoryPublisher, checked_name
from libironic_disk.errors import InvalidParameterValue, NotEnoughRoom, PathFailed, SourceChanged, SourceFailed
from libironic_disk.units import MIB

URL = "http://192.0.2.1/media"
NAMES = (
    "../up.iso",
    "a/b.iso",
    "/etc/passwd.iso",
    ".hidden.iso",
    "..iso",
    "a.bin",
    "iso",
    "",
    "a\n.iso",
    "é.iso",
    "a.iso?x",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def master(tmp_path: Path) -> Path:
    path = tmp_path / "master.iso"
    path.write_bytes(os.urandom(100_000))
    path.chmod(0o644)
    return path


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()} - {".publishing"}


class Failing:
    """Breaks off in the middle."""

    size = 3 * MIB
    etag = "a"

    def read_at(self, offset: int, size: int, /) -> bytes:
        if offset >= MIB:
            raise SourceChanged(source="base", reason="it was written to")
        return bytes(size)


class Short(Failing):
    def read_at(self, offset: int, size: int, /) -> bytes:
        return b"\1" * min(size, 10)


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_none_are_refused(root: Path, name: str) -> None:
    publisher = DirectoryPublisher(root, URL)
    with pytest.raises(InvalidParameterValue):
        publisher.publish(name, b"x")
    with pytest.raises(InvalidParameterValue):
        publisher.withdraw(name)
    assert list(root.iterdir()) == []


def test_longest_name_of_a_machine_is_one() -> None:
    assert checked_name(f"instance-{'n' * 63}.iso")


def test_bytes_are_there_whole_and_readable_by_a_server(root: Path) -> None:
    publisher = DirectoryPublisher(root, f"{URL}/")
    assert publisher.publish("a.iso", b"x" * 3_000_000) == f"{URL}/a.iso"
    assert (root / "a.iso").read_bytes() == b"x" * 3_000_000
    assert (root / "a.iso").stat().st_mode & 0o777 == 0o644
    publisher.publish("a.iso", b"")
    assert (root / "a.iso").read_bytes() == b""
    publisher.withdraw("a.iso")
    publisher.withdraw("a.iso")
    assert names(root) == set()


def test_a_readable_file_is_linked_and_keeps_its_bytes_and_mode(root: Path, master: Path) -> None:
    """Ironic's publisher wrote the next file through the link into the image that it came from."""
    before, mode = master.read_bytes(), master.stat().st_mode
    publisher = DirectoryPublisher(root, URL, limit=0)
    publisher.publish("a.iso", master)
    assert (root / "a.iso").samefile(master)
    # A rename of one link over another does nothing, and would leave the first.
    publisher.publish("a.iso", master)
    assert names(root) == {"a.iso"}
    assert master.stat().st_nlink == 2
    DirectoryPublisher(root, URL).publish("a.iso", b"another")
    assert (root / "a.iso").read_bytes() == b"another"
    assert (master.read_bytes(), master.stat().st_mode, master.stat().st_nlink) == (before, mode, 1)


def test_a_symbolic_link_means_its_file(root: Path, master: Path, tmp_path: Path) -> None:
    (tmp_path / "link.iso").symlink_to(master)
    DirectoryPublisher(root, URL).publish("a.iso", tmp_path / "link.iso")
    assert not (root / "a.iso").is_symlink()
    assert (root / "a.iso").samefile(master)


def test_a_private_file_is_copied(root: Path, master: Path) -> None:
    master.chmod(0o600)
    DirectoryPublisher(root, URL).publish("a.iso", master)
    assert not (root / "a.iso").samefile(master)
    assert (root / "a.iso").read_bytes() == master.read_bytes()
    assert (root / "a.iso").stat().st_mode & 0o777 == 0o644
    assert master.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [Failing(), Short()], ids=["fails", "is short"])
def test_what_fails_leaves_what_was_there(root: Path, content: Failing) -> None:
    publisher = DirectoryPublisher(root, URL)
    publisher.publish("a.iso", b"before")
    with pytest.raises(SourceChanged):
        publisher.publish("a.iso", content)
    assert names(root) == {"a.iso"}
    assert (root / "a.iso").read_bytes() == b"before"


@pytest.mark.parametrize(
    "make",
    [lambda path: None, lambda path: path.mkdir(), os.mkfifo, lambda path: path.symlink_to(path)],
    ids=["none", "dir", "fifo", "loop"],
)
def test_what_is_no_file_is_refused(root: Path, tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "x.iso")
    with pytest.raises(SourceFailed):
        DirectoryPublisher(root, URL).publish("a.iso", tmp_path / "x.iso")
    assert names(root) == set()


def test_a_limit_counts_all_copies_but_the_one_that_is_replaced(root: Path) -> None:
    publisher = DirectoryPublisher(root, URL, limit=100)
    publisher.publish("a.iso", bytes(60))
    publisher.publish("a.iso", bytes(100))
    with pytest.raises(NotEnoughRoom) as caught:
        publisher.publish("b.iso", bytes(1))
    assert (caught.value.wanted, caught.value.available) == (1, 0)
    # Another one, as after a restart, counts the same.
    with pytest.raises(NotEnoughRoom):
        DirectoryPublisher(root, URL, limit=100).publish("b.iso", bytes(1))
    assert names(root) == {"a.iso"}
    publisher.withdraw("a.iso")
    publisher.publish("b.iso", bytes(100))


def test_what_is_linked_does_not_count(root: Path, master: Path) -> None:
    publisher = DirectoryPublisher(root, URL, limit=100)
    publisher.publish("a.iso", master)
    publisher.publish("b.iso", bytes(100))
    # Until its source is gone: then it is what takes the room.
    master.unlink()
    with pytest.raises(NotEnoughRoom):
        publisher.publish("b.iso", bytes(100))


def test_more_than_the_file_system_has_is_refused_before_a_byte_is_written(root: Path) -> None:
    class Vast(Failing):
        size = 1 << 60

        def read_at(self, offset: int, size: int, /) -> bytes:
            raise AssertionError

    with pytest.raises(NotEnoughRoom) as caught:
        DirectoryPublisher(root, URL).publish("a.iso", Vast())
    assert caught.value.wanted == 1 << 60 > caught.value.available > 0
    assert names(root) == set()


def test_what_is_being_written_counts_and_what_a_crash_left_does_not(root: Path) -> None:
    going = threading.Event()
    reached = threading.Event()

    class Slow(Failing):
        size = 80

        def read_at(self, offset: int, size: int, /) -> bytes:
            reached.set()
            assert going.wait(10)
            return bytes(80)

    crashed = root / ".publishing-crashed"
    crashed.write_bytes(bytes(90))
    publisher = DirectoryPublisher(root, URL, limit=100)
    writer = threading.Thread(target=publisher.publish, args=("slow.iso", Slow()))
    writer.start()
    try:
        assert reached.wait(10)
        assert not crashed.exists()
        with pytest.raises(NotEnoughRoom) as caught:
            DirectoryPublisher(root, URL, limit=100).publish("b.iso", bytes(21))
        assert caught.value.available == 20
        publisher.publish("b.iso", bytes(20))
    finally:
        going.set()
        writer.join()
    assert names(root) == {"b.iso", "slow.iso"}


def test_withdrawing_leaves_what_another_process_is_writing(root: Path) -> None:
    held = root / ".publishing-held"
    with held.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        DirectoryPublisher(root, URL).withdraw("a.iso")
        assert held.exists()
    DirectoryPublisher(root, URL).withdraw("a.iso")
    assert not held.exists()


def test_two_who_publish_one_name_leave_one_of_both(root: Path) -> None:
    contents = [bytes([number]) * 300_000 for number in range(8)]
    publisher = DirectoryPublisher(root, URL)
    threads = [threading.Thread(target=publisher.publish, args=("a.iso", content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (root / "a.iso").read_bytes() in contents
    assert names(root) == {"a.iso"}


@pytest.mark.parametrize("call", ["ftruncate", "fsync", "replace"])
def test_a_disk_that_fails_is_named_and_holds_nothing(root: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def failing(*arguments: object, **more: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    publisher = DirectoryPublisher(root, URL)
    before = {path.name for path in Path("/proc/self/fd").iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        with pytest.raises(PathFailed, match=r"root/a\.iso.*Input/output error"):
            publisher.publish("a.iso", b"new")
    assert {path.name for path in Path("/proc/self/fd").iterdir()} == before
    assert names(root) == set()


def test_what_is_withdrawn_or_linked_is_brought_to_the_disk(
    root: Path, master: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, set[str]]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), names(root)))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    publisher = DirectoryPublisher(root, URL)
    publisher.publish("a.iso", master)
    publisher.withdraw("a.iso")
    assert synced == [(str(root), {"a.iso"}), (str(root), set())]


def test_a_directory_that_is_not_there_is_not_said_of_the_source(root: Path, master: Path) -> None:
    with pytest.raises(PathFailed, match=r"root/gone/a\.iso"):
        DirectoryPublisher(root / "gone", URL).publish("a.iso", master)
