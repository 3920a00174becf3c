"""Files for an initial RAM disk: an archive that is appended to it.

The kernel takes any number of cpio archives one behind the other, each compressed or not, with zeros between them; an
uncompressed one has to begin at a multiple of 4 bytes. A later file replaces an earlier one of the same name (kernel:
Documentation/driver-api/early-userspace/buffer-format.rst; init/initramfs.c).
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final

ALIGNMENT: Final = 4

_TRAILER: Final = "TRAILER!!!"
_PROGRAMS: Final = (b"#!", b"\x7fELF")
_MODES: Final = {"tmp": 0o1777, "var/tmp": 0o1777, "root": 0o700}
# They are symbolic links in many RAM disks, and the kernel would remove a link where the archive has a directory.
_OFTEN_LINKS: Final = frozenset(
    ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr/sbin", "usr/lib32", "usr/lib64", "var/run", "var/lock")
)


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return an uncompressed cpio archive ("newc") of files by their paths, which begin with a slash.

    The directories that lead to them are in it, but for those that often are symbolic links, such as ``/lib``: these
    have to be there already. Everything is root's. A file that begins as a program does can be executed. The same
    files give the same bytes.
    """
    return b"".join(_entries({path.lstrip("/"): content for path, content in files.items()}))


def padding(size: int) -> bytes:
    """Return the zeros that bring a RAM disk of ``size`` bytes to where an archive may begin."""
    return bytes(-size % ALIGNMENT)


def _entries(files: Mapping[str, bytes]) -> Iterator[bytes]:
    directories = {str(parent) for path in files for parent in PurePosixPath(path).parents} - {"."}
    number = 0
    for number, path in enumerate(sorted(directories - _OFTEN_LINKS), 1):
        yield _entry(path, stat.S_IFDIR | _MODES.get(path, 0o755), number=number, links=2)
    for path in sorted(files):
        number += 1
        mode = 0o755 if files[path].startswith(_PROGRAMS) else 0o644
        yield _entry(path, stat.S_IFREG | mode, files[path], number=number)
    yield _entry(_TRAILER, 0)


def _entry(name: str, mode: int, data: bytes = b"", *, number: int = 0, links: int = 1) -> bytes:
    path = name.encode() + b"\0"
    # inode, mode, uid, gid, links, mtime, size, the file's and the device's major and minor, length of name, checksum
    values = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(path), 0)
    header = b"070701" + b"".join(b"%08X" % value for value in values) + path
    return header + padding(len(header)) + data + padding(len(data))
