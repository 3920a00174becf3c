"""Two operating systems on one disk: chosen in GRUB's menu, tried, given up and kept.

The second half of ``make demo``. Debian 12 and Debian 13 get a root each and a volume that they share. Debian 13 is
then tried twice: the first time it crashes, and the machine comes back with Debian 12 by itself; the second time a
line in its shell confirms it.
"""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from examples.progress import progress_bar
from lab import cache_directory
from lab.debian import DebianImage, Release, build_partition_image
from lab.partitions import partition
from lab.qemu import Machine, booted
from libironic_disk import bootinfo, multiboot, switching
from libironic_disk.grub import SerialConsole
from libironic_disk.multiboot import MultibootRequest
from libironic_disk.pure.roles import Firmware
from libironic_disk.units import GIB

DISK_SIZE = 4 * GIB
CRASH = "echo c >/proc/sysrq-trigger"
RESTART = "systemctl reboot --force --force"


def description(images: dict[str, DebianImage]) -> dict[str, object]:
    """Return the document of the multi-image specification."""
    roots = [
        {
            "type": "partition",
            "mount": "/",
            "images": [name],
            "file_system": "ext4",
            "size": "1000",
            "name": f"root-{name}",
        }
        for name in images
    ]
    shared = {"type": "partition", "mount": "/srv", "images": list(images), "file_system": "ext4", "size": "256"}
    return {
        "images": [
            {
                "name": name,
                "boot": number == 0,
                "image_name": name,
                "image_uuid": image.root_uuid,
                "image_pull_url": f"file://{image.path}",
                "target": "/",
            }
            for number, (name, image) in enumerate(images.items())
        ],
        "partitions": [
            {"type": "disk", "id": {"type": "name", "value": "vda"}, "size": "4 GiB", "volumes": [*roots, shared]}
        ],
        "partitions_policy": "clean",
        "deploy_data": {"kernel_params": "console=ttyS0 lab.stay"},
    }


def deploy(console: Console, disk: Path, firmware: Firmware) -> None:
    """Put both systems on a blank disk."""
    console.rule("5. two systems: the plan")
    images = {
        "debian-12": build_partition_image(cache_directory(), Release.DEBIAN_12, log=console.print),
        "debian-13": build_partition_image(cache_directory(), Release.DEBIAN_13, log=console.print),
    }
    disk.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate(DISK_SIZE)
    request = MultibootRequest(
        description=multiboot.read(description(images)),
        devices=(str(disk),),
        file_sector_size=512,
        firmwares=frozenset({firmware}),
        menu_timeout=1,
        serial=SerialConsole(),
    )
    plan = multiboot.plan(request)
    console.print(str(plan), soft_wrap=True)
    console.rule("6. two systems: the deployment")
    with progress_bar(console) as sink:
        result = multiboot.apply(plan, sink=sink)
    for line in (*result.dropped, *result.warnings):
        console.print(f"note: {line}", soft_wrap=True)
    bootinfo.write(result.info, disk.with_suffix(".boot-info.json"))
    console.print(bootinfo.as_json(result.info), soft_wrap=True)


def boot(console: Console, disk: Path, firmware: Firmware, expected: str, then: str) -> None:
    """Boot, see which system comes up, and have it run a line that ends in a restart."""
    with booted(disk, firmware=firmware, keep=True) as machine:
        said = machine.wait_for("login:", timeout=300)
        name = f"Debian GNU/Linux {expected.removeprefix('debian-')}"
        if f"{name} debian ttyS0" not in said:
            raise SystemExit(f"not {name} came up:\n{said[-2000:]}")
        console.print(f"[green]ok[/]   {name} is up; it runs: {then}", soft_wrap=True)
        _run(machine, then)


def _run(machine: Machine, line: str) -> None:
    machine.type("root\n")
    machine.wait_for("~#", timeout=120)
    machine.type(f"{line}\n")
    machine.wait_until_off(timeout=120)


def try_and_confirm(console: Console, disk: Path, firmware: Firmware) -> None:
    """Boot the default; try the other one, which fails; try it again, and confirm it."""
    console.rule("7. the default boots, and a trial that fails comes back")
    boot(console, disk, firmware, "debian-12", RESTART)
    with partition(disk, "multiboot") as node:
        console.print(f"next: {switching.try_boot(node, 'debian-13', tries=1).boots_next}, one try")
    boot(console, disk, firmware, "debian-13", CRASH)
    boot(console, disk, firmware, "debian-12", RESTART)

    console.rule("8. a trial that is confirmed stays")
    with partition(disk, "multiboot") as node:
        console.print(f"failed: {switching.get_state(node).switch.failed}")
        console.print(f"next: {switching.try_boot(node, 'debian-13', tries=3).boots_next}, three tries")
        line = switching.confirm_command(switching.boot_info(node).multiboot_partition)
    boot(console, disk, firmware, "debian-13", f"{line}; {RESTART}")
    boot(console, disk, firmware, "debian-13", RESTART)
    with partition(disk, "multiboot") as node:
        console.print(f"default: {switching.get_state(node).switch.default}")


def main(console: Console, firmware: Firmware) -> None:
    """Deploy, boot, try, come back, confirm."""
    disk = Path(os.path.relpath(cache_directory())) / "demo" / f"several-{firmware}.img"
    deploy(console, disk, firmware)
    try_and_confirm(console, disk, firmware)
