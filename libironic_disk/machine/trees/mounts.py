"""Mounts that nobody but this process can see.

The new mount API (fsopen(2), fsconfig(2), fsmount(2); Linux 5.2) makes a mount that is attached to no directory of
any mount namespace. It has no mount point to create and remove and needs no umount: the kernel dissolves it when its
descriptor is closed, also when this process is killed. Other processes neither see it nor keep it busy.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from libironic_disk.errors import DeviceBusy, DeviceFailed, DiskError, add_aftermath
from libironic_disk.machine import syscalls
from libironic_disk.machine.disks import claims
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.images.superblocks import NEEDED, beyond_itself

_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_FSOPEN_CLOEXEC: Final = 1
_FSMOUNT_CLOEXEC: Final = 1
_RDONLY, _NOSUID, _NODEV, _NOEXEC = 1, 2, 4, 8

# Without these even a read-only mount replays the journal, which writes. What was in it is then not seen.
_NO_REPLAY: Final[Mapping[FileSystem, tuple[str, ...]]] = {
    FileSystem.BTRFS: ("rescue=nologreplay",),
    FileSystem.EXT3: ("noload",),
    FileSystem.EXT4: ("noload",),
    FileSystem.XFS: ("norecovery",),
}
_ALWAYS: Final[Mapping[FileSystem, tuple[str, ...]]] = {
    # The superblock comes from an image, and may ask for a panic of our kernel at the first error.
    FileSystem.EXT2: ("errors=remount-ro",),
    FileSystem.EXT3: ("errors=remount-ro",),
    FileSystem.EXT4: ("errors=remount-ro",),
    # Two disks with the same image have the same UUID, and xfs refuses the second one.
    FileSystem.XFS: ("nouuid",),
}
_RETRY_SECONDS: Final = 0.02


@contextmanager
def mounted(
    node: str,
    filesystem: FileSystem,
    *,
    read_only: bool = True,
    options: tuple[str, ...] = (),
    release_timeout: float = 10.0,
) -> Iterator[int]:
    """Mount the file system on ``node`` for the length of a ``with``; its value is a descriptor of the root directory.

    No program or device on it works (nosuid, nodev, noexec). Read-only, not one byte of the device changes. Else all
    that was written has reached the device when the ``with`` ends. Then too the kernel has let go of the device, so
    that it can be opened exclusively; descriptors that the caller opened inside must be closed by then. ``options``
    are the file system's own, as in mount(8).

    Raises:
        DeviceFailed: it can't be mounted, wants another device beside its own, or a write to it failed.
        DeviceBusy: the kernel kept the device for ``release_timeout`` seconds after the end.
    """
    require_alone(node)
    mount = _mount(node, filesystem, read_only=read_only, options=options)
    with released(node, release_timeout), _root_of(mount, node) as directory:
        yield directory
        if not read_only:
            _sync(directory, node)


@contextmanager
def released(node: str, timeout: float) -> Iterator[None]:
    """Wait at the end of a ``with`` until nobody has a device mounted, whatever became of the ``with``.

    Raises:
        DeviceBusy, DeviceFailed: as :func:`wait_until_released`, unless there is an error already.
    """
    try:
        yield
    except BaseException as first:
        try:
            wait_until_released(node, timeout)
        except DiskError as late:
            add_aftermath(first, str(late))
        raise
    wait_until_released(node, timeout)


def require_alone(node: str) -> None:
    """Refuse a file system that would have its mount, or a program that changes it, use another device too.

    Raises:
        DeviceFailed: it is one, or can't be read.
    """
    try:
        with Path(node).open("rb", buffering=0) as device:
            reason = beyond_itself(device.read(NEEDED) or b"")
    except OSError as error:
        raise DeviceFailed(device=node, action="reading", reason=error.strerror or str(error)) from error
    if reason:
        raise DeviceFailed(device=node, action="opening the file system on", reason=reason)


def safe_options(filesystem: FileSystem, *, read_only: bool) -> tuple[str, ...]:
    """Return the options with which an image's file system may be mounted; read-only, no byte of the device changes."""
    return (*_ALWAYS.get(filesystem, ()), *(_NO_REPLAY.get(filesystem, ()) if read_only else ()))


