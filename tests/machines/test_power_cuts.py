"""Machines whose power went while a system was deployed over another, beside a volume that is kept: what they boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import smallsystem
from lab.qemu import booted
from libironic_disk.deploy import deploy
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.roles import Firmware
from libironic_disk.request import DeployRequest
from libironic_disk.units import KIB, MIB
from tests.conftest import Bench
from tests.support import bootsector
from tests.support.block_log import logged
from tests.support.disks import attach, copied
from tests.support.power_cuts import Run

pytestmark = [pytest.mark.machine, pytest.mark.loopdevice, pytest.mark.timeout(900)]


@pytest.fixture
def run(bench: Bench, tmp_path: Path, firmware: Firmware) -> Run:
    """A disk with one small system that gets another one."""
    file, before = bench.blank_file(760 * MIB), bench.blank_file(0)
    with attach(file, 512) as plain:
        deployed(plain.node, smallsystem.build(tmp_path / "old.img", "old"), firmware)
    copied(file, before)
    with logged(file) as disk:
        deployed(disk.node, smallsystem.build(tmp_path / "new.img", "new"), firmware, preserve=True)
        disk.settle()
        return Run(before=before, log=disk.written())


def deployed(node: str, image: Path, firmware: Firmware, *, preserve: bool = False) -> None:
    """Deploy a small system beside an ephemeral volume."""
    request = DeployRequest(
        device=node,
        image=image,
        firmware=firmware,
        root_mb=100,
        ephemeral_mb=16,
        preserve_ephemeral=preserve,
        menu_timeout=0,
        kernel_parameters=KernelParameters.parse("console=ttyS0 quiet"),
    )
    deploy(request)


BIOS, UEFI = Firmware.BIOS, Firmware.UEFI


@pytest.mark.parametrize(
    ("firmware", "left", "says"),
    [
        pytest.param(BIOS, 1, bootsector.MARKER, id="bios-without-the-last-write"),
        pytest.param(BIOS, None, "SYSTEM old", id="bios-before", marks=pytest.mark.full),
        pytest.param(BIOS, 0, "SYSTEM new", id="bios-after", marks=pytest.mark.full),
        pytest.param(UEFI, None, "SYSTEM old", id="uefi-before", marks=pytest.mark.full),
        pytest.param(UEFI, 0, "SYSTEM new", id="uefi-after", marks=pytest.mark.full),
    ],
)
def test_a_machine_boots_the_old_system_its_next_device_or_the_new_one(
    bench: Bench, tmp_path: Path, firmware: Firmware, run: Run, left: int | None, says: str
) -> None:
    disk = run.cut(len(run.log.changes) if left is None else left).after(bench.blank_file(0))
    # SeaBIOS takes one hard disk, so the next device is of another kind.
    other = bootsector.disk(tmp_path / "other")
    with other.open("r+b") as file:
        file.truncate(1440 * KIB)
    second = ("-drive", f"if=floppy,file={other},format=raw,snapshot=on")
    with booted(disk, firmware=firmware, more=second) as machine:
        assert says in machine.wait_for(says, timeout=120)
