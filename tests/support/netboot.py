"""Tasks, files and roots for the tests of network boots."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path, PurePath
from types import MappingProxyType

from libironic_disk.boot import BootTask, InstalledFile, Instance, Loaders, LoaderSet, MacAddress, Ramdisk
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.roles import Firmware

MAC, OTHER_MAC = MacAddress.all_of("52:54:00:aa:bb:01", "52:54:00:aa:bb:02")


def files(folder: Path) -> Ramdisk:
    """Make a kernel and a RAM disk of a few bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vmlinuz").write_bytes(b"kernel" * 100)
    (folder / "initrd").write_bytes(b"ramdisk" * 100)
    return Ramdisk(
        kernel=folder / "vmlinuz", ramdisk=folder / "initrd", parameters=KernelParameters.parse("console=ttyS0")
    )


def task(
    *,
    node: str = "node-1",
    macs: tuple[MacAddress, ...] = (MAC,),
    firmware: Firmware = Firmware.BIOS,
    ramdisk: Ramdisk | None = None,
    instance: Instance | None = None,
) -> BootTask:
    """Return a task, for a BIOS unless it is said otherwise."""
    return BootTask(node=node, macs=macs, firmware=firmware, ramdisk=ramdisk, instance=instance)


def small_loaders(folder: Path) -> Loaders:
    """Return a table in which every loader is a file of a few bytes, so that no test waits for grub-mkimage."""
    folder.mkdir(parents=True, exist_ok=True)
    small = folder / "loader"
    small.write_bytes(b"a loader")
    source = InstalledFile(path=PurePath(small), package="none")
    table: dict[object, LoaderSet] = {
        key: replace(found, files=dict.fromkeys(found.files, source)) for key, found in Loaders().table.items()
    }
    return Loaders(table=MappingProxyType(table))  # type: ignore[arg-type]


def check_grub(text: str) -> None:
    """Have GRUB's own checker read a script."""
    done = subprocess.run(["grub-script-check"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{text}"


def published(root: Path) -> set[str]:
    """Return the files below a root, those too that the library remembers things in."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir() or path.is_symlink()}
