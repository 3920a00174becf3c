"""Initial RAM disks made of a few files: cpio archives in the "newc" format (kernel: early-userspace/buffer-format)."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

# What every init here begins with: busybox's programs, the kernel's file systems, and the modules in their order.
_BEGINNING = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
for module in $(cat /modules/order); do insmod /modules/$module; done
"""
_FOLDERS = ("bin", "dev", "modules", "proc", "root", "sys")


def with_busybox(tree: Path, version: str, init: str, *, modules: Iterable[str], folders: Sequence[str] = ()) -> bytes:
    """Return a RAM disk with busybox and some modules.

    Args:
        tree: a tree with busybox and the kernel's modules.
        version: of the kernel.
        init: the shell's lines for when the modules are loaded.
        modules: to be loaded; what they depend on comes too.
        folders: to be there beside the usual ones.
    """
    needed = needed_modules(tree, version, modules)
    files = {
        "bin/busybox": (0o755, (tree / "bin/busybox").read_bytes()),
        "init": (0o755, (_BEGINNING + init).encode()),
        "modules/order": (0o644, "\n".join(module.name for module in needed).encode()),
    }
    files |= {f"modules/{module.name}": (0o644, module.read_bytes()) for module in needed}
    return archive((*_FOLDERS, *folders), files)


def archive(folders: Iterable[str], files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """Return an archive with these folders, and files by their paths: permissions and contents."""
    return b"".join(_entries(folders, files))


def _entries(folders: Iterable[str], files: Mapping[str, tuple[int, bytes]]) -> Iterator[bytes]:
    for folder in folders:
        yield _entry(folder, stat.S_IFDIR | 0o755)
    for path, (mode, data) in files.items():
        yield _entry(path, stat.S_IFREG | mode, data)
    yield _entry("TRAILER!!!", 0)


def needed_modules(tree: Path, version: str, names: Iterable[str]) -> tuple[Path, ...]:
    """Return kernel modules below ``tree`` and what they depend on, in the order to load them."""
    argv = ("modprobe", "--dirname", str(tree), "--set-version", version, "--show-depends", "--all", *names)
    lines = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    # Several of them need the same ones.
    return tuple(dict.fromkeys(Path(line.split()[1]) for line in lines if line.startswith("insmod ")))


def _entry(name: str, mode: int, data: bytes = b"") -> bytes:
    path = name.encode() + b"\0"
    # inode, mode, uid, gid, links, mtime, size, the file's and the device's major and minor, length of name, checksum
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    header = b"070701" + b"".join(b"%08x" % number for number in numbers)
    return _padded(header + path) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
