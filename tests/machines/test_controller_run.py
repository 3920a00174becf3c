"""A machine's way from its first boot to its instance, with the calls that a controller makes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lab import netboot, smallsystem, testmachine
from lab.netboot import HOST, MAC, Network
from lab.qemu import DISK_BOOT_INDEX, processor, started
from lab.testmachine import SHARE, STATUS
from libironic_disk.boot import BootDevice, BootInterface, BootTask, IPXEBoot, LocalDisk, MacAddress, Ramdisk
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.roles import Firmware
from libironic_disk.units import GIB

pytestmark = [pytest.mark.machine, pytest.mark.timeout(900)]

TIMEOUT = 600
SCRIPT = f"""\
import sys
from pathlib import Path

from libironic_disk import DeployRequest, KernelParameters, deploy
from libironic_disk.pure.roles import Firmware

deploy.deploy(
    DeployRequest(
        device="/dev/disk/by-id/virtio-instance",
        image=Path(sys.argv[1]),
        firmware=Firmware.BIOS,
        kernel_parameters=KernelParameters.parse("console=ttyS0"),
        menu_timeout=0,
    )
)
Path("{SHARE}/cmdline").write_text(Path("/proc/cmdline").read_text())
"""


def test_a_machine_is_deployed_by_ipxe_and_boots_its_disk_from_then_on(tmp_path: Path) -> None:
    image = smallsystem.build(tmp_path / "small.img", "deployed-here")
    # By -c, what is imported is this checkout's.
    system = testmachine.prepared(tmp_path, (sys.executable, "-c", SCRIPT, str(image)))
    disk, root = tmp_path / "disk", tmp_path / "published"
    root.mkdir()
    with disk.open("wb") as file:
        file.truncate(GIB)
    task = BootTask(
        node="node-1",
        macs=(MacAddress(MAC),),
        firmware=Firmware.BIOS,
        ramdisk=Ramdisk(
            kernel=system.kernel,
            ramdisk=system.initramfs,
            parameters=KernelParameters.parse(system.command_line),
        ),
    )
    with netboot.web_server(root) as (url, asked):
        boot: BootInterface = IPXEBoot(root, url=url, server=HOST)
        # One machine, whose firmware tries the network first, whatever is on its disk.
        machine = [
            *(*processor(), "-m", "1536", *system.devices),
            *("-drive", f"if=none,id=disk,format=raw,file={disk}"),
            *("-device", f"virtio-blk-pci,drive=disk,serial=instance,bootindex={DISK_BOOT_INDEX}"),
            *Network(boot_file=f"{url}boot.ipxe").arguments(),
        ]

        boot.validate(task)
        prepared = boot.prepare_ramdisk(task, {"ipa-api-url": "http://192.0.2.7:6385"})
        assert (prepared.device, prepared.persistent) == (BootDevice.PXE, False)
        assert f"{url}boot.ipxe" in {option.value for option in prepared.dhcp}
        with started(machine) as console:
            console.wait_until_off(timeout=TIMEOUT)
            assert (system.share / STATUS).read_text() == "0\n", console.transcript
        told = KernelParameters.parse((system.share / "cmdline").read_text().rstrip("\n")).words
        assert told[-2:] == ("ipa-api-url=http://192.0.2.7:6385", f"BOOTIF=01-{MAC.replace(':', '-')}")
        boot.clean_up_ramdisk(task)
        assert [path for path in root.rglob("*") if path.is_file()] == []

        deployed = replace(task, instance=LocalDisk())
        prepared = boot.prepare_instance(deployed)
        assert (prepared.device, prepared.persistent) == (BootDevice.DISK, True)
        asked.clear()
        with started(machine) as console:
            said = console.wait_for("READY", timeout=TIMEOUT)
        assert "SYSTEM deployed-here" in said
        assert asked == ["/boot.ipxe", f"/ipxe/{MAC.replace(':', '-')}.ipxe"]

        boot.clean_up_instance(deployed)
        assert [path for path in root.rglob("*") if path.is_file()] == []
