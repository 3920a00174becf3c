"""File systems and swap areas: made with their label and UUID, and recognised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

import pyudev

from libironic_disk.errors import DeviceFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine import process
from libironic_disk.machine.disks import claims, observing, sysfs
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.images.superblocks import NEEDED, file_system_size

_TIMEOUT: Final = 1800.0
_UDEV_QUEUE: Final = Path("/run/udev/queue")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What lies on a device, in blkid's words; label and UUID are empty where there is none."""

    kind: str
    label: str = ""
    uuid: str = ""


def make(filesystem: FileSystem, node: str, *, label: str, uuid: str, cancel: Cancellation | None = None) -> None:
    """Make a file system or swap area on a device and look whether it is there.

    Args:
        filesystem: which one.
        node: the partition's device; whatever is on it is lost.
        label: empty for none.
        uuid: as blkid writes it; FAT's has 32 bits, as in ``1A2B-3C4D``.
        cancel: thrown by the caller, it kills the program.

    Raises:
        ToolMissing: the program for it isn't installed; names the package.
        ProgramError: the program failed or took longer than half an hour.
        DeviceFailed: another thing than what was made is on the device.
        Cancelled: the caller wished so.
    """
    process.run(*_command(filesystem, node, label, uuid), timeout=_TIMEOUT, cancel=cancel)
    found = [(s.kind, s.label, s.uuid) for s in observing.signatures_on(node)]
    if found != [(filesystem, label, uuid)]:
        raise DeviceFailed(device=node, action=f"making {filesystem} on", reason=f"found {found} afterwards")


def required_tools(filesystems: Iterable[FileSystem]) -> tuple[str, ...]:
    """Return the programs that making these needs."""
    return tuple(sorted({_command(filesystem, "", "", "")[0] for filesystem in filesystems}))


def probe(node: str) -> Probed | None:
    """Return what lies on a device, or None for nothing that is known.

    udevd's answer is taken where it runs, knows the device and has no event left to work on; anywhere else the device
    is read. After a write of our own only reading is right, and nothing in this package asks udevd then.

    Raises:
        NotABlockDevice: it isn't one.
        DeviceFailed: it can't be read, or holds several things at once.
    """
    devno = sysfs.block_device_number(node)
    return _ask_udev(devno) or read(node)


def size_of(node: str) -> int | None:
    """Return how many bytes the file system on a device says that it takes; None where it doesn't.

    Raises:
        DeviceFailed: it can't be read.
    """
    try:
        with Path(node).open("rb", buffering=0) as device:
            return file_system_size(device.read(NEEDED) or b"")
    except OSError as error:
        raise DeviceFailed(device=node, action="reading", reason=error.strerror or str(error)) from error


def read(node: str) -> Probed | None:
    """Return what lies on a device, read from the device itself, or None for nothing that is known.

    Raises:
        DeviceFailed: it can't be read, or holds several things at once.
    """
    found = observing.signatures_on(node)
    if len(found) > 1:
        kinds = ", ".join(signature.kind for signature in found)
        raise DeviceFailed(device=node, action="probing", reason=f"it is {kinds} at the same time; wipe it first")
    return Probed(kind=found[0].kind, label=found[0].label, uuid=found[0].uuid) if found else None


def _ask_udev(devno: int) -> Probed | None:
    # Without the daemon its database may be left over from another boot stage; with a queue it is behind.
    if not claims.is_udevd_there() or _UDEV_QUEUE.exists():
        return None
    try:
        device = pyudev.Devices.from_device_number(pyudev.Context(), "block", devno)
    except pyudev.DeviceNotFoundError:
        return None
    properties = device.properties
    if not device.is_initialized or "ID_FS_TYPE" not in properties:
        return None
    return Probed(
        kind=properties["ID_FS_TYPE"],
        label=_unescaped(properties.get("ID_FS_LABEL_ENC", "")),
        uuid=properties.get("ID_FS_UUID", ""),
    )


def _unescaped(text: str) -> str:
    """Undo udev's escapes: a backslash, an x and two hexadecimal digits stand for a byte."""
    head, *pieces = text.encode().split(b"\\x")
    return (head + b"".join(bytes([int(piece[:2], 16)]) + piece[2:] for piece in pieces)).decode(errors="replace")


def _command(filesystem: FileSystem, node: str, label: str, uuid: str) -> list[str]:
    match filesystem:
        case FileSystem.EXT2 | FileSystem.EXT3 | FileSystem.EXT4:
            return ["mke2fs", "-q", "-F", "-t", filesystem, "-U", uuid, *_option("-L", label), node]
        case FileSystem.XFS:
            return ["mkfs.xfs", "-q", "-f", "-m", f"uuid={uuid}", *_option("-L", label), node]
        case FileSystem.BTRFS:
            return ["mkfs.btrfs", "-q", "-f", "-U", uuid, *_option("-L", label), node]
        case FileSystem.VFAT:
            return ["mkfs.vfat", "-i", uuid.replace("-", ""), *_option("-n", label), node]
        case FileSystem.SWAP:
            return ["mkswap", "-f", "-U", uuid, *_option("-L", label), node]
        case _:
            assert_never(filesystem)


def _option(name: str, value: str) -> list[str]:
    return [name, value] if value else []
