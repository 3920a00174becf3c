"""Roots of images that were made to do harm: each place that is read or written there, in every shape that hurts.

Outside is a tree like theirs, which links lead to. Who follows one out of the root finds there what he looks for, each
file with a secret that must not get into an image, and nothing there may change.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from libironic_disk.units import GIB, MIB
from tests.support.hostile_programs import OBEYED, PROGRAMS

SECRET: Final = b"a secret of the machine that deploys, which is nobody's business"
UUID: Final = "aaaaaaaa-0000-4000-8000-000000000001"
OLD_UUID: Final = "bbbbbbbb-0000-4000-8000-000000000002"
KERNEL: Final = "boot/vmlinuz-2"
INITRD: Final = "boot/initrd.img-2"

_MENU = f"menuentry 'own' {{\n linux /boot/vmlinuz-2 root=UUID={OLD_UUID} ro own.word\n initrd /boot/initrd.img-2\n}}\n"
_FILES: Final[Mapping[str, bytes]] = {
    KERNEL: b"kernel 2\n" * 500,
    INITRD: b"initrd 2\n" * 500,
    "boot/vmlinuz-1": b"kernel 1\n" * 500,
    "boot/initrd.img-1": b"initrd 1\n" * 500,
    "boot/grub/grub.cfg": _MENU.encode(),
    "boot/grub/grub.cfg.image": _MENU.encode(),
    "boot/grub/grubenv": b"# GRUB Environment Block\nkernelopts=x\n".ljust(1024, b"#"),
    "boot/grub/i386-pc/normal.mod": b"",
    "boot/grub2/grub.cfg": _MENU.encode(),
    "boot/grub2/grubenv": b"# GRUB Environment Block\n".ljust(1024, b"#"),
    "boot/loader/entries/one.conf": f"title own\nlinux /boot/vmlinuz-2\noptions root=UUID={OLD_UUID} own\n".encode(),
    "etc/os-release": b'NAME="Own"\nPRETTY_NAME="Own system"\n',
    "etc/fstab": f"UUID={OLD_UUID} / ext4 defaults 0 1\n".encode(),
    "etc/crypttab": b"",
    "etc/default/grub": b"GRUB_CMDLINE_LINUX=own.default\n",
    "etc/kernel/cmdline": b"own.cmdline\n",
    "etc/initramfs-tools/conf.d/resume": f"RESUME=UUID={OLD_UUID}\n".encode(),
    "etc/lsb-release": b"DISTRIB_ID=Own\nDISTRIB_DESCRIPTION=Own\n",
    "etc/debian_version": b"13\n",
    "etc/machine-id": b"0123456789abcdef0123456789abcdef\n",
    "usr/lib/os-release": b'NAME="Own"\nPRETTY_NAME="Own system"\n',
    "usr/lib64/ld-linux-x86-64.so.2": b"",
    "srv/keep": b"",
}
# What nobody needs for the system to boot: all of them are hostile at once.
SOFT: Final = (
    *("boot/grub/grubenv", "boot/grub/grub.cfg.image", "boot/grub2", "boot/grub2/grub.cfg", "boot/grub2/grubenv"),
    *("boot/loader", "boot/loader/entries", "boot/loader/entries/one.conf", "etc/os-release", "usr/lib/os-release"),
    *("etc/crypttab", "etc/default/grub", "etc/kernel/cmdline", "etc/initramfs-tools/conf.d/resume"),
    *("etc/lsb-release", "etc/debian_version", "etc/machine-id", "usr/lib64/ld-linux-x86-64.so.2"),
)
# One of them hostile may be the end of the work, which would hide the others.
HARD: Final = (
    *("boot", "boot/grub", "boot/grub/grub.cfg", "boot/grub/i386-pc", "boot/grub/i386-pc/normal.mod", KERNEL, INITRD),
    *("etc", "etc/fstab", "srv"),
)
_DIRECTORIES: Final = frozenset(
    {"boot", "boot/grub", "boot/grub2", "boot/grub/i386-pc", "boot/loader", "boot/loader/entries", "etc", "srv"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What lies outside of every root, and must stay unread and as it is."""

    folder: Path
    device: int = 0

    @classmethod
    def made(cls, folder: Path, device: int) -> Outside:
        """Make it: a tree like a root, with secrets in it, that everybody may read."""
        for path in _FILES:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(SECRET + b"\n" + path.encode() + b"\n")
        for each in (folder, *folder.parents):
            if each == Path("/tmp"):
                break
            each.chmod(0o755)
        return cls(folder=folder, device=device)

    def state(self) -> list[tuple[object, ...]]:
        """Return what changes with any change of it: ctime has no way back."""
        rows: list[tuple[object, ...]] = []
        for path in sorted([self.folder, *self.folder.rglob("*")]):
            seen = path.lstat()
            data = path.read_bytes() if stat.S_ISREG(seen.st_mode) else b""
            rows.append((str(path), seen.st_mode, seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns, data))
        return rows


Hostility = Callable[[Path, str, Outside], None]
"""Puts something at a path that isn't there yet; the second argument is the path from the root."""


def _absolute(path: Path, place: str, outside: Outside) -> None:
    path.symlink_to(outside.folder / place)


def _climbing(path: Path, place: str, outside: Outside) -> None:
    path.symlink_to(PurePosixPath(*[".."] * 20) / str(outside.folder / place).lstrip("/"))


def _chain(path: Path, place: str, outside: Outside) -> None:
    for number in range(9):
        (path.parent / f"{path.name}.{number}").symlink_to(f"./{path.name}.{number + 1}")
    (path.parent / f"{path.name}.9").symlink_to(outside.folder / place)
    path.symlink_to(f"{path.name}.0")


