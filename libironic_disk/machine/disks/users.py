"""Who uses a device, from the kernel's own lists: mounts, swap areas, open files and locks."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from libironic_disk.errors import DeviceFailed
from libironic_disk.machine.disks import shortage
from libironic_disk.machine.disks.sysfs import BlockNode


def uses(blocks: Iterable[BlockNode]) -> Iterator[str]:
    """Yield, in words, every mount and swap area on some devices."""
    nodes = {block.devno: block.node for block in blocks}
    for devno, mount_point in _mounts():
        if devno in nodes:
            yield f"{nodes[devno]} is mounted on {mount_point}"
    for devno in _swap_areas():
        if devno in nodes:
            yield f"{nodes[devno]} is swapped on"


def openers(blocks: Iterable[BlockNode]) -> Iterator[str]:
    """Yield, in words, the programs that have one of some devices open, of those whose descriptors ``/proc`` shows us.

    Raises:
        DeviceFailed: this process has no descriptor, or the kernel no memory, to look with.
    """
    devnos = {block.devno for block in blocks}
    for process_directory in Path("/proc").glob("[0-9]*"):
        try:
            links = [link for link in (process_directory / "fd").iterdir() if _leads_to(link, devnos)]
            name = (process_directory / "comm").read_text(errors="replace").strip() if links else ""
        except OSError as error:
            # It has ended.
            shortage.refuse(error, process_directory)
            continue
        if links:
            yield f"{name} (pid {process_directory.name})"


def _leads_to(link: Path, devnos: Container[int]) -> bool:
    try:
        # The name first: to ask for the status of a file of a network that is gone would be to wait for it. What a
        # program with another root has open has more before that.
        return "/dev/" in str(link.readlink()) and link.stat().st_rdev in devnos
    except OSError as error:
        # It was closed meanwhile, or its device is gone.
        shortage.refuse(error, link)
        return False


def _mounts() -> Iterator[tuple[int, str]]:
    # mountinfo and not /proc/mounts: the source's name there may be any, the device number is the kernel's.
    for line in _said_by_kernel(Path("/proc/self/mountinfo")).splitlines():
        fields = line.split(b" ")
        major, minor = fields[2].split(b":")
        mount_point = fields[4].decode("unicode_escape", errors="replace")
        yield os.makedev(int(major), int(minor)), mount_point
        # Btrfs shows an anonymous device number; its source names a node.
        source = fields[fields.index(b"-", 6) + 2]
        if source.startswith(b"/dev/"):
            try:
                yield os.stat(source).st_rdev, mount_point
            except OSError:
                continue


def _swap_areas() -> Iterator[int]:
    for line in _said_by_kernel(Path("/proc/swaps")).decode(errors="replace").splitlines()[1:]:
        try:
            yield os.stat(line.split()[0].encode().decode("unicode_escape")).st_rdev
        except OSError:
            continue


def _said_by_kernel(path: Path) -> bytes:
    """Return a list of the kernel's; an empty one of a kernel that has no such list.

    Raises:
        DeviceFailed: it can't be read, and who uses what is not known then.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise DeviceFailed(device=str(path), action="reading", reason=error.strerror or str(error)) from error


def lock_holders(fd: int) -> tuple[str, ...]:
    """Return who holds an flock on the same inode, from /proc/locks; those of other pid namespaces show as pid 0."""
    status = os.fstat(fd)
    inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    found = []
    try:
        locks = Path("/proc/locks").read_text()
    except OSError:
        return ()
    for line in locks.splitlines():
        fields = line.split()
        if "FLOCK" in fields and inode in fields:
            pid = fields[fields.index("FLOCK") + 3]
            try:
                name = Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:
                name = "a process"
            found.append(f"{name} (pid {pid})")
    return tuple(found)
