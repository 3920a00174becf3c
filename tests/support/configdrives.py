"""Config drives made and read by programs that nobody here wrote: xorriso, mkfs.vfat, mtools."""

from __future__ import annotations

import os
import random
import string
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.oracles import blkid, check_filesystem

Tree = Mapping[str, bytes]

MTOOLS = {**os.environ, "LC_ALL": "C.UTF-8", "MTOOLSRC": "/dev/null", "MTOOLS_SKIP_CHECK": "1"}
SMALL: Tree = {
    "openstack/latest/meta_data.json": b'{"uuid": "1"}',
    "openstack/latest/user_data": b"#!/bin/sh\n" * 700,
    "openstack/content/0000": b"",
}


def _run(*argv: str, environment: Mapping[str, str] | None = None) -> bytes:
    done = subprocess.run(argv, check=False, capture_output=True, env=environment, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout


@contextmanager
def _directory(tree: Tree) -> Iterator[tuple[Path, Path]]:
    """A directory with the files of ``tree``, and a path for an image next to it."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "root")
        root.mkdir()
        for name, content in tree.items():
            Path(root, name).parent.mkdir(parents=True, exist_ok=True)
            Path(root, name).write_bytes(content)
        yield root, Path(scratch, "image")


def iso(tree: Tree = SMALL, *options: str, label: str = "config-2", links: Mapping[str, str] | None = None) -> bytes:
    """An image by xorriso; the options are mkisofs's: ``-J`` for Joliet, ``-R`` for Rock Ridge."""
    with _directory(tree) as (root, image):
        for name, target in (links or {}).items():
            Path(root, name).symlink_to(target)
        _run("xorriso", "-as", "mkisofs", "-quiet", "-o", str(image), "-V", label, *options, str(root))
        return image.read_bytes()


def fat(
    tree: Tree = SMALL, *options: str, label: str = "CONFIG-2", size: int = 1024 * 1024, sector_size: int = 512
) -> bytes:
    """An image by mkfs.vfat, filled by mtools."""
    with _directory(tree) as (root, image):
        with image.open("wb") as file:
            file.truncate(size)
        name = ("-n", label) if label else ()
        _run("mkfs.vfat", "-S", str(sector_size), *name, *options, str(image))
        tops = [str(path) for path in sorted(root.iterdir())]
        if tops:
            _run("mcopy", "-s", "-i", str(image), *tops, "::/", environment=MTOOLS)
        return image.read_bytes()


def iso_files(data: bytes) -> dict[str, bytes]:
    """What xorriso extracts."""
    with _directory({}) as (root, image):
        image.write_bytes(data)
        _run("xorriso", "-osirrox", "on", "-indev", str(image), "-extract", "/", str(root / "out"))
        return _files(root / "out")


def fat_files(data: bytes) -> dict[str, bytes]:
    """What mtools extracts."""
    with _directory({}) as (root, image):
        image.write_bytes(data)
        _run("mcopy", "-s", "-n", "-i", str(image), "::/", str(root), environment=MTOOLS)
        return _files(root)


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def probed(data: bytes) -> dict[str, str]:
    """What libblkid says."""
    with _directory({}) as (_, image):
        image.write_bytes(data)
        return blkid(str(image))


def check_fat(data: bytes) -> None:
    """Fail if fsck.vfat would repair anything."""
    with _directory({}) as (_, image):
        image.write_bytes(data)
        check_filesystem("vfat", str(image))


def random_tree(chance: random.Random) -> dict[str, bytes]:
    """A few files with random names, depths and contents."""

    def name() -> str:
        return "".join(chance.choices(string.ascii_lowercase + string.digits + "_-", k=chance.randint(1, 24))) + ".x"

    tree: dict[str, bytes] = {}
    for _ in range(chance.randint(1, 6)):
        path = "/".join(name() for _ in range(chance.randint(1, 3)))
        tree[path] = chance.randbytes(chance.choice([0, 1, chance.randint(2, 5000), chance.randint(5000, 60000)]))
    return tree
