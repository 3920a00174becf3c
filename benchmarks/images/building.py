"""The images, made from this machine's own files, kept in the cache directory until those files change."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.images.works import Image
from lab import cache_directory
from libironic_disk.units import GIB, MIB, TIB

TREE: Final = Path("/usr")
SHARE: Final = 0.35
"""How much of the disk its files take: 1.4 GiB of 4 GiB."""

_RECIPE: Final = 1  # to be counted up when the images become others
_FEW: Final = 100 * MIB
_FEW_FILES_RAW: Final = "few-files.raw"
_TABLE: Final = "images.json"
_ROOM: Final = 9
"""How many times the files' bytes all images and what they are made from take, at most."""


class Entry(NamedTuple):
    """A regular file: the path, the bytes, and when it was changed."""

    path: str
    size: int
    changed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """All images in one directory: the bytes of the disk in each, and the sha256 of its file."""

    directory: Path
    virtual_sizes: dict[Image, int]
    sha256: dict[Image, str]

    def path(self, image: Image) -> Path:
        """Return an image's file."""
        return self.directory / image

    def original(self, image: Image) -> Path:
        """Return what a disk must be equal to when the image was written there: raw, or what only qemu-img wrote."""
        if image is Image.LARGE:
            return self.path(image)
        few = image in (Image.FEW_FILES, Image.FEW_FILES_HUGE)
        return self.directory / (_FEW_FILES_RAW if few else Image.RAW)

    def stored_bytes(self) -> int:
        """Return what the files take, holes left out."""
        return sum(file.stat().st_blocks * 512 for file in self.directory.iterdir())


def built(size: int) -> Images:
    """Return the images for a disk of ``size`` bytes, which are made unless they are there.

    Raises:
        SystemExit: no room to make them, or not enough files to put into them.
    """
    entries = chosen(_regular_files(TREE), int(size * SHARE))
    recipe = hashlib.sha256(repr((_RECIPE, size, entries)).encode()).hexdigest()[:16]
    shelf = cache_directory().absolute() / "benchmark-images" / f"{size // MIB}-mib"
    directory = shelf / recipe
    if not directory.exists():
        shutil.rmtree(shelf, ignore_errors=True)
        shelf.mkdir(parents=True)
        _make(directory, size, entries)
    table = json.loads((directory / _TABLE).read_text())
    return Images(
        directory=directory,
        virtual_sizes={Image(name): each["virtual_size"] for name, each in table.items()},
        sha256={Image(name): each["sha256"] for name, each in table.items()},
    )


def chosen(entries: Iterable[Entry], wanted: int) -> list[Entry]:
    """Take entries from the front until they have as many bytes as are wanted.

    Raises:
        SystemExit: all of them have less.
    """
    taken: list[Entry] = []
    total = 0
    for entry in entries:
        if total >= wanted:
            break
        taken.append(entry)
        total += entry.size
    if total < wanted:
        raise SystemExit(f"{TREE} has only {total / GIB:.2f} GiB in regular files, and {wanted / GIB:.2f} are wanted")
    return taken


def _regular_files(tree: Path) -> Iterator[Entry]:
    for name in sorted(str(path) for path in tree.rglob("*") if path.is_file() and not path.is_symlink()):
        found = Path(name).stat()
        yield Entry(name, found.st_size, found.st_mtime_ns)


def _make(directory: Path, size: int, entries: Sequence[Entry]) -> None:
    shelf = directory.parent
    wanted, free = _ROOM * sum(entry.size for entry in entries), shutil.disk_usage(shelf).free
    if free < wanted:
        raise SystemExit(f"{shelf}: {wanted / GIB:.1f} GiB are wanted to make the images, {free / GIB:.1f} are free")
    print(f"{os.path.relpath(directory)}: making the images from {len(entries)} files of {TREE}", flush=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=shelf) as name:
        workshop = Path(name)
        images = workshop / "images"
        images.mkdir()
        _make_all(workshop, images, size, entries)
        sizes = dict.fromkeys(Image, size)
        sizes |= {Image.LARGE: 64 * GIB, Image.FEW_FILES: 4 * GIB, Image.FEW_FILES_HUGE: TIB}
        table = {image: {"virtual_size": sizes[image], "sha256": _sha256(images / image)} for image in Image}
        (images / _TABLE).write_text(json.dumps(table))
        os.sync()
        images.rename(directory)


def _make_all(workshop: Path, images: Path, size: int, entries: Sequence[Entry]) -> None:
    raw, few_raw, large_raw = images / Image.RAW, images / _FEW_FILES_RAW, workshop / "large.raw"
    files, few_files = workshop / "files", workshop / "few-files"
    _copy(entries, files)
    _file_system(raw, files, size)
    _file_system(large_raw, files, 64 * GIB)
    shutil.rmtree(files)
    _convert(large_raw, images / Image.LARGE)
    large_raw.unlink()
    _convert(raw, images / Image.QCOW2)
    _convert(raw, images / Image.QCOW2_ZLIB, "-c")
    _convert(raw, images / Image.QCOW2_ZSTD, "-c", "-o", "compression_type=zstd")
    with (images / Image.RAW_GZ).open("wb") as packed:
        subprocess.run(["gzip", "--stdout", "--no-name", str(raw)], check=True, stdout=packed)
    subprocess.run(["zstd", "--quiet", str(raw), "-o", str(images / Image.RAW_ZST)], check=True)
    _copy(chosen(entries, min(_FEW, sum(entry.size for entry in entries))), few_files)
    _file_system(few_raw, few_files, 4 * GIB)
    _convert(few_raw, images / Image.FEW_FILES)
    os.truncate(few_raw, TIB)
    _convert(few_raw, images / Image.FEW_FILES_HUGE)


def _copy(entries: Sequence[Entry], directory: Path) -> None:
    for entry in entries:
        place = directory / entry.path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(entry.path, place)


def _file_system(raw: Path, files: Path, size: int) -> None:
    raw.touch()
    os.truncate(raw, size)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(files), str(raw)], check=True)


def _convert(raw: Path, qcow2: Path, *options: str) -> None:
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, str(raw), str(qcow2)], check=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
