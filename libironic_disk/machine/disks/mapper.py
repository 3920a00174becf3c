"""Device mapper: partitions of its disks, which the kernel doesn't make itself, as linear mappings of a part of each.

What makes a mapping a partition is kpartx's convention, which udev's rules and libparted share: its UUID is ``part``,
the number, ``-`` and then the disk's UUID; for a disk without one stands its device number (multipath-tools,
``kpartx/devmapper.h``, which wants this unchanged between releases). sysfs shows UUIDs and who is built upon whom. It
doesn't show where on the disk a mapping lies: only its table does, which ``dmsetup`` tells.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from libironic_disk.machine import process
from libironic_disk.machine.disks import shortage
from libironic_disk.pure.ranges import ByteRange

_UNIT: Final = 512
_TIMEOUT: Final = 120.0
_PARTITION: Final = re.compile(r"part([1-9][0-9]*)-(.+)", re.DOTALL)
_LINEAR: Final = re.compile(r"0 [0-9]+ linear ([0-9]+):([0-9]+) ([0-9]+)\n?")


def is_mapping(directory: Path) -> bool:
    """Whether a device, by its directory in sysfs, is device mapper's."""
    return (directory / "dm").is_dir()


def partition_of(directory: Path) -> tuple[int, str] | None:
    """Return the number of a partition, and the UUID of its disk; None if it isn't one, or is gone."""
    found = _PARTITION.fullmatch(_attribute(directory, "uuid"))
    return (int(found[1]), found[2]) if found else None


def disk_uuid(directory: Path, devno: int) -> str:
    """Return what stands for a disk in the UUIDs of its partitions."""
    return _attribute(directory, "uuid") or f"devnode_{os.major(devno)}:{os.minor(devno)}_Wh5pYvM"


def origin(devno: int) -> tuple[int, int] | None:
    """Return the number of the device that a mapping shows a part of, and from which byte on.

    None if it shows more than one part, is anything but linear, or has no table.

    Raises:
        ToolMissing: dmsetup isn't installed.
        ProgramError: it failed, as it does when the mapping is gone.
    """
    argv = ("dmsetup", "table", "--major", str(os.major(devno)), "--minor", str(os.minor(devno)))
    found = _LINEAR.fullmatch(process.run(*argv, timeout=_TIMEOUT).stdout.decode())
    return (os.makedev(int(found[1]), int(found[2])), int(found[3]) * _UNIT) if found else None


def require_tools() -> None:
    """Check that what makes and removes partitions is installed.

    Raises:
        ToolMissing: it isn't.
    """
    process.require(("dmsetup",))


def add_partition(directory: Path, devno: int, number: int, span: ByteRange) -> None:
    """Make a partition of a disk.

    Raises:
        ToolMissing: dmsetup isn't installed.
        ProgramError: it failed.
    """
    disk = f"{os.major(devno)}:{os.minor(devno)}"
    process.run(
        *("dmsetup", "create", f"{_attribute(directory, 'name')}-part{number}"),
        *("--uuid", f"part{number}-{disk_uuid(directory, devno)}"),
        *("--table", f"0 {span.size // _UNIT} linear {disk} {span.start // _UNIT}"),
        timeout=_TIMEOUT,
    )


def remove(directory: Path) -> None:
    """Remove a mapping; one that is open is tried again for 5 seconds.

    Raises:
        ToolMissing: dmsetup isn't installed.
        ProgramError: it failed.
    """
    process.run("dmsetup", "remove", "--retry", _attribute(directory, "name"), timeout=_TIMEOUT)


def is_open(name: str) -> bool:
    """Whether anybody has a mapping open; a program that does needn't have claimed it.

    Raises:
        ToolMissing: dmsetup isn't installed.
        ProgramError: it failed, as it does when the mapping is gone.
    """
    argv = ("dmsetup", "info", "--columns", "--noheadings", "--options", "open", name)
    return process.run(*argv, timeout=_TIMEOUT).stdout.strip() != b"0"


def _attribute(directory: Path, name: str) -> str:
    try:
        return (directory / "dm" / name).read_text().strip()
    except OSError as error:
        shortage.refuse(error, directory)
        return ""
