"""What a call of ``switching`` does when the kernel refuses it something that is there."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from libironic_disk import switching
from libironic_disk.errors import DeviceFailed, DiskError, PathFailed, ToolMissing
from libironic_disk.machine.boot import multiboot_directory
from libironic_disk.machine.trees import mounts, rootfs
from libironic_disk.pure.disks.layout import FileSystem
from tests.conftest import Bench
from tests.support import multiboot_partition
from tests.support.multiboot_partition import Partitions, image_files
from tests.support.refusing import refuse

pytestmark = pytest.mark.loopdevice


@pytest.fixture
def two(bench: Bench) -> Partitions:
    """Two images, of which the second is the default by choice and the first on trial."""
    made = multiboot_partition.make(bench, {"one": image_files("1"), "two": image_files("2")})
    switching.set_default(made.multiboot, "two")
    switching.try_boot(made.multiboot, "one")
    return made


def is_open_on(name: str) -> Callable[..., bool]:
    """Say whether a descriptor leads to a file of this name."""
    return lambda descriptor, *_: Path(f"/proc/self/fd/{descriptor}").readlink().name == name


def test_a_block_that_cannot_be_read_now_is_not_taken_for_an_empty_one(
    two: Partitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next boot of one system once would cost the chosen default and the trial."""
    before = switching.get_state(two.multiboot)
    with monkeypatch.context() as patched:
        refuse(patched, os, "read", errno.EIO, is_open_on("grubenv"))
        for call in (switching.get_state, switching.rollback, lambda node: switching.boot_once(node, "one")):
            with pytest.raises(PathFailed, match=r"grubenv.*Input/output error"):
                call(two.multiboot)
    assert switching.get_state(two.multiboot) == before


def test_a_record_that_cannot_be_read_now_is_not_damaged(two: Partitions, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, os, "read", errno.EIO, is_open_on("menu-a.json"))
    with pytest.raises(PathFailed, match=r"menu-a.json.*Input/output error"):
        switching.list_entries(two.multiboot)


def test_who_cannot_be_asked_which_system_runs_confirms_nothing(two: Partitions, tmp_path: Path) -> None:
    before = switching.get_state(two.multiboot)
    # A directory: opening it works, and reading it doesn't.
    with pytest.raises(PathFailed, match="Is a directory"):
        switching.confirm(two.multiboot, command_line=tmp_path)
    assert switching.get_state(two.multiboot) == before


def test_what_cannot_be_told_afterwards_is_found_before_the_write(
    two: Partitions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = switching.get_state(two.multiboot)
    with monkeypatch.context() as patched:
        patched.setattr(switching, "COMMAND_LINE", tmp_path)
        with pytest.raises(PathFailed):
            switching.rollback(two.multiboot)
    assert switching.get_state(two.multiboot) == before


def test_want_of_descriptors_locks_and_memory_is_told_as_such(two: Partitions, monkeypatch: pytest.MonkeyPatch) -> None:
    def always(*_: object) -> bool:
        return True

    def is_root(path: object, *_: object) -> bool:
        return path == "."

    for module, name, code, when, kind in (
        (os, "open", errno.EMFILE, is_root, DeviceFailed),
        (fcntl, "flock", errno.ENOLCK, always, DeviceFailed),
        (rootfs, "best_opener", errno.EMFILE, always, PathFailed),
    ):
        with monkeypatch.context() as patched:
            refuse(patched, module, name, code, when)
            with pytest.raises(DiskError, match=os.strerror(code)) as caught:
                switching.rollback(two.multiboot)
            assert isinstance(caught.value, kind)
    with monkeypatch.context() as patched:
        refuse(patched, Path, "read_text", errno.EMFILE, lambda path, *_: path == Path("/proc/self/mountinfo"))
        with pytest.raises(DeviceFailed, match="Too many open files"):
            mounts.mount_point(two.multiboot)


def test_nobody_says_what_grub_reads_where_its_code_is_missing(
    two: Partitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: None if name == "grub-fstest" else f"/usr/bin/{name}")
    with pytest.raises(ToolMissing, match="grub-fstest"):
        switching.verify(two.multiboot, two.nodes)


def test_a_system_that_a_refresh_cannot_read_is_named(two: Partitions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caller would take the update of its kernel for taken up."""
    multiboot_partition.write(two.roots["two"], FileSystem.EXT4, image_files("3"))
    before = switching.list_entries(two.multiboot)
    with monkeypatch.context() as patched:
        refuse(patched, os, "read", errno.EIO, is_open_on("os-release"))
        state = switching.refresh(two.multiboot, two.nodes)
    assert [each.partition(": ")[0] for each in state.unread] == ["one", "two"]
    assert all("Input/output error" in each for each in state.unread)
    assert switching.list_entries(two.multiboot) == before
    assert switching.refresh(two.multiboot, two.nodes).unread == ()
    assert [entry.kernel for entry in switching.list_entries(two.multiboot)][1] == "/boot/vmlinuz-3"


@pytest.mark.parametrize("name", ["grub.cfg", "entries"])
def test_an_image_whose_parameters_cannot_be_read_keeps_those_that_it_had(
    two: Partitions, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Without them its kernel would find no root, or no console."""
    menu = "menuentry 'x' {\n linux /boot/vmlinuz-2 own.word\n}\n"
    loader = "title x\nlinux /boot/vmlinuz-2\noptions own.word\n"
    files = {"/boot/grub/grub.cfg": menu} if name == "grub.cfg" else {"/boot/loader/entries/x.conf": loader}
    texts = {path: text.encode() for path, text in files.items()}
    multiboot_partition.write(two.roots["two"], FileSystem.EXT4, texts)
    assert switching.refresh(two.multiboot, two.nodes).unread == ()
    before = switching.list_entries(two.multiboot)
    assert "own.word" in before[1].parameters.split()
    for where, call in ((os, "read"), (os, "scandir")):
        refuse(monkeypatch, where, call, errno.EIO, is_open_on(name))
    state = switching.refresh(two.multiboot, two.nodes)
    assert [each.partition(": ")[0] for each in state.unread] == ["two"]
    assert switching.list_entries(two.multiboot) == before


def test_what_a_call_that_was_killed_left_goes_with_the_next_menu(two: Partitions) -> None:
    """It would fill the partition, and no later call could write a menu."""
    left, others = ".0123456789abcdef01234567", (".theirs", ".0123456789abcdef")
    for name in (left, *others):
        multiboot_partition.write(two.multiboot, FileSystem.EXT4, {f"/boot/grub/{name}": b"x" * 1000})
    switching.refresh(two.multiboot, two.nodes)
    with multiboot_directory.opened(two.multiboot) as tree:
        names = tree.names("/boot/grub")
    assert left not in names
    assert {*others} <= {*names}
