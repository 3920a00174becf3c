"""What is published: whole or not at all, never outside of the root, and taken back to the last file."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from libironic_disk.boot import LocalDisk, PXEBoot, Ramdisk, RamdiskInstance
from libironic_disk.errors import (
    BootTaskBusy,
    DiskError,
    DocumentInvalid,
    InvalidParameterValue,
    NotEnoughRoom,
    PathFailed,
    SourceChanged,
    SourceFailed,
)
from libironic_disk.machine.netboot import locking, publishing, rootdir, sources
from libironic_disk.pure.netboot.names import STATE
from libironic_disk.pure.netboot.planning import SeenFile
from libironic_disk.pure.roles import Firmware
from tests.support.netboot import MAC, OTHER_MAC, files, published, small_loaders, task

CONFIG = "pxelinux.cfg/01-52-54-00-aa-bb-01"
LOADERS = {"pxelinux.0", "ldlinux.c32", "chain.c32", "libcom32.c32", "libutil.c32"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty root."""
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def ramdisk(tmp_path: Path) -> Ramdisk:
    """A kernel and a RAM disk."""
    return files(tmp_path / "images")


@pytest.fixture
def interface(tmp_path: Path, root: Path) -> PXEBoot:
    """PXE with loaders that cost nothing."""
    return PXEBoot(root, server="192.0.2.1", loaders=small_loaders(tmp_path / "loaders"))


def instance_of(ramdisk: Ramdisk) -> RamdiskInstance:
    return RamdiskInstance(kernel=ramdisk.kernel, ramdisk=ramdisk.ramdisk)


def public(root: Path) -> set[str]:
    return {path for path in published(root) if not path.startswith(STATE)}


def test_everything_is_there_and_can_be_read(interface: PXEBoot, root: Path, ramdisk: Ramdisk) -> None:
    before = os.umask(0o077)
    try:
        prepared = interface.prepare_ramdisk(task(ramdisk=ramdisk), {"a": "b"})
    finally:
        os.umask(before)
    assert public(root) == set(prepared.files) == {*LOADERS, CONFIG, *prepared.files[-3:-1]}
    kernel, initrd = (root / path for path in prepared.files[-3:-1])
    assert kernel.read_bytes() == Path(ramdisk.kernel).read_bytes()
    assert initrd.read_bytes() == Path(ramdisk.ramdisk).read_bytes()
    for path in prepared.files:
        assert stat.S_IMODE((root / path).stat().st_mode) == 0o644
        for directory in (root / path).relative_to(root).parents:
            assert directory == Path() or stat.S_IMODE((root / directory).stat().st_mode) == 0o755
    assert stat.S_IMODE((root / STATE).stat().st_mode) == 0o700
    text = (root / CONFIG).read_text()
    assert f"LINUX {prepared.files[-3]}\n" in text
    assert "APPEND console=ttyS0 a=b BOOTIF=01-52-54-00-aa-bb-01\n" in text


def test_preparing_again_changes_nothing(interface: PXEBoot, root: Path, ramdisk: Ramdisk) -> None:
    first = interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    before = published(root)
    assert interface.prepare_ramdisk(task(ramdisk=ramdisk), {}) == first
    assert published(root) == before


def test_clean_up_leaves_nothing_and_is_quiet_twice(interface: PXEBoot, root: Path, ramdisk: Ramdisk) -> None:
    wanted = task(ramdisk=ramdisk, instance=instance_of(ramdisk))
    interface.clean_up_ramdisk(wanted)
    interface.prepare_ramdisk(wanted, {})
    interface.prepare_instance(wanted)
    for _ in range(2):
        interface.clean_up_ramdisk(wanted)
        interface.clean_up_instance(wanted)
        assert published(root) == set()
    assert not (root / "nodes/node-1").exists()


