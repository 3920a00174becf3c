"""Choosing what boots next on a real multiboot partition; GRUB's own code reads it back."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from libironic_disk import switching
from libironic_disk.errors import (
    BootImpossible,
    DeviceBusy,
    DeviceFailed,
    DiskError,
    EntryUnknown,
    MultibootDamaged,
    PathFailed,
    SwitchRefused,
)
from libironic_disk.machine.boot import multiboot_directory
from libironic_disk.machine.disks import claims
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.boot import grubenv
from libironic_disk.pure.boot.multimenu import ENVIRONMENT
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support import disks, multiboot_partition, oracles
from tests.support.multiboot_partition import Partitions, image_files

pytestmark = pytest.mark.loopdevice


@pytest.fixture
def two(bench: Bench) -> Partitions:
    """Two images, the first with an older kernel too."""
    return multiboot_partition.make(
        bench, {"centos": image_files("5.14.0-1", "5.14.0-2"), "centos7": image_files("3.10.0-1")}
    )


def ids(partitions: Partitions) -> list[str]:
    return [entry.id for entry in switching.list_entries(partitions.multiboot)]


def as_grub_reads(partitions: Partitions, path: str) -> bytes:
    return oracles.grub_cat(partitions.multiboot, path)


def contents(node: str) -> str:
    return hashlib.sha256(Path(node).read_bytes()).hexdigest()


def place_of_block(partitions: Partitions) -> str:
    argv = ["debugfs", "-R", f"blocks {ENVIRONMENT}", partitions.multiboot]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def damage(partitions: Partitions, path: str, data: bytes | None) -> None:
    with mounted(partitions.multiboot, FileSystem.EXT4, read_only=False) as descriptor:
        if data is not None:
            RootDir(descriptor, tree="multiboot").write_file(path, data)
        else:
            Path(f"/proc/self/fd/{descriptor}{path}").unlink()


def test_the_menu_is_listed_as_grub_numbers_it(two: Partitions) -> None:
    entries = switching.list_entries(two.multiboot)
    assert [entry.grub_id for entry in entries] == [0, 1, 2]
    assert [entry.image for entry in entries] == ["centos", "centos", "centos7"]
    assert [entry.kernel for entry in entries] == [
        "/boot/vmlinuz-5.14.0-2",
        "/boot/vmlinuz-5.14.0-1",
        "/boot/vmlinuz-3.10.0-1",
    ]
    assert all(f"multiboot.entry={entry.id}" in entry.parameters.split() for entry in entries)
    menu = as_grub_reads(two, "/boot/grub/menu-a.cfg").decode()
    listed = [line.split("--id ")[1].strip("'{ ") for line in menu.splitlines() if line.startswith("menuentry")]
    assert listed == [entry.id for entry in entries]


@pytest.mark.parametrize("key", [2, "centos7", "centos7 of today", "uuid-centos7", None])
def test_a_system_is_chosen_by_any_of_its_names(two: Partitions, key: str | int | None) -> None:
    wanted = ids(two)[2]
    state = switching.set_default(two.multiboot, wanted if key is None else key)
    assert state.boots_next == wanted
    assert switching.get_state(two.multiboot) == state
    assert grubenv.parse(as_grub_reads(two, ENVIRONMENT), path="")["saved_entry"] == wanted


def test_the_block_stays_where_it_is(two: Partitions) -> None:
    """GRUB writes to the blocks that the file had when it looked; nothing may move them under it."""
    before = place_of_block(two)
    switching.set_default(two.multiboot, 2)
    switching.try_boot(two.multiboot, 0, tries=9)
    assert place_of_block(two) == before


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda node: switching.set_default(node, "ubuntu"), r"unknown.*centos-\w+ \(centos\)"),
        (lambda node: switching.set_default(node, ""), "unknown"),
        (lambda node: switching.set_default(node, 3), "unknown"),
        (lambda node: switching.set_default(node, -1), "unknown"),
        (lambda node: switching.set_default(node, "centos7", expect="centos7"), "and not centos7-.* as was expected"),
        (lambda node: switching.boot_once(node, "x" * 10_000), "unknown"),
        (lambda node: switching.try_boot(node, "centos"), "it is the default"),
        (lambda node: switching.try_boot(node, "centos7", tries=10), "1 to 9 tries"),
        (lambda node: switching.confirm(node), "no system is on trial"),
        (lambda node: switching.rollback(node), "no system is on trial"),
    ],
)
def test_what_is_refused_changes_nothing(two: Partitions, wrong: Callable[[str], object], words: str) -> None:
    before = switching.get_state(two.multiboot)
    with pytest.raises((SwitchRefused, EntryUnknown), match=words):
        wrong(two.multiboot)
    assert switching.get_state(two.multiboot) == before


def test_a_name_that_two_images_have_is_no_name(bench: Bench) -> None:
    images = {"a": image_files("1"), "b": image_files("1")}
    partitions = multiboot_partition.make(bench, images)
    with multiboot_directory.opened(partitions.multiboot, read_only=False) as tree:
        path = "/boot/grub/menu-a.json"
        text = tree.read_file(path, limit=MIB).replace(b'"b of today"', b'"a of today"')
        tree.write_file(path, text)
    with pytest.raises(EntryUnknown, match=r"ambiguous.*a-\w+ \(a\), b-\w+ \(b\)"):
        switching.set_default(partitions.multiboot, "a of today")


def test_only_the_system_on_trial_confirms_itself(two: Partitions, tmp_path: Path) -> None:
    old, _, new = ids(two)
    running = tmp_path / "cmdline"
    switching.try_boot(two.multiboot, new)
    running.write_text(f"root=UUID=x multiboot.entry={old} panic=10\n")
    with pytest.raises(SwitchRefused, match=f"{old} is running"):
        switching.confirm(two.multiboot, command_line=running)
    running.write_text(f"root=UUID=x multiboot.entry={new} panic=10\n")
    assert switching.get_state(two.multiboot, command_line=running).booted == new
    state = switching.confirm(two.multiboot, command_line=running)
    assert (state.switch.default, state.booted) == (new, new)


def test_a_partition_in_use_is_left_alone(two: Partitions) -> None:
    with mounted(two.multiboot, FileSystem.EXT4), pytest.raises(DeviceBusy, match="unmount it first"):
        switching.set_default(two.multiboot, "centos7")


@pytest.mark.parametrize("block", [None, b"", b"x" * 1024, b"# GRUB Environment Block\nsaved_entry=x\n", bytes(2048)])
def test_a_damaged_block_is_told_and_mended(two: Partitions, block: bytes | None) -> None:
    damage(two, ENVIRONMENT, block)
    state = switching.get_state(two.multiboot)
    assert any("grubenv" in problem for problem in state.damage)
    # As GRUB takes it.
    assert state.boots_next == ids(two)[0]
    assert switching.set_default(two.multiboot, "centos7").damage == ()
    assert grubenv.parse(as_grub_reads(two, ENVIRONMENT), path="")["saved_entry"] == ids(two)[2]
    assert switching.get_state(two.multiboot).damage == ()


def test_what_grub_itself_keeps_in_the_block_survives(two: Partitions) -> None:
    with multiboot_directory.opened(two.multiboot, read_only=False) as tree:
        board = multiboot_directory.read(tree)
        multiboot_directory.write_state(tree, board.state, {"theirs": "kept"})
    switching.boot_once(two.multiboot, "centos7")
    assert grubenv.parse(as_grub_reads(two, ENVIRONMENT), path="")["theirs"] == "kept"


def test_a_partition_without_its_record_is_damaged(two: Partitions) -> None:
    damage(two, "/boot/grub/menu-a.json", b"{")
    with pytest.raises(MultibootDamaged, match="no record of a menu"):
        switching.list_entries(two.multiboot)


def test_something_else_than_a_multiboot_partition_is_refused(bench: Bench) -> None:
    with pytest.raises(DeviceFailed):
        switching.list_entries(bench.disk(16 * MIB, 512).node)


def test_a_kernel_update_is_seen_and_taken_up(two: Partitions) -> None:
    assert switching.verify(two.multiboot, two.nodes) == ()
    before = ids(two)
    multiboot_partition.write(two.roots["centos7"], FileSystem.EXT4, image_files("3.10.0-2"))
    (problem,) = switching.verify(two.multiboot, two.nodes)
    assert problem.startswith("centos7: the menu starts /boot/vmlinuz-3.10.0-1, ")
    state = switching.refresh(two.multiboot, two.nodes)
    assert state.switch.generation == "b"
    entries = switching.list_entries(two.multiboot)
    # The id stays with the image: it is what the default and a trial are remembered by.
    assert [entry.id for entry in entries][:3] == before
    assert entries[2].kernel == "/boot/vmlinuz-3.10.0-2"
    assert entries[3].kernel == "/boot/vmlinuz-3.10.0-1"
    assert switching.verify(two.multiboot, two.nodes) == ()
    assert as_grub_reads(two, "/boot/grub/menu-a.cfg") == as_grub_reads(two, "/boot/grub/menu-b.cfg")


def test_the_running_systems_own_update_is_taken_up(two: Partitions, tmp_path: Path) -> None:
    """Its root is mounted, and stays so."""
    with disks.mounted(two.roots["centos7"], tmp_path / "root") as folder:
        for path, data in image_files("3.10.0-2").items():
            (folder / path[1:]).write_bytes(data)
        switching.refresh(two.multiboot, two.nodes)
        assert switching.list_entries(two.multiboot)[2].kernel == "/boot/vmlinuz-3.10.0-2"
        assert switching.verify(two.multiboot, two.nodes) == ()


def test_a_confirmation_during_a_refresh_counts(two: Partitions) -> None:
    """A hook refreshes the menu while a health check of the system on trial confirms it."""
    new = ids(two)[2]
    switching.try_boot(two.multiboot, new)
    with multiboot_directory.opened(two.multiboot) as tree:
        board = multiboot_directory.read(tree)
    switching.confirm(two.multiboot, command_line=Path("/none"))
    with claims.disk_locked(two.multiboot, timeout=5):
        multiboot_directory.replace_menu(two.multiboot, board, board.record)
    assert switching.get_state(two.multiboot).switch.default == new


def test_two_callers_take_turns(two: Partitions, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `expect` only one of two that expect the same may have its way."""
    old, _, new = ids(two)
    ended: list[str] = []

    def set_default() -> None:
        try:
            switching.set_default(two.multiboot, new, expect=old)
        except SwitchRefused:
            ended.append("refused")
        else:
            ended.append("done")

    threads = [threading.Thread(target=set_default) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["done", "refused", "refused", "refused"]


def test_an_image_that_cannot_be_read_keeps_the_others_from_nothing(two: Partitions) -> None:
    with Path(two.roots["centos7"]).open("r+b") as disk:
        disk.seek(1024 + 0x60)
        disk.write(b"\xff" * 4)
    multiboot_partition.write(two.roots["centos"], FileSystem.EXT4, image_files("5.14.0-3"))
    problems = switching.verify(two.multiboot, two.nodes)
    assert any(problem.startswith("centos7: ") for problem in problems)
    switching.refresh(two.multiboot, two.nodes)
    entries = switching.list_entries(two.multiboot)
    assert entries[0].kernel == "/boot/vmlinuz-5.14.0-3"
    assert entries[-1].kernel == "/boot/vmlinuz-3.10.0-1"


def test_a_lost_block_boots_what_was_chosen_last(two: Partitions) -> None:
    switching.set_default(two.multiboot, "centos7")
    switching.refresh(two.multiboot, two.nodes)
    damage(two, ENVIRONMENT, None)
    assert switching.get_state(two.multiboot).boots_next == ids(two)[2]


def test_an_image_that_is_not_there_keeps_its_entries(two: Partitions) -> None:
    before = switching.list_entries(two.multiboot)
    switching.refresh(two.multiboot, [two.roots["centos"]])
    assert switching.list_entries(two.multiboot) == before
    assert switching.verify(two.multiboot, [two.roots["centos"]]) == (
        "centos7: no file system with the UUID aaaaaaaa-0000-4000-8000-000000000001 was found",
    )


def remove_kernels(node: str) -> None:
    with mounted(node, FileSystem.EXT4, read_only=False) as descriptor:
        for path in Path(f"/proc/self/fd/{descriptor}/boot").iterdir():
            path.unlink()


def test_a_default_without_a_kernel_is_never_taken_up(two: Partitions) -> None:
    remove_kernels(two.roots["centos"])
    assert "centos: there is no kernel in its /boot" in switching.verify(two.multiboot, two.nodes)
    before = contents(two.multiboot)
    with pytest.raises(BootImpossible, match="set another default first"):
        switching.refresh(two.multiboot, two.nodes)
    assert contents(two.multiboot) == before


def test_a_trial_of_a_system_that_is_gone_has_failed(two: Partitions) -> None:
    gone = ids(two)[2]
    switching.try_boot(two.multiboot, gone)
    remove_kernels(two.roots["centos7"])
    state = switching.refresh(two.multiboot, two.nodes).switch
    assert (state.trial, state.failed) == ("", gone)
    assert gone not in ids(two)


def fill(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as filler:
        while filler.write(bytes(1024)):
            pass


def test_a_full_partition_keeps_its_menu_and_can_be_switched(bench: Bench) -> None:
    partitions = multiboot_partition.make(bench, {"a": image_files("1"), "b": image_files("1")}, size=40 * MIB)
    with mounted(partitions.multiboot, FileSystem.EXT4, read_only=False) as descriptor:
        # What is left after one run is what ext4 had put aside for delayed blocks.
        for number in range(20):
            fill(Path(f"/proc/self/fd/{descriptor}/filler-{number}"))
            os.sync()
    before = switching.list_entries(partitions.multiboot)
    multiboot_partition.write(partitions.roots["b"], FileSystem.EXT4, image_files("2"))
    with pytest.raises(PathFailed, match="No space left"):
        switching.refresh(partitions.multiboot, partitions.nodes)
    assert switching.list_entries(partitions.multiboot) == before
    assert switching.set_default(partitions.multiboot, "b").boots_next == before[1].id


def test_a_kernel_that_grub_cannot_read_is_told(two: Partitions) -> None:
    with mounted(two.roots["centos7"], FileSystem.EXT4, read_only=False) as descriptor:
        path = Path(f"/proc/self/fd/{descriptor}/boot/vmlinuz-3.10.0-1")
        path.unlink()
        path.symlink_to("missing")
    problems = switching.verify(two.multiboot, two.nodes)
    assert problems
    assert all(problem.startswith("centos7") for problem in problems)


@pytest.mark.parametrize("filesystem", [FileSystem.XFS, FileSystem.BTRFS])
def test_roots_of_other_file_systems(bench: Bench, filesystem: FileSystem) -> None:
    partitions = multiboot_partition.make(bench, {"a": image_files("1"), "b": image_files("2")}, filesystem=filesystem)
    assert switching.verify(partitions.multiboot, partitions.nodes) == ()
    assert [entry.kernel for entry in switching.list_entries(partitions.multiboot)] == [
        "/boot/vmlinuz-1",
        "/boot/vmlinuz-2",
    ]


def test_two_roots_of_one_uuid_cannot_be_told_apart(bench: Bench, two: Partitions) -> None:
    copy = bench.disk(320 * MIB, 512).node
    Path(copy).write_bytes(Path(two.roots["centos"]).read_bytes())
    with pytest.raises(DiskError, match="no UUID tells them apart"):
        switching.verify(two.multiboot, [*two.nodes, copy])
