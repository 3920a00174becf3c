"""New UUIDs for file systems that are copies: what finds a root by its UUID must find that one, and no other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, assert_never

from libironic_disk.errors import DeviceFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine import process
from libironic_disk.machine.disks import observing
from libironic_disk.machine.trees.mounts import mounted, require_alone
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.units import KIB

_TIMEOUT: Final = 1800.0
_BTRFS_LOG_ROOT: Final = 64 * KIB + 0x60
_CORRECTED: Final = (0, 1)


def required_tools(filesystems: Iterable[FileSystem]) -> tuple[str, ...]:
    """Return the programs that :func:`new_uuid` needs for these."""
    return tuple(sorted({argv[0] for each in filesystems for argv in _commands(each, "", "")}))


def new_uuid(node: str, filesystem: FileSystem, uuid: str, *, cancel: Cancellation | None = None) -> None:
    """Give the file system or swap area on an unmounted device another UUID, and look whether it has it.

    Args:
        node: the device.
        filesystem: what is on it.
        uuid: as blkid writes it; FAT's has 32 bits, as in ``1A2B-3C4D``.
        cancel: thrown by the caller, it kills the program. The file system has then one UUID or the other, or neither.

    Raises:
        ToolMissing: the program for it isn't installed; names the package.
        ProgramError: it failed, as on a damaged file system.
        DeviceFailed: it reads back otherwise, a log can't be replayed, or it is on another device too.
        DeviceBusy: somebody has it mounted.
        Cancelled: the caller wished so.
    """
    require_alone(node)
    _replay(node, filesystem)
    for argv in _commands(filesystem, node, uuid):
        process.run(*argv, timeout=_TIMEOUT, ok=_CORRECTED if argv[0] == "e2fsck" else (0,), cancel=cancel)
    found = [(each.kind, each.uuid) for each in observing.signatures_on(node)]
    if found != [(filesystem, uuid)]:
        raise DeviceFailed(device=node, action="changing the UUID of", reason=f"found {found} afterwards, not {uuid}")


def _replay(node: str, filesystem: FileSystem) -> None:
    """Empty the log of a file system that was not unmounted, as that in an image of a machine that lost its power.

    Before that xfs_admin (xfsprogs 6.1) changes nothing, and calls it a success; btrfstune (btrfs-progs 6.2) leaves the
    log to the old UUID, and with such a log nothing opens the file system any more. Only the kernel replays them.
    """
    if filesystem is FileSystem.XFS or (filesystem is FileSystem.BTRFS and _has_log(node)):
        with mounted(node, filesystem, read_only=False):
            return


def _has_log(node: str) -> bool:
    """Whether a btrfs superblock names a log tree: ``log_root`` isn't 0 (linux/btrfs_tree.h, btrfs_super_block)."""
    try:
        with Path(node).open("rb") as device:
            device.seek(_BTRFS_LOG_ROOT)
            return any(device.read(8))
    except OSError as error:
        raise DeviceFailed(device=node, action="reading", reason=error.strerror or str(error)) from error


def _commands(filesystem: FileSystem, node: str, uuid: str) -> tuple[tuple[str, ...], ...]:
    match filesystem:
        case FileSystem.EXT2 | FileSystem.EXT3 | FileSystem.EXT4:
            # With checksums the UUID is in all of them: tune2fs touches none before a check has found them right.
            return ("e2fsck", "-f", "-p", node), ("tune2fs", "-U", uuid, node)
        case FileSystem.XFS:
            return (("xfs_admin", "-U", uuid, node),)
        case FileSystem.BTRFS:
            # -M would be quicker, and GRUB 2.06 then finds the old UUID.
            return (("btrfstune", "-f", "-U", uuid, node),)
        case FileSystem.VFAT:
            return (("fatlabel", "--volume-id", node, uuid.replace("-", "")),)
        case FileSystem.SWAP:
            return (("swaplabel", "-U", uuid, node),)
        case _:
            assert_never(filesystem)
