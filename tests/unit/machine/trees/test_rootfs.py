"""Both ways of resolving a path, in trees made to lead out. Devices need root: tests/loopdevices/test_rootfs.py."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from libironic_disk.errors import PathFailed
from libironic_disk.machine import syscalls
from libironic_disk.machine.trees.rootfs import Opener, RootDir, best_opener, open_in_root
from libironic_disk.machine.trees.treewalk import open_walking

ON_THE_HOST = "on the host"


@pytest.fixture(params=[open_in_root, open_walking], ids=["openat2", "walk"])
def opener(request: pytest.FixtureRequest) -> Opener:
    chosen: Opener = request.param
    return chosen


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text(ON_THE_HOST)
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "boot").mkdir()
    (tree / "etc" / "name").write_text("inside")
    return tree


@pytest.fixture
def tree(top: Path, opener: Opener) -> Iterator[RootDir]:
    with opened(top, opener) as root:
        yield root


class opened:
    def __init__(self, top: Path, opener: Opener) -> None:
        self.descriptor = os.open(top, os.O_PATH | os.O_DIRECTORY)
        self.tree = RootDir(self.descriptor, tree="/dev/test", opener=opener)

    def __enter__(self) -> RootDir:
        return self.tree

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def test_reads_lists_and_looks(tree: RootDir) -> None:
    before = descriptors()
    assert tree.read_file("etc/name", limit=6) == b"inside"
    assert tree.read_file("/etc/../etc/./name", limit=100) == b"inside"
    assert tree.names("/") == ("boot", "etc")
    assert tree.exists("/etc")
    assert tree.exists("/etc/name")
    assert not tree.exists("/etc/none")
    assert not tree.exists("/etc/name/none")
    assert tree.is_file("/etc/name")
    assert not tree.is_file("/etc")
    assert not tree.is_file("/none")
    assert descriptors() == before


@pytest.mark.parametrize(
    "target",
    [
        "/secret",
        "../secret",
        "../../../../../../../../../../secret",
        "/../secret",
        "{absolute}",
        "/proc/self/root{absolute}",
        "/proc/self/cwd/secret",
        "etc/../../secret",
    ],
)
def test_no_link_leads_out(top: Path, tree: RootDir, target: str) -> None:
    target = target.format(absolute=top.parent / "secret")
    (top / "link").symlink_to(target)
    assert not tree.exists("link")
    with pytest.raises(PathFailed) as caught:
        tree.read_file("link", limit=1000)
    assert (caught.value.tree, caught.value.path) == ("/dev/test", "link")
    with pytest.raises(PathFailed):
        tree.read_file(f"etc/{target}", limit=1000)

    tree.write_file("link", b"new")
    assert (top.parent / "secret").read_text() == ON_THE_HOST
    assert stat.S_ISREG((top / "link").lstat().st_mode)
    assert (top / "link").read_bytes() == b"new"


def test_links_inside_are_followed_from_the_root_of_the_tree(top: Path, tree: RootDir) -> None:
    (top / "usr").mkdir()
    (top / "usr" / "file").write_text("found")
    (top / "a").symlink_to("/usr")
    (top / "etc" / "b").symlink_to("../a/")
    (top / "etc" / "up").symlink_to("../../../..")
    assert tree.read_file("/etc/b/file", limit=10) == b"found"
    assert tree.read_file("/etc/up/usr/file", limit=10) == b"found"
    tree.make_dirs("/etc/b/new/dir")
    assert (top / "usr" / "new" / "dir").is_dir()
    tree.write_file("/etc/b/new/dir/x", b"1")
    assert (top / "usr" / "new" / "dir" / "x").read_bytes() == b"1"


def test_a_directory_that_is_a_link_out_is_not_written_through(top: Path, tree: RootDir, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (top / "boot" / "grub").symlink_to(outside)
    with pytest.raises(PathFailed):
        tree.make_dirs("/boot/grub/i386-pc")
    with pytest.raises(PathFailed):
        tree.write_file("/boot/grub/grub.cfg", b"x")
    assert list(outside.iterdir()) == []


def test_loops_end(top: Path, tree: RootDir) -> None:
    (top / "a").symlink_to("b")
    (top / "b").symlink_to("a")
    (top / "self").symlink_to("self/self")
    for path in ("a", "b/x", "self"):
        assert not tree.exists(path)
        with pytest.raises(PathFailed, match="Too many levels of symbolic links"):
            tree.read_file(path, limit=1)


def test_forty_links_are_followed_and_no_more(top: Path, tree: RootDir) -> None:
    (top / "l0").write_text("end")
    for number in range(41):
        (top / f"l{number + 1}").symlink_to(f"l{number}")
    assert tree.read_file("l40", limit=3) == b"end"
    with pytest.raises(PathFailed, match="Too many levels"):
        tree.read_file("l41", limit=3)


def test_a_fifo_is_refused_without_waiting(top: Path, tree: RootDir) -> None:
    os.mkfifo(top / "fifo")
    with pytest.raises(PathFailed, match="not a regular file"):
        tree.read_file("fifo", limit=1)
    with pytest.raises(PathFailed, match="not a regular file"):
        tree.read_file("etc", limit=1)


def test_limits_are_kept(top: Path, tree: RootDir) -> None:
    with (top / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(PathFailed, match="more than 4096 bytes"):
        tree.read_file("huge", limit=4096)
    for number in range(5):
        (top / "etc" / str(number)).touch()
    assert len(tree.names("etc", limit=6)) == 6
    with pytest.raises(PathFailed, match="more than 5 entries"):
        tree.names("etc", limit=5)


def test_another_mount_is_not_entered(opener: Opener) -> None:
    with opened(Path("/"), opener) as root:
        with pytest.raises(PathFailed, match="another file system"):
            root.read_file("/proc/self/status", limit=10)
        with pytest.raises(PathFailed, match="another file system"):
            root.exists("/proc/version")


def test_files_are_replaced_at_once_and_leave_nothing_beside(top: Path, tree: RootDir) -> None:
    tree.write_file("/etc/name", b"x" * 100_000, mode=0o600)
    assert (top / "etc" / "name").stat().st_mode & 0o7777 == 0o600
    tree.write_files("/etc/", {"a": b"1", "b": b"2"}, mode=0o755)
    assert (top / "etc" / "b").stat().st_mode & 0o7777 == 0o755
    assert sorted(path.name for path in (top / "etc").iterdir()) == ["a", "b", "name"]

    (top / "etc" / "dir").mkdir()
    with pytest.raises(PathFailed, match="Is a directory"):
        tree.write_file("/etc/dir", b"")
    for name in ("..", ".", "", "x/y"):
        with pytest.raises(PathFailed, match="no name"):
            tree.write_files("/etc", {name: b""})
    with pytest.raises(PathFailed):
        tree.write_file("/none/x", b"")
    assert sorted(path.name for path in (top / "etc").iterdir()) == ["a", "b", "dir", "name"]


def test_make_dirs_refuses_what_is_no_directory(top: Path, tree: RootDir) -> None:
    tree.make_dirs("/a/b/c")
    tree.make_dirs("a/b/c/")
    assert (top / "a" / "b" / "c").is_dir()
    with pytest.raises(PathFailed, match="Not a directory"):
        tree.make_dirs("/etc/name/x")
    with pytest.raises(PathFailed, match="Not a directory"):
        tree.make_dirs("/etc/name")


@pytest.mark.parametrize("path", ["/etc/name/", "/etc/name/.", "/etc/name/.."])
def test_a_file_is_no_directory(tree: RootDir, path: str) -> None:
    assert not tree.exists(path)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM])
def test_the_walk_takes_over_where_openat2_is_missing(monkeypatch: pytest.MonkeyPatch, top: Path, code: int) -> None:
    def missing(number: int, *arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    descriptor = os.open(top, os.O_PATH)
    try:
        assert best_opener(descriptor) is open_in_root
        monkeypatch.setattr(syscalls, "syscall", missing)
        assert best_opener(descriptor) is open_walking
        assert RootDir(descriptor, tree="t").read_file("/etc/name", limit=6) == b"inside"
    finally:
        os.close(descriptor)
