"""A tar archive unpacked into the file systems of one image, as its bytes come.

The archive is a tenant's. A member's name is taken apart here and resolved inside of the tree (:class:`RootDir`), so
that neither ``..`` nor a symbolic link from an earlier member leads out of it. Each member goes to the volume with the
longest mount point above it: nothing has to be mounted into anything.

Kept are owners as numbers, permissions (setuid too: this is a system), times of files, hard links, device nodes and
the extended attributes of files and directories, capabilities and SELinux labels among them.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator, Mapping
from typing import Final

from libironic_disk.errors import ImageDamaged, PathFailed
from libironic_disk.machine.images.reading import ImageReading
from libironic_disk.machine.images.sources import Data
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.machine.trees.tarheaders import Archive, Member
from libironic_disk.units import MIB

_CHUNK: Final = MIB
_XATTR: Final = "SCHILY.xattr."


def is_archive(head: bytes) -> bool:
    """Whether the first 512 bytes of something are those of a tar archive (POSIX pax, "ustar Interchange Format")."""
    return head[257:262] == b"ustar"


def unpack(reading: ImageReading, volumes: Mapping[str, RootDir]) -> int:
    """Unpack an archive, and return how many members it had.

    Args:
        reading: the archive's bytes, without the compression around them.
        volumes: the file systems by the mount points that the image will have them at, ``/`` among them.

    Raises:
        ImageDamaged: it is no sound archive, or ends too early.
        PathFailed: a member leads out of the tree, or can't be written: the volume is full, say.
        SourceFailed, Cancelled: as reading does.
    """
    name = reading.image.name
    stream = _Stream(reading)
    count = 0
    try:
        with Archive.open(fileobj=stream, mode="r|", tarinfo=Member, encoding="utf-8") as archive:
            while (member := archive.next()) is not None:
                count += 1
                _unpack_member(archive, member, volumes)
                archive.forget()
    except (tarfile.TarError, EOFError, UnicodeError, ValueError, OverflowError) as error:
        reason = f"it is no sound tar archive: {error}"
        raise ImageDamaged(image=name, reason=reason, offset=stream.position) from error
    stream.drain()
    return count


class _Stream(io.RawIOBase):
    """The bytes of an image as a file that can only be read on."""

    def __init__(self, reading: ImageReading) -> None:
        super().__init__()
        self._bytes = _bytes(reading)
        self._left = memoryview(b"")
        self.position = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts: list[bytes] = []
        wanted = size
        while wanted:
            if not self._left:
                piece = next(self._bytes, None)
                if piece is None:
                    break
                self._left = memoryview(piece)
            taken = self._left[: wanted if wanted > 0 else None]
            self._left = self._left[len(taken) :]
            parts.append(bytes(taken))
            wanted -= len(taken) if wanted > 0 else 0
        data = b"".join(parts)
        self.position += len(data)
        return data

    def drain(self) -> None:
        """Read on to the end, so that a checksum is one of all bytes."""
        self._left = memoryview(b"")
        for _ in self._bytes:
            pass


def _bytes(reading: ImageReading) -> Iterator[bytes]:
    for piece, buffer in reading.pieces:
        if isinstance(piece, Data):
            data = bytes(piece.data)
            if buffer is not None:
                buffer.release()
            yield data
            continue
        for left in range(piece.length, 0, -_CHUNK):
            yield bytes(min(left, _CHUNK))


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, volumes: Mapping[str, RootDir]) -> None:
    mount, path = _place(member.name, volumes)
    tree = volumes[mount]
    if path == "/":
        _set_directory(tree, path, member)
        return
    parent, _, name = path.rpartition("/")
    tree.make_dirs(parent or "/")
    with tree.directory(parent or "/") as directory:
        try:
            _make(archive, member, tree, directory, name, path, volumes)
        except OSError as error:
            raise PathFailed(tree=tree.tree, path=path, reason=error.strerror or str(error)) from error
    if member.isdir():
        _set_directory(tree, path, member)


def _place(name: str, volumes: Mapping[str, RootDir]) -> tuple[str, str]:
    """Return the mount point of the volume that a member belongs to, and its path in there."""
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts or "\0" in name:
        raise PathFailed(tree="the archive", path=name, reason="it leads out of the tree")
    whole = "/" + "/".join(parts)
    mount = max((each for each in volumes if each == "/" or f"{whole}/".startswith(f"{each}/")), key=len)
    inside = whole if mount == "/" else whole[len(mount) :] or "/"
    return mount, inside


def _make(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    tree: RootDir,
    directory: int,
    name: str,
    path: str,
    volumes: Mapping[str, RootDir],
) -> None:
    if member.isdir():
        if not tree.exists(path):
            os.mkdir(name, 0o700, dir_fd=directory)
        return
    _remove(directory, name)
    if member.isreg():
        _write_file(archive, member, directory, name)
    elif member.issym():
        os.symlink(member.linkname, name, dir_fd=directory)
        os.chown(name, member.uid, member.gid, dir_fd=directory, follow_symlinks=False)
    elif member.islnk():
        _link(member, tree, directory, name, volumes)
    elif member.isfifo() or member.isdev():
        kind = stat.S_IFIFO if member.isfifo() else stat.S_IFBLK if member.isblk() else stat.S_IFCHR
        number = 0 if member.isfifo() else os.makedev(member.devmajor, member.devminor)
        os.mknod(name, kind | 0o600, number, dir_fd=directory)
        os.chown(name, member.uid, member.gid, dir_fd=directory, follow_symlinks=False)
        # It was made a line ago, so it is no link that could be followed.
        os.chmod(name, stat.S_IMODE(member.mode), dir_fd=directory)
    else:
        raise tarfile.ReadError(f"{member.name}: a member of the type {member.type!r}")


def _remove(directory: int, name: str) -> None:
    """Make room for a member that comes a second time; what is in a directory stays."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return