def test_the_instance_keeps_its_configuration_when_the_ramdisk_goes(
    interface: PXEBoot, root: Path, ramdisk: Ramdisk
) -> None:
    wanted = task(ramdisk=ramdisk, instance=instance_of(ramdisk))
    interface.prepare_ramdisk(wanted, {})
    prepared = interface.prepare_instance(wanted)
    interface.clean_up_ramdisk(wanted)
    assert public(root) == set(prepared.files)
    assert "/instance-" in (root / CONFIG).read_text()


def test_a_local_disk_needs_no_images(interface: PXEBoot, root: Path, ramdisk: Ramdisk) -> None:
    interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    interface.clean_up_ramdisk(task())
    prepared = interface.prepare_instance(task(instance=LocalDisk()))
    assert public(root) == {*LOADERS, CONFIG} == set(prepared.files)
    interface.prepare_instance(task(instance=LocalDisk(network_fallback=False)))
    assert public(root) == set()
    interface.clean_up_instance(task())
    assert published(root) == set()


def test_other_images_replace_those_of_before(interface: PXEBoot, root: Path, ramdisk: Ramdisk, tmp_path: Path) -> None:
    first = interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    other = files(tmp_path / "others")
    second = interface.prepare_ramdisk(task(ramdisk=other), {})
    assert public(root) == set(second.files)
    assert set(first.files) & set(second.files) == {*LOADERS, CONFIG}
    assert len([path for path in published(root) if path.startswith(f"{STATE}/images/")]) == 2


def test_a_card_that_is_gone_loses_its_configuration(interface: PXEBoot, root: Path, ramdisk: Ramdisk) -> None:
    interface.prepare_ramdisk(task(ramdisk=ramdisk, macs=(MAC, OTHER_MAC)), {})
    interface.prepare_ramdisk(task(ramdisk=ramdisk, macs=(OTHER_MAC,)), {})
    assert {path for path in public(root) if "cfg" in path} == {"pxelinux.cfg/01-52-54-00-aa-bb-02"}
    # Another machine may have it now.
    interface.prepare_ramdisk(task(node="node-2", ramdisk=ramdisk), {})


def test_machines_share_the_room_of_one_image_and_no_name(interface: PXEBoot, root: Path, ramdisk: Ramdisk) -> None:
    first = interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    second = interface.prepare_ramdisk(task(node="node-2", ramdisk=ramdisk, macs=(OTHER_MAC,)), {})
    assert set(first.files) & set(second.files) == LOADERS
    assert (root / first.files[-3]).samefile(root / second.files[-3])
    interface.clean_up_ramdisk(task())
    assert public(root) == set(second.files)
    interface.clean_up_ramdisk(task(node="node-2"))
    assert published(root) == set()


def test_who_writes_into_the_original_changes_nothing_that_is_published(
    interface: PXEBoot, root: Path, ramdisk: Ramdisk
) -> None:
    prepared = interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    kernel = root / prepared.files[-3]
    with Path(ramdisk.kernel).open("r+b") as file:
        file.write(b"another")
    assert kernel.read_bytes() == b"kernel" * 100
    assert not kernel.samefile(ramdisk.kernel)


def test_the_address_of_another_machine_is_refused(interface: PXEBoot, root: Path, ramdisk: Ramdisk) -> None:
    interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    before = published(root)
    with pytest.raises(BootTaskBusy) as caught:
        interface.prepare_ramdisk(task(node="node-2", ramdisk=ramdisk, macs=(OTHER_MAC, MAC)), {})
    assert (caught.value.subject, caught.value.holder) == (str(MAC), "node node-1")
    assert published(root) == before
    interface.clean_up_ramdisk(task())
    interface.prepare_ramdisk(task(node="node-2", ramdisk=ramdisk), {})


def test_a_configuration_of_somebody_else_is_refused(interface: PXEBoot, root: Path, ramdisk: Ramdisk) -> None:
    (root / "pxelinux.cfg").mkdir()
    (root / CONFIG).write_text("theirs")
    with pytest.raises(BootTaskBusy, match="whoever made"):
        interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    assert published(root) == {CONFIG}


