"""Does the library's work on hostile roots, under a tracer, and says of each piece how it ended and what it left."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from libironic_disk import deploy, images, multiboot, switching, treeimages
from libironic_disk.errors import DiskError
from libironic_disk.events import Cancellation, ignore
from libironic_disk.grub import BootPlan, RootPartition, install, plan_boot
from libironic_disk.images import ImageType
from libironic_disk.machine.boot import image_entries, image_loaders, osprober
from libironic_disk.machine.trees import imagesetup
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.machine.trees.treewalk import open_walking
from libironic_disk.multiboot import MultibootRequest
from libironic_disk.pure.boot import fstab
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.menurecord import ImageRecord, Place
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.roles import Architecture, Firmware
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.request import DeployRequest, FirmwareEntry
from libironic_disk.units import KIB, MIB
from tests.support import hostile_careless, hostile_files, inside
from tests.support.hostile_roots import OLD_UUID, UUID

_PLACE = Place(filesystem=FileSystem.EXT4, uuid=UUID)
_RECORD = ImageRecord(
    name="own", image_name="own", image_uuid="", root=_PLACE, parameters=KernelParameters.parse("console=ttyS0")
)


def read(node: str) -> object:
    """Read what can be booted, as several systems' menu does."""
    found = image_entries.read(_RECORD, {UUID: node})
    return {
        "kernels": [each.entry.kernel for each in found.entries],
        "parameters": [str(each.entry.parameters) for each in found.entries],
        "titles": [each.entry.title for each in found.entries],
    }


def check(node: str) -> object:
    """Have GRUB's own code read what is booted first."""
    found = image_entries.read(_RECORD, {UUID: node})
    return list(image_entries.unreadable(found.image, found.entries[:1], {UUID: node}, Cancellation()))


def set_up(node: str) -> object:
    """Give the root its fstab, and a UUID in the place of another."""
    return _set_up(node, None)


def set_up_walking(node: str) -> object:
    """Do the same as where the kernel has no openat2."""
    return _set_up(node, open_walking)


def _set_up(node: str, opener: Callable[[int, str, int], int] | None) -> object:
    volumes = (
        fstab.Mounted(uuid=UUID, mount="/", filesystem=FileSystem.EXT4),
        fstab.Mounted(uuid="srv", mount="/srv/data", filesystem=FileSystem.EXT4),
    )
    with mounted(node, FileSystem.EXT4, read_only=False) as descriptor:
        tree = RootDir(descriptor, tree=node, opener=opener)
        changed = imagesetup.replace_uuids(tree, {OLD_UUID: UUID})
        known = frozenset({UUID, "srv"})
        dropped = imagesetup.write_fstab(tree, fstab.lines_for(volumes), merge=True, known=known)
    return {"changed": changed, "dropped": dropped}


def install_grub(node: str) -> object:
    """Install GRUB for a BIOS with its core behind the boot record."""
    root = RootPartition(node=node, filesystem=FileSystem.EXT4, uuid=UUID, partuuid="p")
    done = install(replace(_boot_plan(), device=node), root=root)
    return {"entries": [each.kernel for each in done.entries], "head": len(done.head)}


@cache
def _boot_plan() -> BootPlan:
    return plan_boot(
        device="any",
        firmware=Firmware.BIOS,
        architecture=Architecture.X86_64,
        table=TableKind.MBR,
        sector_size=512,
        first_partition_start=MIB,
        bios_boot=None,
        has_esp=False,
    )


def probe(node: str) -> object:
    """Ask os-prober."""
    report = osprober.probe({node: _PLACE}, timeout=100 if inside.is_inside() else 10)
    return {"titles": [each.title for each in report.found], "problems": list(report.problems)}


def find_loaders(node: str) -> object:
    """Look at an EFI system partition."""
    found = image_loaders.find(node, Architecture.X86_64)
    return {"loaders": [each.path for each in found.loaders], "problems": list(found.problems)}


def unpack(node: str, image: str) -> object:
    """Unpack an archive onto an empty file system."""
    return treeimages.unpack(images.inspect(Path(image)), {"/": (node, FileSystem.EXT4)}, sink=ignore)


def deploy_partition(node: str, image: str, firmware: str) -> object:
    """Deploy the image of a root."""
    request = DeployRequest(
        device=node, image=Path(image), firmware=Firmware(firmware), firmware_entry=FirmwareEntry.NEVER, root_mb=64
    )
    result = deploy.deploy(request)
    return {"entries": list(result.boot_entries), "nodes": [part.node for part in result.partitions]}


