"""The power goes while files are published or written: the old one is there or the new one, and in the end the new one.

They lie on an ext4 that keeps no order between data and names, of which others bring the journal to the disk all the
time: what is renamed without having been brought to the disk is an empty file then, or one of somebody else's bytes.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from libironic_disk import bootinfo, bootiso
from libironic_disk.boot import PXEBoot
from libironic_disk.boot.publishing import DirectoryPublisher
from libironic_disk.bootinfo import BootElement, BootInfo
from libironic_disk.units import KIB, MIB
from tests.conftest import Bench
from tests.loopdevices.powercuts.conftest import Tell
from tests.support import bootisos, netboot
from tests.support.block_log import logged
from tests.support.disks import attach, copied, mounted
from tests.support.own_mounts import apart
from tests.support.power_cuts import Run
from tests.support.write_log import WriteLog

pytestmark = [pytest.mark.loopdevice, pytest.mark.timeout(600)]

SIZE = 96 * MIB
OPTIONS = "data=writeback,noauto_da_alloc"
Write = Callable[[Path, str], None]
Files = dict[str, bytes]


def write_boot_info(folder: Path, version: str) -> None:
    """Write boot-info.json."""
    element = BootElement(
        grub_id=0, image_name=version, os_id="os", image_uuid="", boot_name=version * 3000, root_uuid="u", entry_id="e"
    )
    info = BootInfo(elements=(element,), current_element=0, multiboot_partition="m")
    bootinfo.write(info, folder / "public" / "boot-info.json")


def publish_a_link(folder: Path, version: str) -> None:
    """Publish a file of the same file system."""
    DirectoryPublisher(folder / "public", "http://192.0.2.1").publish("a.iso", folder / f"{version}.iso")


def publish_a_copy(folder: Path, version: str) -> None:
    """Publish a file that not everybody may read."""
    DirectoryPublisher(folder / "public", "http://192.0.2.1").publish("a.iso", folder / f"{version}.secret")


def withdraw(folder: Path, version: str) -> None:
    """Publish a file, or take it back."""
    if version == "old":
        publish_a_copy(folder, version)
    else:
        DirectoryPublisher(folder / "public", "http://192.0.2.1").withdraw("a.iso")


def publish_for_the_network(folder: Path, version: str) -> None:
    """Publish a RAM disk, its loaders and its configuration."""
    loaders = netboot.small_loaders(folder / version)
    ramdisk = netboot.files(folder / version / "images")
    Path(ramdisk.kernel).write_bytes(version.encode() * 3000)
    interface = PXEBoot(folder / "public", server="192.0.2.1", loaders=loaders)
    interface.prepare_ramdisk(netboot.task(ramdisk=ramdisk), {"version": version})


def write_an_iso(folder: Path, version: str) -> None:
    """Write a patched ISO out."""
    with bootiso.open_iso(folder / "base.iso") as iso:
        iso.patch(parameters=bootisos.change(version)).write(folder / "public" / "a.iso")


def write_an_iso_by_xorriso(folder: Path, version: str) -> None:
    """Have xorriso write a patched ISO."""
    changed = bootisos.change(version)
    bootiso.patch_with_xorriso(folder / "base.iso", folder / "public" / "a.iso", parameters=changed)


WRITES: dict[str, Write] = {
    "boot-info.json": write_boot_info,
    "a linked ISO": publish_a_link,
    "a copied ISO": publish_a_copy,
    "a withdrawn ISO": withdraw,
    "a network root": publish_for_the_network,
    "a patched ISO": write_an_iso,
    "an ISO of xorriso": write_an_iso_by_xorriso,
}


def make(node: str, folder: Path, write: Write) -> None:
    """Fill a file system, in which the old version is written."""
    menu = b"menuentry x {\nlinux /vmlinuz quiet\n}\n"
    with mounted(node, folder, "-o", OPTIONS):
        (folder / "public").mkdir()
        for version in ("old", "new"):
            for suffix, mode in (("iso", 0o644), ("secret", 0o600)):
                source = folder / f"{version}.{suffix}"
                source.write_bytes(version.encode() * 40 * KIB)
                source.chmod(mode)
        bootisos.efi_iso(folder / "base.iso", esp={}, tree={"boot/grub/grub.cfg": menu})
        write(folder, "old")


@contextmanager
def busy(folder: Path) -> Iterator[None]:
    """Have others bring the journal to the disk all the time; their own data, and no more."""
    stop = threading.Event()

    def commit() -> None:
        descriptor = os.open(folder / "of-others", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
        while not stop.wait(0.002):
            os.ftruncate(descriptor, 0)
            os.fsync(descriptor)
        os.close(descriptor)

    thread = threading.Thread(target=commit)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def public(folder: Path) -> Files:
    """Return what a server would give out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def after_repair(disk: Path, copy: Path, folder: Path) -> Files:
    """Return what is public once the journal was played back."""
    copied(disk, copy)
    checked = subprocess.run(["e2fsck", "-p", str(copy)], capture_output=True, text=True, check=False)
    assert checked.returncode in (0, 1), checked.stdout
    with attach(copy, 512) as again, mounted(again.node, folder, "-o", "ro"):
        return public(folder / "public")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The new version written over the old one, and what is public before and afterwards."""

    run: Run
    old: Files
    new: Files


def scene(bench: Bench, folder: Path, write: Write, *, with_others: bool) -> Scene:
    """Write the new version over the old one."""
    file, before = bench.blank_file(SIZE), bench.blank_file(0)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", "4096", str(file)], check=True)
    with attach(file, 512) as plain:
        apart(partial(make, plain.node, folder, write))
    copied(file, before)
    with logged(file) as disk:

        def written() -> tuple[Files, WriteLog, Files]:
            with mounted(disk.node, folder, "-o", OPTIONS):
                old = public(folder / "public")
                with busy(folder) if with_others else nullcontext():
                    write(folder, "new")
                return old, disk.written(), public(folder / "public")

        old, log, new = apart(written)
    assert old != new
    return Scene(run=Run(before=before, log=log, sector_size=4096), old=old, new=new)


@pytest.mark.parametrize("name", WRITES)
def test_what_is_public_is_old_or_new(bench: Bench, tmp_path: Path, torn: int, tell: Tell, name: str) -> None:
    done = scene(bench, tmp_path / "mounted", WRITES[name], with_others=True)
    place, copy = bench.blank_file(0), bench.blank_file(0)

    def seen() -> Counter[str]:
        outcomes: Counter[str] = Counter()
        for moment in done.run.moments(place, seed=24, torn=torn):
            found = after_repair(place, copy, tmp_path / "mounted")
            for path, data in found.items():
                assert data in (done.old.get(path), done.new.get(path)), f"{moment.name}: {path}"
            assert found.keys() >= done.old.keys() & done.new.keys(), moment.name
            outcomes["old" if found == done.old else "new" if found == done.new else "files of both"] += 1
        return outcomes

    outcomes = apart(seen)
    assert outcomes["old"] > 0
    tell(f"written to a file system: {name}", done.run, outcomes)


@pytest.mark.parametrize("name", WRITES)
def test_what_has_returned_is_on_the_disk(bench: Bench, tmp_path: Path, name: str) -> None:
    done = scene(bench, tmp_path / "mounted", WRITES[name], with_others=False)
    # What was not flushed need not be there.
    flushed = replace(done.run, log=WriteLog(groups=(*done.run.log.groups[:-1], ())))
    found = apart(partial(after_repair, flushed.after(bench.blank_file(0)), bench.blank_file(0), tmp_path / "mounted"))
    assert found == done.new