def mount_point(node: str, root: str = "/") -> str | None:
    """Return where this process sees a file system mounted already; None if nowhere.

    Args:
        node: its device.
        root: the directory of the file system that has to be mounted there, such as a btrfs subvolume.

    Raises:
        DeviceFailed: the kernel doesn't say what is mounted.
    """
    try:
        table = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    except OSError as error:
        reason = error.strerror or str(error)
        raise DeviceFailed(device=node, action="looking for mounts of", reason=reason) from error
    for row in (line.split(" ") for line in table.splitlines()):
        source = _plain(row[row.index("-") + 2])
        if _plain(row[3]) == root and source.startswith("/") and os.path.realpath(source) == os.path.realpath(node):
            return _plain(row[4])
    return None


def _plain(field: str) -> str:
    """Undo the octal escapes of /proc/self/mountinfo (proc(5))."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


@contextmanager
def _root_of(mount: int, node: str) -> Iterator[int]:
    """Open the root of a mount for reading, which fsmount's own descriptor doesn't allow; close both afterwards."""
    try:
        try:
            directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mount)
        except OSError as error:
            action = "opening the file system on"
            raise DeviceFailed(device=node, action=action, reason=error.strerror or str(error)) from error
        try:
            yield directory
        finally:
            os.close(directory)
    finally:
        os.close(mount)


def _mount(node: str, filesystem: FileSystem, *, read_only: bool, options: tuple[str, ...]) -> int:
    context = -1
    try:
        context = syscalls.syscall(syscalls.FSOPEN, filesystem.value.encode(), _FSOPEN_CLOEXEC)
        _configure(context, _SET_STRING, "source", node)
        if read_only:
            _configure(context, _SET_FLAG, "ro", None)
        for option in (*safe_options(filesystem, read_only=read_only), *options):
            name, _, value = option.partition("=")
            _configure(context, _SET_STRING if value else _SET_FLAG, name, value or None)
        syscalls.syscall(syscalls.FSCONFIG, context, _CREATE, None, None, 0)
        attributes = _NOSUID | _NODEV | _NOEXEC | (_RDONLY if read_only else 0)
        return syscalls.syscall(syscalls.FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes)
    except OSError as error:
        raise DeviceFailed(
            device=node, action=f"mounting {filesystem} on", reason=_reason(error, context, filesystem)
        ) from error
    finally:
        if context >= 0:
            os.close(context)


def _configure(context: int, command: int, key: str, value: str | None) -> None:
    text = None if value is None else os.fsencode(value)
    syscalls.syscall(syscalls.FSCONFIG, context, command, key.encode(), text, 0)


def _reason(error: OSError, context: int, filesystem: FileSystem) -> str:
    if context < 0 and error.errno == errno.ENODEV:
        return f"this kernel has no {filesystem}"
    if context < 0 and error.errno == errno.ENOSYS:
        return "this kernel is older than Linux 5.2"
    said = _log(context) if context >= 0 else ()
    return "; ".join((*said, error.strerror or str(error)))


def _log(context: int) -> tuple[str, ...]:
    """What the kernel wrote about a failed mount: one message a read, ``e``, ``w`` or ``i`` and a space before it."""
    messages: list[str] = []
    while True:
        try:
            messages.append(os.read(context, 4096).decode(errors="replace").strip()[2:])
        except OSError:
            return tuple(messages)


def _sync(directory: int, node: str) -> None:
    try:
        syscalls.syncfs(directory)
    except OSError as error:
        raise DeviceFailed(device=node, action="writing to", reason=error.strerror or str(error)) from error


def wait_until_released(node: str, timeout: float) -> None:
    """Wait until nobody has a device mounted.

    Closing only begins the end of a mount that another task holds too: an exclusive open proves that it's over.

    Raises:
        DeviceBusy: the kernel kept it for ``timeout`` seconds.
        DeviceFailed: it can't be opened.
    """
    deadline = time.monotonic() + timeout
    while claims.is_claimed(node):
        if time.monotonic() > deadline:
            raise DeviceBusy(device=node, users=("a mount that the kernel has not let go of",))
        time.sleep(_RETRY_SECONDS)