def deploy_whole_disk(node: str, image: str) -> object:
    """Write the image of a disk, find its root, and look at its ESP."""
    request = DeployRequest(
        device=node, image=Path(image), image_type=ImageType.WHOLE_DISK, firmware_entry=FirmwareEntry.NEVER
    )
    result = deploy.deploy(request)
    roots = [part.number for part in result.partitions if part.role == "root"]
    nodes = [part.node for part in result.partitions]
    return {"roots": roots, "nodes": nodes, "warnings": list(result.warnings), "loaders": find_loaders(nodes[0])}


def deploy_several(node: str, document: Mapping[str, object]) -> object:
    """Deploy a description of several images."""
    described = multiboot.read(dict(document))
    request = MultibootRequest(description=described, menu_timeout=1, firmware_entry=FirmwareEntry.NEVER)
    result = multiboot.apply(multiboot.plan(request))
    roots = [result.nodes[f"disk 1 root-{each.name}"] for each in described.images]
    return {
        "elements": [each.os_id for each in result.info.elements],
        "left_out": list(result.left_out),
        "warnings": list(result.warnings),
        "verified": list(switching.verify(result.multiboot, roots[:1])),
        "multiboot": result.multiboot,
    }


def switch(node: str, roots: Iterable[str], to: str) -> object:
    """Do all that can be done to systems that are there."""
    nodes = list(roots)
    problems: dict[str, str] = {}
    steps: dict[str, Callable[[], object]] = {
        "list": lambda: switching.list_entries(node),
        "verify": lambda: switching.verify(node, nodes),
        "refresh": lambda: switching.refresh(node, nodes),
        "try": lambda: switching.try_boot(node, to),
        "default": lambda: switching.set_default(node, to),
        "state": lambda: switching.get_state(node),
    }
    for name, step in steps.items():
        try:
            step()
        except DiskError as error:
            problems[name] = f"{type(error).__name__}: {error}"
    return {"problems": problems, "entries": [] if "list" in problems else [e.id for e in switching.list_entries(node)]}


def read_carelessly(node: str) -> object:
    """Read as :func:`read` does, with one safeguard taken out."""
    return hostile_careless.resolve_plainly(node, read)


def set_up_carelessly(node: str) -> object:
    """Set up as :func:`set_up` does, with one safeguard taken out."""
    return hostile_careless.resolve_plainly(node, set_up)


WORK: Mapping[str, Callable[..., object]] = {
    **hostile_careless.CARELESS,
    **hostile_files.FILES,
    **{
        function.__name__: function
        for function in (
            *(read, check, set_up, set_up_walking, install_grub, probe, find_loaders, unpack),
            *(deploy_partition, deploy_whole_disk, deploy_several, switch, read_carelessly, set_up_carelessly),
        )
    },
}


def _descriptors() -> set[str]:
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(f"{each.name} {each.readlink()}")
    return found


def _leaks(before: set[str], node: str) -> list[str]:
    """Return what is left of a piece of work: descriptors, threads, processes, mounts, files."""
    left = [f"descriptor {each}" for each in _descriptors() - before]
    left += [f"thread {each.name}" for each in threading.enumerate() if each is not threading.main_thread()]
    left += [f"process {each}" for each in Path("/proc/self/task", str(os.getpid()), "children").read_text().split()]
    mounts = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    left += [f"mount {row}" for row in mounts if node and (f" {node} " in row or f" {node}p" in row)]
    left += [f"file {each}" for each in Path(tempfile.gettempdir()).iterdir()]
    if not node:
        return left
    try:
        os.close(os.open(node, os.O_RDONLY | os.O_EXCL))
    except OSError as error:
        left.append(f"{node}: {error}")
    return left


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * KIB


def _one(name: str, node: str, arguments: Mapping[str, Any]) -> dict[str, object]:
    before = _descriptors()
    Path("/proc/self/clear_refs").write_text("5")
    began, started = _peak(), time.monotonic()
    answer: dict[str, object] = {"error": "", "said": "", "state": "", "is_typed": True}
    try:
        answer["value"] = WORK[name](node, **arguments)
    except Exception as error:  # which one is what the test asks
        answer["error"] = type(error).__name__
        answer["said"] = str(error)
        answer["is_typed"] = isinstance(error, DiskError)
        if isinstance(error, DiskError):
            answer["state"] = error.disk or ""
            answer["aftermath"] = error.aftermath
    answer["seconds"] = time.monotonic() - started
    answer["memory"] = _peak() - began
    answer["leaks"] = _leaks(before, node)
    return answer


def main() -> None:
    """Answer every line with one."""
    answers = os.fdopen(os.dup(1), "w")
    with ExitStack() as stack:
        stack.callback(answers.close)
        for line in sys.stdin:
            request = json.loads(line)
            mark, node = request.pop("mark"), request.pop("node")
            os.access(f"{mark}/begin", os.F_OK)
            answer = {name: _one(name, node, arguments) for name, arguments in request["works"].items()}
            os.access(f"{mark}/end", os.F_OK)
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