def _write_file(archive: tarfile.TarFile, member: tarfile.TarInfo, directory: int, name: str) -> None:
    source = archive.extractfile(member)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        left = member.size
        while source is not None and left > 0:
            data = source.read(min(left, _CHUNK))
            if not data:
                raise tarfile.ReadError(f"{member.name} ends {left} bytes too early")
            _write_all(descriptor, data)
            left -= len(data)
        _set(descriptor, member)
        os.utime(descriptor, (member.mtime, member.mtime))
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _link(member: tarfile.TarInfo, tree: RootDir, directory: int, name: str, volumes: Mapping[str, RootDir]) -> None:
    mount, path = _place(member.linkname, volumes)
    if volumes[mount] is not tree:
        raise PathFailed(tree=tree.tree, path=member.name, reason=f"a hard link to {member.linkname} on another volume")
    parent, _, target = path.rpartition("/")
    with tree.directory(parent or "/") as other:
        os.link(target, name, src_dir_fd=other, dst_dir_fd=directory, follow_symlinks=False)


def _set_directory(tree: RootDir, path: str, member: tarfile.TarInfo) -> None:
    if not member.isdir():
        raise PathFailed(tree=tree.tree, path=path, reason="the archive has something else than a directory there")
    with tree.directory(path, readable=True) as descriptor:
        try:
            _set(descriptor, member)
        except OSError as error:
            raise PathFailed(tree=tree.tree, path=path, reason=error.strerror or str(error)) from error


def _set(descriptor: int, member: tarfile.TarInfo) -> None:
    """Owner first: a change of it takes setuid and capabilities away."""
    os.fchown(descriptor, member.uid, member.gid)
    os.fchmod(descriptor, stat.S_IMODE(member.mode))
    for key, value in member.pax_headers.items():
        if key.startswith(_XATTR):
            os.setxattr(descriptor, key.removeprefix(_XATTR), value.encode("utf-8", "surrogateescape"))
