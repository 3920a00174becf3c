"""A file system that fills its device: ext by its own program, xfs and btrfs by the kernel, which alone can.

They are asked by ioctl(2): ``xfs_growfs`` and ``btrfs filesystem resize`` want a mount point, which a mount of
:mod:`~libironic_disk.machine.trees.mounts` hasn't.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Final

from libironic_disk.errors import DeviceFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine import process
from libironic_disk.machine.disks import disk_io
from libironic_disk.machine.trees.mounts import mounted, require_alone
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.units import KIB, MIB

GROWABLE: Final = frozenset(
    {FileSystem.BTRFS, FileSystem.EXT2, FileSystem.EXT3, FileSystem.EXT4, FileSystem.XFS},
)
"""The file systems that :func:`grow` knows."""

TOOLS: Final = ("e2fsck", "resize2fs")

_TIMEOUT: Final = 3600.0
_CORRECTED: Final = (0, 1)
# xfs_fs.h: XFS_IOC_FSGEOMETRY, _IOR('X', 126, 256 bytes), of which the block size comes first.
_XFS_GEOMETRY: Final = 0x8100587E
_XFS_GEOMETRY_SIZE: Final = 256
_XFS_IMAXPCT_AT: Final = 28
_XFS_BLOCKS_AT: Final = 32
# XFS_IOC_FSGROWFSDATA, _IOW('X', 110, struct xfs_growfs_data): data blocks, and how many percent inodes may take.
_XFS_GROW: Final = 0x4010586E
_XFS_GROWTH: Final = struct.Struct("=QI4x")
# btrfs.h: BTRFS_IOC_RESIZE, _IOW(0x94, 3, struct btrfs_ioctl_vol_args), and where a superblock has its device's number.
_BTRFS_RESIZE: Final = 0x50009403
_BTRFS_REQUEST: Final = struct.Struct("=q4088s")
_BTRFS_LEAST: Final = 256 * MIB  # fs/btrfs/ioctl.c, btrfs_ioctl_resize()
_BTRFS_DEVICES_AT: Final = 64 * KIB + 0x88
_BTRFS_DEVICE_AT: Final = 64 * KIB + 0xC9


def unable(filesystem: FileSystem, size: int) -> str:
    """Return why a file system can't be made to fill so many bytes; empty where nothing is known against it."""
    too_small = filesystem is FileSystem.BTRFS and size < _BTRFS_LEAST
    return "the kernel resizes no btrfs below 256 MiB" if too_small else ""


def grow(node: str, filesystem: FileSystem, *, cancel: Cancellation | None = None) -> None:
    """Let an unmounted file system fill its device; it is on the disk when this returns.

    Raises:
        ToolMissing: the program for it isn't installed; names the package.
        ProgramError: it failed, as on a damaged file system.
        DeviceFailed: the kernel can't mount it, or refuses, or it is on another device too.
        DeviceBusy: somebody has it mounted.
        Cancelled: the caller wished so.
    """
    require_alone(node)
    match filesystem:
        case FileSystem.XFS:
            _grow_xfs(node)
        case FileSystem.BTRFS:
            _grow_btrfs(node)
        case _:
            # resize2fs refuses what wasn't checked since it was mounted last.
            process.run("e2fsck", "-f", "-p", node, timeout=_TIMEOUT, ok=_CORRECTED, cancel=cancel)
            process.run("resize2fs", node, timeout=_TIMEOUT, cancel=cancel)


def _grow_xfs(node: str) -> None:
    with disk_io.opened(node, os.O_RDONLY) as fd:
        size = os.lseek(fd, 0, os.SEEK_END)
    with mounted(node, FileSystem.XFS, read_only=False) as root:
        geometry = bytearray(_XFS_GEOMETRY_SIZE)
        _ioctl(node, root, _XFS_GEOMETRY, geometry)
        (block_size,) = struct.unpack_from("=I", geometry)
        (percent,) = struct.unpack_from("=I", geometry, _XFS_IMAXPCT_AT)
        (blocks,) = struct.unpack_from("=Q", geometry, _XFS_BLOCKS_AT)
        if size // block_size > blocks:
            _ioctl(node, root, _XFS_GROW, bytearray(_XFS_GROWTH.pack(size // block_size, percent)))


def _grow_btrfs(node: str) -> None:
    with disk_io.opened(node, os.O_RDONLY) as fd:
        read = disk_io.reader(fd, node)
        devices = int.from_bytes(read(_BTRFS_DEVICES_AT, 8), "little")
        number = int.from_bytes(read(_BTRFS_DEVICE_AT, 8), "little")
        size = os.lseek(fd, 0, os.SEEK_END)
    reason = f"its btrfs is on {devices} devices" if devices != 1 else unable(FileSystem.BTRFS, size)
    if reason:
        raise DeviceFailed(device=node, action="growing the file system on", reason=reason)
    with mounted(node, FileSystem.BTRFS, read_only=False) as root:
        _ioctl(node, root, _BTRFS_RESIZE, bytearray(_BTRFS_REQUEST.pack(0, f"{number}:max".encode())))


def _ioctl(node: str, root: int, request: int, argument: bytearray) -> None:
    try:
        fcntl.ioctl(root, request, argument)
    except OSError as error:
        action = "growing the file system on"
        raise DeviceFailed(device=node, action=action, reason=error.strerror or str(error)) from error
