"""Make a FAT image of a few files, with mkfs.vfat and mtools: no mount, no loop device and no root needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from libironic_disk.errors import ConfigDriveInvalid
from libironic_disk.machine import process, scratch
from libironic_disk.pure.drives import fat
from libironic_disk.pure.drives.filetree import FileTree, by_directory
from libironic_disk.units import KIB, align_up

TOOLS: Final = ("mkfs.vfat", "mcopy", "mmd")

_VOLUME_ID: Final = "c0f1d21f"
# What DOS takes for devices in every directory; mtools writes no such file, and says nothing.
_DEVICES: Final = frozenset(
    {"AUX", "CON", "NUL", "PRN", *(f"{port}{at}" for port in ("COM", "LPT") for at in range(1, 10))}
)
_FOREIGN: Final = frozenset('"*:<>?\\|')
_TIMEOUT: Final = 60.0
_FEWEST_ROOT_ENTRIES: Final = 512
_CLUSTER_SIZES: Final = (4 * KIB, 8 * KIB, 16 * KIB, 32 * KIB)
_FEWEST_CLUSTERS: Final = 16
_SPARE_CLUSTERS: Final = 8
_MTOOLS: Final = {
    "LC_ALL": "C.UTF-8",  # in the C locale it would replace what isn't ASCII in a name
    "MTOOLSRC": "/dev/null",
    "MTOOLS_SKIP_CHECK": "1",  # it refuses a size that isn't whole tracks of some disk of old
    "SOURCE_DATE_EPOCH": "315532800",  # 1980-01-01, FAT's first day
    "TZ": "UTC",
}


def make(files: FileTree, *, sector_size: int, label: str, tempdir: Path | None = None) -> bytes:
    """Return a FAT12 or FAT16 image of ``files``; the same files give the same bytes.

    Args:
        files: contents by path.
        sector_size: bytes, 512 to 4096; the image has a multiple of it.
        label: up to 11 characters, upper case.
        tempdir: where the private directory for the time of the work is made; the system's own place by default.

    Raises:
        ConfigDriveInvalid: FAT can't hold these names or this much, or has no such sectors.
        ToolMissing, ProgramFailed, ProgramTimedOut: mkfs.vfat or mtools, before anything is left behind.
        TemporaryFilesFailed: the private directory can't be made, or is full.
    """
    if sector_size not in fat.SECTOR_SIZES:
        raise ConfigDriveInvalid(reason=f"no file system for a config drive has sectors of {sector_size} bytes")
    process.require(TOOLS)
    _check_names(files)
    shape = _shape(files, sector_size)
    with scratch.directory(prefix="config-drive-", parent=tempdir) as private:
        image, tree = private / "image", private / "files"
        with scratch.reported(tempdir):
            with image.open("wb") as file:
                file.truncate(shape.size)
            _spread(tree, files)
        _format(image, shape, label)
        _fill(image, tree, files)
        with scratch.reported(tempdir):
            made = image.read_bytes()
    if fat.read_files(made, limit=len(made)) != dict(files):
        # mtools loses names that FAT hasn't, and what the disk doesn't take, and is content with both.
        where = scratch.place(tempdir)
        reason = f"FAT doesn't keep the names of its files as they are, or {where} doesn't keep what is written to it"
        raise ConfigDriveInvalid(reason=reason)
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    sector_size: int
    cluster_size: int
    width: int
    root_entries: int
    size: int


def _check_names(files: FileTree) -> None:
    seen: dict[str, str] = {}
    for name in files:
        path = PurePosixPath(name)
        for part in path.parts:
            if part.upper() in _DEVICES or _FOREIGN & set(part) or part.rstrip(" .") != part or min(part) < " ":
                raise ConfigDriveInvalid(reason="it has a file name that FAT can't hold")
        for place in (path, *path.parents):
            if seen.setdefault(str(place).casefold(), str(place)) != str(place):
                raise ConfigDriveInvalid(reason="it has two file names that are one on FAT, where case doesn't count")


def _shape(files: FileTree, sector_size: int) -> _Shape:
    """Choose the smallest file system that certainly holds the files, by the FAT specification's arithmetic."""
    # Beside the entries: the label in the root, "." and ".." elsewhere.
    in_root, *elsewhere = (_entries(paths) for paths in by_directory(files).values())
    root_entries = align_up(max(_FEWEST_ROOT_ENTRIES, 1 + in_root), sector_size // fat.ENTRY)
    sizes = [len(content) for content in files.values()] + [(2 + count) * fat.ENTRY for count in elsewhere]
    for cluster_size in _CLUSTER_SIZES:
        clusters = sum(-(-size // cluster_size) for size in sizes) + _SPARE_CLUSTERS
        if cluster_size >= sector_size and clusters <= fat.MOST_CLUSTERS_FAT16:
            break
    else:
        raise ConfigDriveInvalid(reason="it is larger than FAT16 can be")
    # mkfs.vfat warns of cluster counts next to the boundary, because some systems put it elsewhere.
    width = 12 if clusters < fat.MOST_CLUSTERS_FAT12 - _SPARE_CLUSTERS else 16
    clusters = max(clusters, _FEWEST_CLUSTERS if width == 12 else fat.MOST_CLUSTERS_FAT12 + _SPARE_CLUSTERS)
    table_size = align_up(-(-(clusters + 2) * width // 8), sector_size)
    size = sector_size + 2 * table_size + root_entries * fat.ENTRY + clusters * cluster_size
    return _Shape(
        sector_size=sector_size,
        cluster_size=cluster_size,
        width=width,
        root_entries=root_entries,
        size=align_up(size, max(fat.SECTOR_SIZES)),
    )


def _entries(paths: Iterable[PurePosixPath]) -> int:
    """How many entries a directory needs at most: one for each name, and one for every 13 UTF-16 units of it."""
    return sum(1 + -(-len(path.name.encode("utf-16-le")) // 26) for path in paths)


def _format(image: Path, shape: _Shape, label: str) -> None:
    process.run(
        *("mkfs.vfat", "--invariant", "-a", "-R", "1", "-f", "2"),
        *("-F", str(shape.width)),
        *("-S", str(shape.sector_size)),
        *("-s", str(shape.cluster_size // shape.sector_size)),
        *("-r", str(shape.root_entries)),
        *("-i", _VOLUME_ID, "-n", label, str(image)),
        timeout=_TIMEOUT,
    )


def _spread(tree: Path, files: FileTree) -> None:
    for directory in by_directory(files):
        Path(tree, directory).mkdir()
    for name, content in files.items():
        Path(tree, name).write_bytes(content)


def _fill(image: Path, tree: Path, files: FileTree) -> None:
    """Copy the files, one directory at a time: a recursive copy follows the order of the scratch directory's hashes."""
    listing = by_directory(files)
    mtools = ("-i", str(image))
    _, *made = (f"::/{directory}" for directory in listing)
    if made:
        process.run("mmd", *mtools, *made, timeout=_TIMEOUT, environment=_MTOOLS)
    for directory, paths in listing.items():
        sources = [str(Path(tree, path)) for path in paths if path not in listing]
        if sources:
            process.run("mcopy", *mtools, *sources, f"::/{directory}", timeout=_TIMEOUT, environment=_MTOOLS)
