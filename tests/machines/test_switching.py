"""Several systems on one disk, in SeaBIOS and OVMF: what was chosen boots, and what fails on trial goes back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from lab import smallsystem
from lab.partitions import partition
from lab.qemu import booted
from libironic_disk import switching
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.multiboot import MultibootResult
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.roles import Firmware
from libironic_disk.switching import MultibootState
from tests.support import multiboot_disks
from tests.support.disks import copied

pytestmark = [pytest.mark.machine, pytest.mark.timeout(900)]

T = TypeVar("T")
PANIC = "echo c >/proc/sysrq-trigger"
RESTART = "reboot -f"


@dataclass(frozen=True, slots=True, kw_only=True)
class Computer:
    """A disk, and the firmware that starts it."""

    disk: Path
    firmware: Firmware

    def boot(self, expected: str, then: str = RESTART) -> str:
        """Boot, see that it is this system, and have it run a line that restarts the machine."""
        with booted(self.disk, firmware=self.firmware, keep=True, memory_mib=512) as machine:
            said = machine.wait_for("READY", timeout=120)
            assert f"SYSTEM {expected} " in said, said
            machine.type(f"{then}\n")
            machine.wait_until_off(timeout=90)
        return next(line for line in said.splitlines() if line.startswith("SYSTEM "))

    def switch(self, call: Callable[[str], T]) -> T:
        """Call something with the multiboot partition."""
        with partition(self.disk, "multiboot") as node:
            return call(node)

    def state(self) -> MultibootState:
        """Return what boots next."""
        return self.switch(switching.get_state)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MultibootResult]:
    """The deployed disk, which each test copies."""
    folder = tmp_path_factory.mktemp("multiboot")
    return folder / "disk", multiboot_disks.deployed(folder / "disk", multiboot_disks.description(folder))


# Each call by itself is tried with BIOS below.
@pytest.fixture(params=[pytest.param(Firmware.BIOS, marks=pytest.mark.full), Firmware.UEFI])
def computer(request: pytest.FixtureRequest, original: tuple[Path, MultibootResult], tmp_path: Path) -> Computer:
    """A machine of its own for each kind of firmware."""
    return Computer(disk=_copy(original, tmp_path), firmware=request.param)


@pytest.fixture
def bios(original: tuple[Path, MultibootResult], tmp_path: Path) -> Computer:
    """A machine whose firmware is quick."""
    return Computer(disk=_copy(original, tmp_path), firmware=Firmware.BIOS)


def _copy(original: tuple[Path, MultibootResult], folder: Path) -> Path:
    return copied(original[0], folder / "disk")


def test_systems_are_booted_once_tried_and_confirmed(computer: Computer) -> None:
    said = computer.boot("one")
    assert " multiboot.entry=one-" in said
    assert "panic=" not in said
    computer.switch(lambda node: switching.boot_once(node, "two"))
    computer.boot("two")
    computer.boot("one")

    computer.switch(lambda node: switching.try_boot(node, "two", tries=1))
    assert "panic=10" in computer.boot("two", then=PANIC)
    computer.boot("one")
    state = computer.state()
    assert (state.switch.trial, state.switch.failed.split("-")[0]) == ("", "two")

    computer.switch(lambda node: switching.try_boot(node, "small-two"))
    uuid = computer.switch(lambda node: switching.boot_info(node).multiboot_partition)
    computer.boot("two", then=f"({switching.confirm_command(uuid)}) && {RESTART}")
    assert computer.state().switch.confirmed
    computer.boot("two")
    assert computer.state().switch.default.startswith("two-")


def test_three_tries_are_three(bios: Computer) -> None:
    bios.switch(lambda node: switching.try_boot(node, "two", tries=3))
    for left in (2, 1, 0):
        bios.boot("two", then=PANIC)
        assert bios.state().switch.tries_left == left
    bios.boot("one")


def test_a_system_on_trial_whose_root_is_gone_is_left_at_once(bios: Computer) -> None:
    bios.switch(lambda node: switching.try_boot(node, "two"))
    with partition(bios.disk, "root-two") as node:
        subprocess.run(["wipefs", "--quiet", "--all", node], check=True)
    bios.boot("one")


def test_the_line_that_confirms_changes_nothing_in_another_system(bios: Computer) -> None:
    bios.switch(lambda node: switching.try_boot(node, "two"))
    before = bios.state()
    uuid = bios.switch(lambda node: switching.boot_info(node).multiboot_partition)
    bios.switch(lambda node: switching.boot_once(node, "one"))
    bios.boot("one", then=f"{switching.confirm_command(uuid)}; {RESTART}")
    assert bios.state() == before


def test_a_default_whose_kernel_is_gone_boots_its_other_kernel(bios: Computer) -> None:
    """The system removed it, and nobody refreshed the menu."""
    version, kernel, initrd = smallsystem.kernel_and_initrd("99.1-update")
    with partition(bios.disk, "root-one") as node:
        paths = (f"/boot/vmlinuz-{version}", f"/boot/initrd.img-{version}")
        with mounted(node, FileSystem.EXT4, read_only=False) as descriptor:
            tree = RootDir(descriptor, tree=node)
            for path, data in zip(paths, (kernel, initrd), strict=True):
                tree.write_file(path, data)
        bios.switch(lambda multiboot: switching.refresh(multiboot, [node]))
        with mounted(node, FileSystem.EXT4, read_only=False) as descriptor:
            for path in paths:
                Path(f"/proc/self/fd/{descriptor}{path}").unlink()
    assert "KERNEL 6" in bios.boot("one")


def test_a_kernel_update_inside_an_image_boots_after_a_refresh(bios: Computer) -> None:
    version, kernel, initrd = smallsystem.kernel_and_initrd("99.1-update")
    with partition(bios.disk, "root-one") as node:
        with mounted(node, FileSystem.EXT4, read_only=False) as descriptor:
            tree = RootDir(descriptor, tree=node)
            tree.write_file(f"/boot/vmlinuz-{version}", kernel)
            tree.write_file(f"/boot/initrd.img-{version}", initrd)
        (problem,) = bios.switch(lambda multiboot: switching.verify(multiboot, [node]))[:1]
        assert "refresh" in problem
        bios.switch(lambda multiboot: switching.refresh(multiboot, [node]))
    assert f"KERNEL {version} " in bios.boot("one")


def test_the_report_says_what_was_deployed(original: tuple[Path, MultibootResult]) -> None:
    _, result = original
    assert [(each.os_id, each.image_name, each.grub_id) for each in result.info.elements] == [
        ("one", "small-one", 0),
        ("two", "small-two", 1),
    ]
    assert result.info.current_element == 0
    assert result.left_out == ("tools: there is no kernel in its /boot",)