def _loop(path: Path, place: str, outside: Outside) -> None:
    path.symlink_to(f"{path.name}.back")
    (path.parent / f"{path.name}.back").symlink_to(path.name)


def _proc(link: str) -> Hostility:
    def put(path: Path, place: str, outside: Outside) -> None:
        path.symlink_to(f"{link}{outside.folder / place}")

    return put


def _climbing_over_a_link(path: Path, place: str, outside: Outside) -> None:
    """A ``..`` behind a link to the top: the walk that looks at texts alone is fooled by it."""
    (path.parent / f"{path.name}.top").symlink_to("/")
    path.symlink_to(PurePosixPath(f"{path.name}.top", "..", "..", str(outside.folder / place).lstrip("/")))


def _fifo(path: Path, place: str, outside: Outside) -> None:
    os.mkfifo(path, 0o666)


def _socket(path: Path, place: str, outside: Outside) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


def _device(kind: int, number: int) -> Hostility:
    return lambda path, place, outside: os.mknod(path, kind | 0o666, number)


def _block(path: Path, place: str, outside: Outside) -> None:
    os.mknod(path, stat.S_IFBLK | 0o666, outside.device)


def _other_kind(path: Path, place: str, outside: Outside) -> None:
    if place in _DIRECTORIES:
        path.write_bytes(b"no directory")
    else:
        path.mkdir()
        (path / "inside").write_bytes(b"x")


def _hole(path: Path, place: str, outside: Outside) -> None:
    with path.open("wb") as file:
        file.truncate(1024 * GIB)


def _large(path: Path, place: str, outside: Outside) -> None:
    # Ten MiB of an image would be read for as many as there are.
    with path.open("wb") as file:
        file.write(b"menuentry a {\n linux /boot/vmlinuz-2 a\n" * 1000)
        file.truncate(2 * GIB + MIB)


def _binary(path: Path, place: str, outside: Outside) -> None:
    path.write_bytes(bytes(range(256)) * 64)


def _closed(path: Path, place: str, outside: Outside) -> None:
    if place in _DIRECTORIES:
        path.mkdir()
    else:
        path.write_bytes(_FILES[place])
    path.chmod(0)


def _names(path: Path, place: str, outside: Outside) -> None:
    """What has such names lies beside and inside."""
    if place in _DIRECTORIES:
        path.mkdir()
        folder = path
    else:
        path.write_bytes(_FILES[place])
        folder = path.parent
    for name in (
        b"a\nmenuentry b",
        b"\xff\xfe.conf",
        b"\x1b[2J.conf",
        b"$(reboot).conf",
        b"vmlinuz-'; reboot #",
        b"-rf",
    ):
        with suppress(FileExistsError):
            fd = os.open(os.fsencode(folder) + b"/" + name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            os.write(fd, b"linux /boot/vmlinuz-2\noptions a\n")
            os.close(fd)


HOSTILITIES: Final[Mapping[str, Hostility]] = {
    "absolute link": _absolute,
    "climbing link": _climbing,
    "chain of links": _chain,
    "loop of links": _loop,
    "link through proc": _proc("/proc/self/root"),
    "link through another's proc": _proc("/proc/1/root"),
    "climbing over a link": _climbing_over_a_link,
    "fifo": _fifo,
    "socket": _socket,
    "null device": _device(stat.S_IFCHR, os.makedev(1, 3)),
    "zero device": _device(stat.S_IFCHR, os.makedev(1, 5)),
    "a disk": _block,
    "the other kind": _other_kind,
    "hole of a TiB": _hole,
    "claims GiB": _large,
    "binary": _binary,
    "unreadable": _closed,
    "odd names": _names,
}


def tree(folder: Path, outside: Outside, places: Iterable[str], hostility: str) -> Path:
    """Make the files of a system in a folder, of which some are hostile; programs of it would leave a mark outside."""
    folder.mkdir(parents=True)
    hostile = tuple(places)
    for path, data in _FILES.items():
        if not any(path == each or path.startswith(f"{each}/") for each in hostile):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
    for path in PROGRAMS:
        if not any(path.startswith(f"{each}/") for each in hostile):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(f"#!/bin/sh\n{_mark(outside)} {path}\n")
            (folder / path).chmod(0o6755)
    for path, text in OBEYED.items():
        if not any(path == each or path.startswith(f"{each}/") for each in hostile):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text.format(mark=_mark(outside), outside=outside.folder))
    for name in ("bin", "sbin", "lib64"):
        (folder / name).symlink_to(f"usr/{name}")
    # Who is inside of another hostile place isn't there.
    for place in hostile:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        HOSTILITIES[hostility](folder / place, place, outside)
    return folder


def _mark(outside: Outside) -> str:
    """Return the command that everything of an image is, which says outside that it was run."""
    return f"touch {outside.folder}/marks"


def outermost(places: Iterable[str]) -> tuple[str, ...]:
    """Return the places that aren't in another one of them."""
    every = tuple(places)
    return tuple(each for each in every if not any(each.startswith(f"{other}/") for other in every))


def innermost(places: Iterable[str]) -> tuple[str, ...]:
    """Return the places that none of the others is in."""
    every = tuple(places)
    return tuple(each for each in every if not any(other.startswith(f"{each}/") for other in every))


def image(path: Path, folder: Path, *, size: int = 40 * MIB, uuid: str = UUID) -> Path:
    """Make an ext4 of a folder's files in a plain file, and remove the folder."""
    with path.open("wb") as file:
        file.truncate(size)
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-U", uuid, "-O", "^has_journal", "-d", str(folder), str(path)]
    subprocess.run(argv, check=True, capture_output=True)
    shutil.rmtree(folder)
    return path
