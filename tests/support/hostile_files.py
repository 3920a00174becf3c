"""Work on files and directories that somebody else may have filled: by a path of the caller, not on a device.

Config drives, ISOs, kernels and RAM disks that are published, the directory that a server publishes, documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from libironic_disk import bootinfo, bootiso, configdrive
from libironic_disk.boot import DirectoryPublisher, IPXEBoot, PXEBoot, Ramdisk, RamdiskInstance
from libironic_disk.bootiso import BootIsoSpec, ParameterChange
from libironic_disk.errors import BootIsoRefused, DiskError
from libironic_disk.pure.boot.kernelparams import KernelParameters
from tests.support.netboot import small_loaders, task

_CHANGE = ParameterChange(append=KernelParameters.parse("own.word"))


def _ended(step: Callable[[], object]) -> str:
    """Do one of several steps, and say which of the package's errors it ended with."""
    try:
        step()
    except DiskError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def load_drive(node: str, path: str) -> object:
    """Load a config drive for a disk of each kind of sectors; for the larger ones its files are put in a FAT."""
    return {
        "512": _ended(lambda: configdrive.load(Path(path))),
        "4096": _ended(lambda: configdrive.load(Path(path), sector_size=4096)),
    }


def change_iso(node: str, path: str, folder: str) -> object:
    """Open a boot ISO, read all of its files, and write a changed one with each of both engines."""
    made, by_xorriso = Path(folder, "changed.iso"), Path(folder, "by-xorriso.iso")
    with bootiso.open_iso(path) as iso:
        for each in iso.image.files():
            with suppress(BootIsoRefused):
                iso.read(each.path)
        ended = {
            "parameters": _ended(lambda: iso.patch(parameters=_CHANGE).write(made)),
            "file": _ended(lambda: iso.patch(files={"/boot/grub/new.cfg": b"new"}).write(made)),
        }
        unresolved = list(iso.unresolved)
    ended["xorriso"] = _ended(lambda: bootiso.patch_with_xorriso(path, by_xorriso, parameters=_CHANGE))
    return {"ended": ended, "unresolved": unresolved}


def build_iso(node: str, kernel: str, ramdisk: str, folder: str) -> object:
    """Build a boot ISO of a kernel and a RAM disk, for a BIOS."""
    spec = BootIsoSpec(kernel=Path(kernel), ramdisk=Path(ramdisk), parameters=KernelParameters.parse("a"))
    bootiso.build_boot_iso(spec, Path(folder, "built.iso"))
    return None


def publish(node: str, root: str, kernel: str, ramdisk: str, loaders: str) -> object:
    """Publish a machine's files for PXE and for iPXE, and take them back, whatever became of that."""
    found = small_loaders(Path(loaders))
    system = Ramdisk(kernel=Path(kernel), ramdisk=Path(ramdisk))
    wanted = task(ramdisk=system, instance=RamdiskInstance(kernel=system.kernel, ramdisk=system.ramdisk))
    pxe = PXEBoot(Path(root), server="192.0.2.1", loaders=found)
    ipxe = IPXEBoot(Path(root), url="http://192.0.2.1/", server="192.0.2.1", loaders=found)
    ended: dict[str, str] = {}
    for name, interface in (("PXE", pxe), ("iPXE", ipxe)):
        steps: Mapping[str, Callable[[], object]] = {
            "validate": lambda: interface.validate(wanted),  # noqa: B023
            "ramdisk": lambda: interface.prepare_ramdisk(wanted, {}),  # noqa: B023
            "no ramdisk": lambda: interface.clean_up_ramdisk(wanted),  # noqa: B023
            "instance": lambda: interface.prepare_instance(wanted),  # noqa: B023
            "no instance": lambda: interface.clean_up_instance(wanted),  # noqa: B023
        }
        ended |= {f"{name}, {step}": _ended(steps[step]) for step in steps}
    return ended


def publish_file(node: str, root: str, path: str) -> object:
    """Publish one file, and take it back."""
    publisher = DirectoryPublisher(Path(root), "http://192.0.2.1")
    try:
        return publisher.publish("a.iso", Path(path))
    finally:
        publisher.withdraw("a.iso")


def read_info(node: str, path: str) -> object:
    """Read a boot-info.json, and write one in its place."""
    read = _ended(lambda: bootinfo.read(path))
    info = bootinfo.BootInfo(elements=(), current_element=0, multiboot_partition="")
    return {"read": read, "write": _ended(lambda: bootinfo.write(info, path))}


FILES: Mapping[str, Callable[..., object]] = {
    function.__name__: function for function in (load_drive, change_iso, build_iso, publish, publish_file, read_info)
}
