"""The main job, end to end: a real Debian becomes a partition image, is deployed onto a disk, and boots from it.

The image is a qcow2 file on a web server, beside its checksums. It is decoded while it comes, and no copy of it is
made. The disk is a file. Run by ``make demo``, as root: a file becomes a disk through a loop device.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rich.console import Console

from examples import several_systems
from examples.progress import progress_bar
from lab import cache_directory
from lab.debian import DebianImage, DeployReport, build_partition_image, parse_deploy_report
from lab.imageserver import CHECKSUMS, served, write_checksums
from lab.qemu import booted
from libironic_disk import DeployRequest, DeployResult, Plan, deploy
from libironic_disk.grub import SerialConsole
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.disks import drawing
from libironic_disk.pure.roles import Firmware
from libironic_disk.units import GIB

DISK_SIZE = 4 * GIB
INSTANCE = "9f1c2e9e-6f1b-4f0e-8f3e-demo00000001"


def request(url: str, image: DebianImage, disk: Path, firmware: Firmware) -> DeployRequest:
    """Return what the demo asks for: root, swap, an ephemeral volume and a config drive on a blank disk."""
    return DeployRequest(
        device=str(disk),
        file_sector_size=512,
        image=url + image.path.name,
        image_checksum=url + CHECKSUMS,
        swap_mb=256,
        ephemeral_mb=512,
        config_drive={
            "meta_data": {"uuid": INSTANCE, "name": "demo"},
            "user_data": "#cloud-config\nhostname: demo\n",
        },
        firmware=firmware,
        kernel_parameters=KernelParameters.parse("console=ttyS0"),
        menu_timeout=1,
        serial=SerialConsole(),
    )


def boot_and_listen(disk: Path, firmware: Firmware) -> DeployReport:
    """Boot the disk and return what the system itself reports over its serial console."""
    with booted(disk, firmware=firmware) as machine:
        said = machine.wait_for("DEPLOY-REPORT done", timeout=300)
    report = parse_deploy_report(said)
    if report is None:
        raise SystemExit("the system booted but its report could not be read")
    return report


def show(console: Console, result: DeployResult, report: DeployReport) -> None:
    """Compare what was deployed with what the booted system found, and fail if they differ."""
    swap = next(part for part in result.partitions if part.name == "swap")
    where = report.config_drive or "no device"
    checks = (
        ("root is mounted from UUID", result.root_uuid, report.root_uuid),
        ("swap is on, bytes", str(swap.size - 4096), ", ".join(str(area.size) for area in report.swap)),
        (f"config drive, by its label on {where}, tells", INSTANCE, report.config_drive_uuid or "nothing"),
    )
    for what, wanted, found in checks:
        verdict = f"[green]ok[/]   {what} {found}" if wanted == found else f"[red]NO[/]   {what} {found}, not {wanted}"
        console.print(verdict)
    if any(wanted != found for _, wanted, found in checks):
        raise SystemExit(1)


def main() -> None:
    """Build, plan, deploy, boot."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--boot", type=Firmware, choices=list(Firmware), default=Firmware.BIOS)
    firmware: Firmware = arguments.parse_args().boot
    console = Console(highlight=False)
    deploy_and_boot(console, firmware)
    several_systems.main(console, firmware)


def deploy_and_boot(console: Console, firmware: Firmware) -> None:
    """Build the image, serve it, plan, deploy and boot."""
    # Shown relative to where one stands: an absolute path would fill half of a line.
    work = Path(os.path.relpath(cache_directory())) / "demo"
    work.mkdir(parents=True, exist_ok=True)

    console.rule("1. a Debian 12 partition image")
    image = build_partition_image(cache_directory(), log=console.print)
    console.print(
        f"{os.path.relpath(image.path)} with kernel {image.kernel_version}, root file system {image.root_uuid}"
    )
    write_checksums(image.path.parent, image.path.name)

    console.rule(f"2. the plan for a blank disk ({firmware})")
    disk = work / f"{firmware}.img"
    disk.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate(DISK_SIZE)
    with served(image.path.parent) as url:
        result = planned_and_applied(console, request(url, image, disk, firmware), work / f"{firmware}.svg")

    console.rule(f"4. the disk boots in QEMU ({'SeaBIOS' if firmware is Firmware.BIOS else 'OVMF'})")
    show(console, result, boot_and_listen(disk, firmware))


def planned_and_applied(console: Console, wanted: DeployRequest, picture: Path) -> DeployResult:
    """Show the plan, draw it, and do it."""
    plan = deploy.plan(wanted)
    console.print(str(plan), soft_wrap=True)
    if isinstance(plan.disk, Plan):
        picture.write_text(drawing.as_svg(plan.disk))
        console.print(f"drawn in {picture}")

    console.rule("3. the deployment")
    with progress_bar(console) as sink:
        result = deploy.apply(plan, sink=sink)
    for warning in result.warnings:
        console.print(f"warning: {warning}")
    return result


if __name__ == "__main__":
    main()
