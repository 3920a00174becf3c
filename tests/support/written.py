"""Images written to plain files, which hold old data everywhere beforehand."""

from __future__ import annotations

import subprocess
from pathlib import Path

from libironic_disk import images
from libironic_disk.images import ImageWritten, InspectedImage

OLD = b"\xaa"

PACKERS = {
    "gzip": ("gzip", "--fast"),
    "xz": ("xz", "-0"),
    "zstd": ("zstd", "--quiet"),
    "bzip2": ("bzip2", "--fast"),
}
"""The programs that compress an image, by the names of what they make."""


def used(path: Path, size: int) -> Path:
    """Make a target that holds old data everywhere."""
    path.write_bytes(OLD * size)
    return path


def packed(plain: Path, pack: str, folder: Path | None = None) -> Path:
    """Compress a copy of a file, beside it or in a folder."""
    copy = (folder or plain.parent) / f"{plain.name}.{pack}"
    with copy.open("wb") as file:
        subprocess.run([*PACKERS[pack], "--stdout", str(plain)], stdout=file, check=True)
    return copy


def write(image: InspectedImage, target: Path, *, capacity: int | None = None, **options: object) -> ImageWritten:
    """Write an image to a target, all of which it may use unless told otherwise."""
    size = target.stat().st_size if capacity is None else capacity
    return images.write_image(image, str(target), capacity=size, regular_file=True, **options)  # type: ignore[arg-type]
