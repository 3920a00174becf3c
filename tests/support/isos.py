"""ISO images in memory, and what xorriso, isoinfo, sgdisk and checkisomd5 say about them."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from lab import isolayouts
from lab.isolayouts import IsoLayout, Names
from libironic_disk.pure.iso.image import IsoImage, read_image
from libironic_disk.pure.iso.model import IsoPartition
from libironic_disk.pure.ropes import Rope

LAYOUTS: Final = tuple(
    (layout, names)
    for layout in IsoLayout
    for names in Names
    # grub-mkrescue makes no others, and this is the same to everything here.
    if (layout is not IsoLayout.GRUB_MKRESCUE or names in {Names.ROCK_RIDGE, Names.BOTH})
    and layout is not IsoLayout.GRUB_ESP_MENU
)
PIECES: Final = {f"/pieces/{number:02}.bin": bytes([number]) * (number * 700) for number in range(1, 9)}
"""Further files of all images, from less than a sector to three."""
CATALOGS: Final = frozenset(("/boot.catalog", "/boot.cat", "/isolinux/boot.cat"))
"""What El Torito's boot catalog is called, which changes when something moves."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A base in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return len(self.data)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return some of them."""
        return self.data[offset : offset + size]


@cache
def layout(kind: IsoLayout, names: Names = Names.BOTH) -> Memory:
    """Return the image of a layout; the lab makes each once per run."""
    return made(lambda path: isolayouts.make(kind, path, names=names, files=PIECES))


def made(make: Callable[[Path], object]) -> Memory:
    """Return what a function writes into the file whose path it is given."""
    with tempfile.TemporaryDirectory(prefix="isos-") as folder:
        path = Path(folder, "image.iso")
        make(path)
        return Memory(path.read_bytes())


def contents(base: Memory, image: IsoImage | None = None) -> dict[str, bytes]:
    """Return all files by path, as this package reads them."""
    image = read_image(base) if image is None else image
    files = (file for file in image.files() if not file.is_dir and not file.is_symlink)
    return {file.path: image.content(file.path).read_at(base, 0, file.size) for file in files}


def names_by_tree(base: Memory) -> list[set[bytes]]:
    """Return for each tree which contents it has: trees have different names for the same files."""
    image = read_image(base)
    return [
        {
            base.read_at(tree.offset_of(entry.records[0]), entry.records[0].size)
            for _, entry in tree.walk()
            if entry.inside is None and entry.extras.target is None
        }
        for tree in image.trees
    ]


def rendered(rope: Rope, base: Memory) -> Memory:
    """Return what a rope is."""
    return Memory(rope.read_at(base, 0, rope.size))


def partition_with_tree(base: Memory) -> Memory | None:
    """Return the partition that has a tree of its own, cut out as the kernel would show it."""
    image = read_image(base)
    origins = {each.origin for each in image.descriptors} - {0}
    part: IsoPartition | None = next((part for part in image.partitions if part.start in origins), None)
    return None if part is None else Memory(base.data[part.start : part.end])


def by_xorriso(path: Path, *options: str) -> dict[str, bytes]:
    """Return all files by path, as xorriso extracts them, by Rock Ridge's names unless it is told otherwise."""
    with tempfile.TemporaryDirectory(prefix="isos-") as folder:
        out = Path(folder, "tree")
        argv = [
            "xorriso",
            "-no_rc",
            "-abort_on",
            "WARNING",
            *options,
            "-osirrox",
            "on",
            "-indev",
            str(path),
            "-extract",
            "/",
            str(out),
        ]
        done = subprocess.run(argv, check=False, capture_output=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return {f"/{file.relative_to(out)}": file.read_bytes() for file in out.rglob("*") if file.is_file()}


def report_of(path: Path, *commands: str) -> str:
    """Return what xorriso reports."""
    argv = ["xorriso", "-no_rc", "-indev", str(path), *commands]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def table_problems(path: Path) -> list[str]:
    """Return what sgdisk finds wrong with the tables."""
    done = subprocess.run(["sgdisk", "-v", str(path)], capture_output=True, text=True, check=False)
    return re.findall(r"^(?:Problem|Warning|Caution|Error).*$", done.stdout + done.stderr, re.MULTILINE)


def by_isoinfo(path: Path, names: str, file: str) -> bytes:
    """Return a file as isoinfo reads it, by Rock Ridge's names (-R), Joliet's (-J), or plain ones (nothing)."""
    argv = ["isoinfo", "-i", str(path), *filter(None, [names]), "-x", file]
    return subprocess.run(argv, check=True, capture_output=True).stdout


def differences(found: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> list[str]:
    """Return the paths that differ; comparing megabytes in an assertion would print them."""
    return sorted(path for path in found.keys() | wanted.keys() if found.get(path) != wanted.get(path))
