"""Machines whose power went while a system was deployed over another, beside a volume that is kept: what they boot."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
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
from tests.support.power_cuts import Run, tell_power_cuts

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


class Cut(StrEnum):
    """When the power goes."""

    BEFORE_THE_FIRST_WRITE = "before the first write"
    BEFORE_THE_LAST_WRITE = "before the last write"
    AFTER_THE_LAST_WRITE = "after the last write"

    def left(self, run: Run) -> int:
        """Return how many writes are missing."""
        return {Cut.AFTER_THE_LAST_WRITE: 0, Cut.BEFORE_THE_LAST_WRITE: 1}.get(self, len(run.log.changes))


SAYS = {"old": "SYSTEM old", "nothing": bootsector.MARKER, "new": "SYSTEM new"}
"""What is seen on the console; a machine whose disk boots nothing goes on to its next device."""

BIOS, UEFI = Firmware.BIOS, Firmware.UEFI


@pytest.mark.parametrize(
    ("firmware", "cut", "outcome"),
    [
        pytest.param(BIOS, Cut.BEFORE_THE_LAST_WRITE, "nothing", id="bios-without-the-last-write"),
        pytest.param(BIOS, Cut.BEFORE_THE_FIRST_WRITE, "old", id="bios-before", marks=pytest.mark.full),
        pytest.param(BIOS, Cut.AFTER_THE_LAST_WRITE, "new", id="bios-after", marks=pytest.mark.full),
        pytest.param(UEFI, Cut.BEFORE_THE_FIRST_WRITE, "old", id="uefi-before", marks=pytest.mark.full),
        pytest.param(UEFI, Cut.AFTER_THE_LAST_WRITE, "new", id="uefi-after", marks=pytest.mark.full),
    ],
)
def test_a_machine_boots_the_old_system_its_next_device_or_the_new_one(
    bench: Bench, tmp_path: Path, firmware: Firmware, run: Run, cut: Cut, outcome: str, request: pytest.FixtureRequest
) -> None:
    disk = run.cut(cut.left(run)).after(bench.blank_file(0))
    # SeaBIOS takes one hard disk, so the next device is of another kind.
    other = bootsector.disk(tmp_path / "other")
    with other.open("r+b") as file:
        file.truncate(1440 * KIB)
    second = ("-drive", f"if=floppy,file={other},format=raw,snapshot=on")
    with booted(disk, firmware=firmware, more=second) as machine:
        assert SAYS[outcome] in machine.wait_for(SAYS[outcome], timeout=300)
    work = f"a machine boots that was being deployed beside a kept volume, {firmware}, {cut}"
    tell_power_cuts(request.config, work, run, Counter({outcome: 1}))
