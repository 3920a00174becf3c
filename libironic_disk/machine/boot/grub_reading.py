"""Whether GRUB reads the files that it is to boot as the kernel does.

GRUB has file system code of its own. It knows fewer features than the kernel (ext4's bigalloc, inline_data, ea_inode
or casefold) and stumbles over contents that the kernel takes (holes in a file on btrfs, a hole at the start of one on
ext4), and at boot there is nobody left to tell. grub-fstest is that very code, built as a program.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from libironic_disk.errors import BootImpossible, DeviceFailed, ProgramFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine import process
from libironic_disk.machine.disks import disk_io
from libironic_disk.machine.process import Limits
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.units import GIB, MIB

TOOLS: Final = ("grub-fstest", "setpriv", "prlimit")

# The parsers of a dozen file systems get bytes that somebody else wrote, so they run as the user "nobody" and may do no
# more than read. That user may not open a device's node. Handing it over open as /dev/stdin would not help, because
# grub-fstest opens that name again: hence one capability, to read files whatever their mode.
_AS_NOBODY: Final = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)
_SETPRIV_FAILED: Final = 127
# An image may keep it busy for ever. The lower limit ends it by a signal of its own; were both the same, it would be
# killed, as the kernel does for want of memory, too.
_PROCESSOR_SECONDS: Final = 60
_FOR_SO_LONG: Final = ("prlimit", f"--cpu={_PROCESSOR_SECONDS}:")
_LIMITS: Final = Limits(address_space=256 * MIB, cpu_seconds=2 * _PROCESSOR_SECONDS)
_TIMEOUT: Final = 120.0
_OF_THIS_MACHINE: Final = frozenset((_SETPRIV_FAILED, -signal.SIGKILL))
# Kernels on x86 want their initial RAM disk below 2 GiB (Linux' boot protocol, initrd_addr_max).
_FILE_LIMIT: Final = 2 * GIB
# How grub-fstest ends what it says where the kernel, and not GRUB's code, failed (grub-core/osdep/unix/hostdisk.c).
_LOST: Final = tuple(os.strerror(each) for each in (errno.EIO, errno.ENXIO, errno.ENODEV))


def checksums(tree: RootDir, paths: Iterable[str]) -> dict[str, int]:
    """Return the CRC-32 of each file as the kernel reads it, for :func:`check` after the end of the mount.

    Raises:
        PathFailed: a file is missing, can't be read or has more than 2 GiB.
    """
    return {path: tree.crc32(path, limit=_FILE_LIMIT) for path in paths}


def check(
    node: str, filesystem: FileSystem, expected: Mapping[str, int], *, cancel: Cancellation | None = None
) -> None:
    """Let GRUB's code read files of the unmounted file system on ``node``, and compare.

    Args:
        node: the device.
        filesystem: what is on it, for messages.
        expected: the CRC-32 of each file by its path.
        cancel: ends the reading.

    Raises:
        BootImpossible: GRUB can't read a file, or reads something else.
        DeviceFailed: the device can't be opened, or read.
        ProgramFailed: this process may not give grub-fstest other rights than its own, or the kernel killed it, as it
            does for want of memory.
        ProgramTimedOut: it was not through in two minutes, of which this machine gave it less than one on a processor.
        ToolMissing: a program isn't installed.
        Cancelled: the caller cancelled.
    """
    process.require(TOOLS)
    _forget_pages(node)
    grub = _version()
    for path, checksum in expected.items():
        try:
            found = _checksum(node, path, cancel)
        except ProgramFailed as error:
            if error.exit_code in _OF_THIS_MACHINE:
                raise
            words = _words(error)
            if words.endswith(_LOST):
                raise DeviceFailed(device=node, action=f"reading {path} with {grub} from", reason=words) from error
            reason = f"{grub} can't read {path} from the image's {filesystem} ({words})"
            advice = "make the image with fewer features of its file system, and the file without holes"
            raise BootImpossible(device=node, reason=f"{reason}; {advice}") from error
        if found != f"{checksum:08x}":
            reason = f"{grub} misreads {path} in the image's {filesystem}: its CRC-32 is {checksum:08x}, not {found}"
            raise BootImpossible(device=node, reason=reason)


def _forget_pages(node: str) -> None:
    """Make the next read come from the disk.

    Pages of the device from before a mount live on while udevd, say, has it open: xfs drops them at the end of a mount
    only since Linux 6.2.
    """
    try:
        with Path(node).open("rb", buffering=0) as device:
            disk_io.flush(device.fileno(), node)
    except OSError as error:
        raise DeviceFailed(device=node, action="opening", reason=error.strerror or str(error)) from error


def _version() -> str:
    """Return ``GRUB 2.06-13`` where the program says ``grub-fstest (GRUB) 2.06-13``."""
    said = process.run("grub-fstest", "--version", timeout=_TIMEOUT).stdout.decode(errors="replace")
    return f"GRUB {said.rpartition(') ')[2].strip()}"


def _checksum(node: str, path: str, cancel: Cancellation | None) -> str:
    argv = (*_AS_NOBODY, *_FOR_SO_LONG, "grub-fstest", node, "crc", f"(loop0){path}")
    return process.run(*argv, timeout=_TIMEOUT, limits=_LIMITS, cancel=cancel).stdout.decode(errors="replace").strip()


def _words(error: ProgramFailed) -> str:
    if said := error.stderr.strip().rstrip("."):
        return said
    if error.exit_code == -signal.SIGXCPU:
        return f"grub-fstest was not through after {_PROCESSOR_SECONDS} seconds"
    return f"grub-fstest ended with status {error.exit_code}"
