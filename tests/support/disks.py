"""Loop disks made with losetup, so that the tests don't stand on the code they test."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PIECE = 1 << 22


def copied(disk: Path, copy: Path) -> Path:
    """Copy a disk's file, its zeros as holes (ten copies of a disk would fill this one), and return the copy's path."""
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", disk, copy], check=True)
    return copy


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopDisk:
    """A loop device and the file behind it."""

    node: str
    file: Path
    sector_size: int

    def digest(self) -> str:
        """Return the SHA-256 of all its bytes and their places; holes, which read as zeros, count as their places."""
        subprocess.run(["blockdev", "--flushbufs", self.node], check=True)
        digest = hashlib.sha256()
        with self.file.open("rb", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            at = 0
            while at < size:
                try:
                    start = file.seek(at, os.SEEK_DATA)
                except OSError:
                    break
                at = file.seek(start, os.SEEK_HOLE)
                file.seek(start)
                digest.update(f"{start}:{at}\n".encode())
                for place in range(start, at, _PIECE):
                    digest.update(file.read(min(_PIECE, at - place)))
        return digest.hexdigest()


@contextmanager
def looped(file: Path | str, *options: str) -> Iterator[str]:
    """Attach a file to a free loop device, and give its node."""
    argv = ["losetup", "--find", "--show", *options, str(file)]
    node = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield node
    finally:
        subprocess.run(["losetup", "--detach", node], check=True)


@contextmanager
def attach(
    file: Path, sector_size: int, *, read_only: bool = False, place: tuple[int, int] | None = None
) -> Iterator[LoopDisk]:
    """Attach a file, or a place in it (start and size), to a free loop device; detach it and its partitions' nodes."""
    options = ["--read-only"] if read_only else []
    if place is not None:
        options += [f"--offset={place[0]}", f"--sizelimit={place[1]}"]
    with looped(file, "--partscan", "--sector-size", str(sector_size), *options) as node:
        yield LoopDisk(node=node, file=file, sector_size=sector_size)


@contextmanager
def mounted(node: str, where: Path, *options: str) -> Iterator[Path]:
    """Mount a device with mount(8)."""
    where.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *options, node, str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


def attached_to(file: Path) -> list[str]:
    """Return the loop devices that have this file."""
    argv = ["losetup", "--noheadings", "--output", "NAME", "--associated", str(file)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