def test_a_loader_of_somebody_else_stays(interface: PXEBoot, root: Path, ramdisk: Ramdisk) -> None:
    (root / "pxelinux.0").write_bytes(b"a loader")
    interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    interface.clean_up_ramdisk(task())
    assert published(root) == {"pxelinux.0"}
    (root / "pxelinux.0").write_bytes(b"another loader")
    with pytest.raises(InvalidParameterValue, match=r"pxelinux\.0 is there"):
        interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    assert published(root) == {"pxelinux.0"}


def test_a_new_version_of_a_loader_replaces_ours(
    interface: PXEBoot, root: Path, ramdisk: Ramdisk, tmp_path: Path
) -> None:
    interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    (tmp_path / "loaders/loader").write_bytes(b"a newer loader")
    interface.prepare_ramdisk(task(node="node-2", ramdisk=ramdisk, macs=(OTHER_MAC,)), {})
    assert (root / "pxelinux.0").read_bytes() == b"a newer loader"


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_root_that_is_none(tmp_path: Path, ramdisk: Ramdisk, kind: str) -> None:
    path = tmp_path / "elsewhere"
    if kind == "file":
        path.write_text("")
    interface = PXEBoot(path, server="192.0.2.1", loaders=small_loaders(tmp_path / "loaders"))
    for call in (
        lambda: interface.prepare_ramdisk(task(ramdisk=ramdisk), {}),
        lambda: interface.clean_up_ramdisk(task()),
    ):
        with pytest.raises(InvalidParameterValue, match="the root directory"):
            call()


@pytest.mark.parametrize("link", ["nodes", "pxelinux.cfg", STATE, "nodes/node-1"])
def test_a_link_in_the_root_leads_nowhere_else(
    interface: PXEBoot, root: Path, ramdisk: Ramdisk, tmp_path: Path, link: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    (root / link).parent.mkdir(exist_ok=True)
    (root / link).symlink_to(outside)
    with pytest.raises(PathFailed):
        interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    assert [path.name for path in outside.iterdir()] == ["precious"]


def test_a_link_under_the_name_of_a_loader_is_not_followed(
    interface: PXEBoot, root: Path, ramdisk: Ramdisk, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"a loader")
    (root / "pxelinux.0").symlink_to(outside)
    with pytest.raises(PathFailed, match="not a regular file"):
        interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    assert outside.read_bytes() == b"a loader"


def test_clean_up_removes_links_and_not_what_they_lead_to(
    interface: PXEBoot, root: Path, ramdisk: Ramdisk, tmp_path: Path
) -> None:
    prepared = interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    images = (root / prepared.files[-3]).parent
    (images / "more").symlink_to(outside)
    (root / CONFIG).unlink()
    (root / CONFIG).symlink_to(outside / "precious")
    interface.clean_up_ramdisk(task())
    assert published(root) == set()
    assert (outside / "precious").read_text() == "kept"


def test_what_does_not_fit_is_refused_before_anything_is_written(
    interface: PXEBoot, root: Path, tmp_path: Path
) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(NotEnoughRoom) as caught:
        interface.prepare_ramdisk(task(ramdisk=Ramdisk(kernel=huge, ramdisk=huge)), {})
    # Both are one file, which is stored once.
    assert 1 << 42 < caught.value.wanted < 1 << 43
    assert published(root) == set()


def test_a_file_that_changes_while_it_is_copied_leaves_nothing(
    interface: PXEBoot, root: Path, ramdisk: Ramdisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_bytes = sources._copy_bytes

    def copy_and_change(source: int, target: int, file: SeenFile) -> None:
        copy_bytes(source, target, file)
        with Path(ramdisk.ramdisk).open("ab") as appended:
            appended.write(b"more")

    monkeypatch.setattr(sources, "_copy_bytes", copy_and_change)
    with pytest.raises(SourceChanged):
        interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    assert published(root) == set()


def test_an_error_leaves_what_was_prepared_before(
    interface: PXEBoot, root: Path, ramdisk: Ramdisk, tmp_path: Path
) -> None:
    interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    before = {path: (root / path).read_bytes() for path in public(root)}
    plan = interface.plan_instance(task(instance=instance_of(files(tmp_path / "others"))))
    (tmp_path / "others/initrd").write_bytes(b"changed since")
    ((directory, planned),) = plan.roots
    with pytest.raises(SourceChanged):
        publishing.apply(directory, planned, dict.fromkeys(planned.shared, b"a loader"))
    assert {path: (root / path).read_bytes() for path in public(root)} == before
    interface.clean_up_ramdisk(task())
    assert published(root) == set()


def test_a_damaged_manifest_is_told(interface: PXEBoot, root: Path, ramdisk: Ramdisk) -> None:
    interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    (root / STATE / "nodes/node-1.json").write_bytes(b"{")
    with pytest.raises(DocumentInvalid):
        interface.clean_up_ramdisk(task())


# Crashes: a process of its own dies at the n-th change of a file system.

_CHANGES = ("open", "mkdir", "rename", "link", "unlink", "rmdir", "fsync", "copy_file_range")


def die_at(count: int, work: Callable[[], object]) -> bool:
    """Do the work in a process that is killed before its n-th change; return whether it got to its end."""
    child = os.fork()
    if child == 0:
        left = count

        def dying(real: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object, **more: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **more)

            return call

        for name in _CHANGES:
            setattr(os, name, dying(getattr(os, name)))
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return not os.WIFSIGNALED(status)


def every_crash(work: Callable[[], object]) -> Iterator[int]:
    """Crash after 0, 1, 2, ... changes, until the work gets to its end."""
    count = 0
    while not die_at(count, work):
        yield count
        count += 1
    assert count > 20


def config_is_whole(root: Path) -> None:
    """Whatever a machine finds, it can boot: the configuration isn't there, or all that it names is."""
    config = root / CONFIG
    if config.exists():
        words = config.read_text().split()
        for key in ("LINUX", "INITRD"):
            if key in words:
                assert (root / words[words.index(key) + 1]).stat().st_size >= 600
        assert (root / "pxelinux.0").read_bytes() == b"a loader"


def test_a_crash_while_preparing_can_be_cleaned_up(interface: PXEBoot, root: Path, ramdisk: Ramdisk) -> None:
    wanted = task(ramdisk=ramdisk)
    for _ in every_crash(lambda: interface.prepare_ramdisk(wanted, {})):
        config_is_whole(root)
        interface.clean_up_ramdisk(wanted)
        left = {path for path in published(root) if not path.startswith(f"{STATE}/locks/")}
        assert left == set()
    interface.clean_up_ramdisk(wanted)


def test_a_crash_while_preparing_can_be_prepared_again(
    interface: PXEBoot, root: Path, ramdisk: Ramdisk, tmp_path: Path
) -> None:
    wanted = task(ramdisk=ramdisk, instance=instance_of(files(tmp_path / "others")))
    for _ in every_crash(lambda: (interface.prepare_ramdisk(wanted, {}), interface.prepare_instance(wanted))):
        config_is_whole(root)
        interface.prepare_ramdisk(wanted, {})
        prepared = interface.prepare_instance(wanted)
        config_is_whole(root)
        interface.clean_up_ramdisk(wanted)
        assert public(root) == set(prepared.files)
        interface.clean_up_instance(wanted)
        assert public(root) == set()


def test_a_crash_in_the_change_to_the_instance_leaves_nothing_after_both_clean_ups(
    interface: PXEBoot, root: Path, ramdisk: Ramdisk, tmp_path: Path
) -> None:
    wanted = task(ramdisk=ramdisk, instance=instance_of(files(tmp_path / "others")))
    interface.prepare_ramdisk(wanted, {})
    for _ in every_crash(lambda: interface.prepare_instance(wanted)):
        config_is_whole(root)
        interface.clean_up_ramdisk(wanted)
        config_is_whole(root)
        interface.clean_up_instance(wanted)
        assert public(root) == set()
        interface.prepare_ramdisk(wanted, {})


def test_a_crash_while_cleaning_up_can_be_cleaned_up(interface: PXEBoot, root: Path, ramdisk: Ramdisk) -> None:
    wanted = task(ramdisk=ramdisk)
    interface.prepare_ramdisk(wanted, {})
    for _ in every_crash(lambda: interface.clean_up_ramdisk(wanted)):
        config_is_whole(root)
        interface.clean_up_ramdisk(wanted)
        assert public(root) == set()
        interface.prepare_ramdisk(wanted, {})


# Races.


@contextmanager
def held_elsewhere(root: Path, subject: str) -> Iterator[None]:
    """Have another process hold a lock."""
    script = (
        "import sys, pathlib\n"
        "from libironic_disk.machine.netboot import locking, rootdir\n"
        "with rootdir.opened(pathlib.Path(sys.argv[1])) as root:\n"
        "    with locking.locked(root, sys.argv[2], holder='node far'):\n"
        "        print('held', flush=True)\n"
        "        sys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", script, str(root), subject]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.communicate()


def test_another_process_is_at_work_on_the_machine(interface: PXEBoot, root: Path, ramdisk: Ramdisk) -> None:
    wanted = task(ramdisk=ramdisk)
    with held_elsewhere(root, str(MAC)):
        with pytest.raises(BootTaskBusy) as caught:
            interface.prepare_ramdisk(wanted, {})
        assert (caught.value.subject, caught.value.holder) == (str(MAC), "node far")
    interface.prepare_ramdisk(wanted, {})
    with held_elsewhere(root, "node-node-1"), pytest.raises(BootTaskBusy, match="node far"):
        interface.clean_up_ramdisk(wanted)
    interface.clean_up_ramdisk(wanted)
    assert published(root) == set()


def test_a_lock_is_gone_with_its_holder(root: Path) -> None:
    with rootdir.opened(root) as place:
        second = locking.locked(place, "x", holder="two")
        with locking.locked(place, "x", holder="one"), pytest.raises(BootTaskBusy, match="one has it"), second:
            pass
        with locking.locked(place, "x", holder="three"):
            pass
    assert published(root) == set()


def test_threads_that_want_one_address_get_it_one_by_one(interface: PXEBoot, root: Path, ramdisk: Ramdisk) -> None:
    done: list[str] = []
    unexpected: list[Exception] = []

    def work(node: str) -> None:
        for _ in range(20):
            try:
                interface.prepare_ramdisk(task(node=node, ramdisk=ramdisk), {})
                assert "/ramdisk-" in (root / CONFIG).read_text()
                assert f"nodes/{node}/" in (root / CONFIG).read_text()
                done.append(node)
                interface.clean_up_ramdisk(task(node=node))
            except BootTaskBusy:
                continue
            except Exception as error:
                unexpected.append(error)

    _all_at_once([lambda name=name: work(name) for name in ("node-1", "node-2", "node-3")])  # type: ignore[misc]
    for node in ("node-1", "node-2", "node-3"):
        interface.clean_up_ramdisk(task(node=node))
    assert unexpected == []
    assert done
    assert published(root) == set()


def test_machines_come_and_go_at_once(tmp_path: Path, interface: PXEBoot, root: Path) -> None:
    """They share loaders and images, which are there as long as one of them needs them."""
    shared = files(tmp_path / "images")
    unexpected: list[Exception] = []

    def work(number: int) -> None:
        wanted = task(
            node=f"n{number}", macs=(type(MAC)(f"52:54:00:00:00:{number:02x}"),), ramdisk=shared, firmware=Firmware.BIOS
        )
        try:
            for _ in range(10):
                prepared = interface.prepare_ramdisk(wanted, {})
                for path in prepared.files:
                    assert (root / path).stat().st_size
                interface.clean_up_ramdisk(wanted)
        except (AssertionError, OSError, DiskError) as error:
            unexpected.append(error)

    _all_at_once([lambda number=number: work(number) for number in range(4)])  # type: ignore[misc]
    assert unexpected == []
    assert published(root) == set()


def _all_at_once(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    with ExitStack() as stack:
        for thread in threads:
            thread.start()
            stack.callback(thread.join)


# What goes wrong half-way.


def failing_at(monkeypatch: pytest.MonkeyPatch, name: str, path: str, error: int = errno.EIO) -> None:
    """Let one call of the operating system fail where it is about one path, once."""
    real = getattr(os, name)
    left = [path]

    def call(*arguments: object, **more: object) -> object:
        if left and left[0] in arguments:
            left.clear()
            raise OSError(error, os.strerror(error))
        return real(*arguments, **more)

    monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize(
    "temporary", [".01-52-54-00-aa-bb-02.new", ".pxelinux.0.new", ".node-1.json.new", ".kernel.new"]
)
def test_a_name_that_is_not_given_leaves_everything_as_it_was(
    interface: PXEBoot,
    root: Path,
    ramdisk: Ramdisk,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    temporary: str,
) -> None:
    interface.prepare_ramdisk(task(ramdisk=ramdisk, macs=(MAC, OTHER_MAC)), {})
    (tmp_path / "loaders/loader").write_bytes(b"a newer loader")
    before = {path: (root / path).read_bytes() for path in published(root)}
    failing_at(monkeypatch, "rename", temporary)
    wanted = task(instance=instance_of(files(tmp_path / "others")), macs=(MAC, OTHER_MAC))
    with pytest.raises(PathFailed, match="Input/output error"):
        interface.prepare_instance(wanted)
    for loader in LOADERS:
        before.pop(loader)
    assert {path: (root / path).read_bytes() for path in published(root) - LOADERS} == before


def test_a_loader_of_somebody_else_stays_after_an_error(
    interface: PXEBoot, root: Path, ramdisk: Ramdisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "pxelinux.0").write_bytes(b"a loader")
    failing_at(monkeypatch, "rename", ".kernel.new")
    with pytest.raises(PathFailed, match="kernel"):
        interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    assert published(root) == {"pxelinux.0"}


def test_a_source_that_cannot_be_read_is_named(
    interface: PXEBoot, root: Path, ramdisk: Ramdisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: object, **more: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "copy_file_range", failing)
    monkeypatch.setattr(os, "pread", failing)
    with pytest.raises(SourceFailed, match="vmlinuz failed at byte 0: Input/output error"):
        interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    assert published(root) == set()


def test_a_lock_needs_no_descriptor_to_be_let_go(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with rootdir.opened(root) as place:
        before = {path.name for path in Path("/proc/self/fd").iterdir()}
        with locking.locked(place, "x", holder="one"):
            monkeypatch.setattr(place._tree, "_opener", failing_opener)
        assert {path.name for path in Path("/proc/self/fd").iterdir()} == before
    assert published(root) == set()


def failing_opener(root: int, path: str, flags: int) -> int:
    """Open nothing."""
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_a_full_disk_does_not_keep_from_a_lock(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with rootdir.opened(root) as place, locking.locked(place, "x", holder="one"):
        assert published(root) == {f"{STATE}/locks/x"}


def test_clean_up_removes_the_locks_that_a_crash_left(interface: PXEBoot, root: Path, ramdisk: Ramdisk) -> None:
    interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    for name in (f"node-{task().node}", str(MAC), "52:54:00:aa:bb:09"):
        (root / STATE / "locks" / name).write_text("node-1")
    interface.clean_up_ramdisk(task())
    (root / STATE / "locks" / f"node-{task().node}").write_text("")
    interface.clean_up_ramdisk(task())
    assert published(root) == set()


def test_a_directory_that_a_crash_left_closed_is_opened_to_the_server(
    interface: PXEBoot, root: Path, ramdisk: Ramdisk
) -> None:
    (root / "pxelinux.cfg").mkdir(mode=0o700)
    interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    assert stat.S_IMODE((root / "pxelinux.cfg").stat().st_mode) == 0o755
    (root / "pxelinux.cfg").chmod(0o700)
    interface.prepare_ramdisk(task(ramdisk=ramdisk), {})
    assert stat.S_IMODE((root / "pxelinux.cfg").stat().st_mode) == 0o700
