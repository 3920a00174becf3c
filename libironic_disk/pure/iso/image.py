"""An ISO 9660 image as a whole: its trees, what boots from it, and what it looks like as a disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from libironic_disk.errors import IsoInvalid, IsoUnsupported
from libironic_disk.pure.iso.directories import Directory, Entry, Tree, TreeReader
from libironic_disk.pure.iso.eltorito import BLOCK, Catalog, CatalogEntry, Platform, read_catalog
from libironic_disk.pure.iso.hybrid import EFI_SYSTEM, Hybrid, read_hybrid
from libironic_disk.pure.iso.mediachecksum import ImplantedChecksum, read_checksum
from libironic_disk.pure.iso.model import BootImage, IsoFile, IsoPartition, PartitionTable, TreeKind
from libironic_disk.pure.iso.volumes import DescriptorSet, Volume, VolumeKind, read_descriptors
from libironic_disk.pure.roles import Firmware
from libironic_disk.pure.ropes import Base, Rope

_MOST_STARTS: Final = 32
_PREFERRED: Final = (TreeKind.ROCK_RIDGE, TreeKind.JOLIET, TreeKind.PLAIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class IsoImage:
    """What :func:`read_image` found.

    Attributes:
        name: the image's in errors.
        size: bytes.
        descriptors: the sets of volume descriptors, the one at sector 16 first.
        trees: all of them; those of a partition's own descriptors have another origin.
        main: the one whose names count.
        catalog: El Torito's.
        hybrid: the partition tables.
        boot_images: what firmware boots, in the order of the catalog, and EFI system partitions that aren't in it.
        media_checksum: isomd5sum's.
    """

    name: str
    size: int
    descriptors: tuple[DescriptorSet, ...]
    trees: tuple[Tree, ...]
    main: Tree
    catalog: Catalog | None
    hybrid: Hybrid
    boot_images: tuple[BootImage, ...]
    media_checksum: ImplantedChecksum | None

    @property
    def volume_id(self) -> str:
        """Its label, as the primary volume descriptor has it."""
        return self.primary.label

    @property
    def primary(self) -> Volume:
        """The primary volume descriptor."""
        return next(each for each in self.descriptors[0].volumes if each.kind is VolumeKind.PRIMARY)

    @property
    def partitions(self) -> tuple[IsoPartition, ...]:
        """Those of all tables."""
        return self.hybrid.partitions

    @property
    def tables(self) -> tuple[PartitionTable, ...]:
        """Which tables there are."""
        there = {part.table for part in self.partitions}
        return tuple(table for table in PartitionTable if table in there)

    @property
    def has_udf(self) -> bool:
        """Whether the same files are also in a UDF."""
        return self.descriptors[0].udf

    def files(self) -> Iterator[IsoFile]:
        """Yield all files, directories and links but the root, each directory before what is in it."""
        for path, entry in self.main.walk():
            yield self.main.file_of(path, entry)

    def find(self, path: str) -> IsoFile | None:
        """Return what is at a path, by Rock Ridge's names, else Joliet's, else lower-case ones without version."""
        parts = self.parts(path)
        if not parts:
            return IsoFile(path="/", offset=self.main.offset_of(self.main.root.record), size=0, is_dir=True)
        entry = self.main.find(parts)
        return None if entry is None else self.main.file_of("/" + "/".join(parts), entry)

    def children(self, path: str) -> tuple[IsoFile, ...]:
        """Return what is in a directory; nothing if there is no such directory."""
        parts = self.parts(path)
        entry = self.main.find(parts)
        directory: Directory | None = self.main.root if not parts else entry.inside if entry is not None else None
        if directory is None:
            return ()
        parent = "".join(f"/{part}" for part in parts)
        return tuple(self.main.file_of(f"{parent}/{name}", each) for name, each in directory.entries.items())

    def content(self, path: str) -> Rope:
        """Return the contents of a file.

        Raises:
            IsoUnsupported: there is no such file, or it is stored compressed.
        """
        file = self.find(path)
        if file is None or file.is_dir or file.is_symlink:
            raise IsoUnsupported(iso=self.name, reason=f"it has no file {path}")
        if file.compressed:
            raise IsoUnsupported(iso=self.name, reason=f"{path} is compressed (zisofs)")
        return Rope.of(*file.extents)

    def parts(self, path: str) -> tuple[str, ...]:
        """Return a path's names; where names have no case of their own, in lower case."""
        found = path.lower() if self.main.kind is TreeKind.PLAIN else path
        return tuple(part for part in found.split("/") if part)


def read_image(base: Base, *, name: str = "the image", size: int | None = None) -> IsoImage:
    """Read an image; nothing of the contents of its files is read.

    Args:
        base: its bytes.
        name: what it is called in errors.
        size: how many bytes of the base are the image, None for all.

    Raises:
        IsoInvalid: it isn't one, or is damaged.
        IsoUnsupported: it is of a kind that isn't read here.
        SourceFailed: it can't be read.
    """
    size = base.size if size is None else size
    first = read_descriptors(base, size=size, origin=0, name=name)
    if first is None:
        raise IsoInvalid(iso=name, problems=("it has no primary volume descriptor at sector 16",))
    end = max(volume.end for volume in first.volumes)
    if end > size:
        problem = f"it has {size} bytes, and its volume descriptors count {end}: it was cut off"
        raise IsoInvalid(iso=name, problems=(problem,))
    hybrid = read_hybrid(base, size)
    sets = [first, *_of_partitions(base, hybrid, size, name)]
    reader = TreeReader(base, size=size, name=name)
    trees = [[reader.read(volumes) for volumes in _by_root(each)] for each in sets]
    main = min(trees[0], key=lambda tree: _PREFERRED.index(tree.kind))
    views = [at for at in range(1, len(sets)) if _has_files_of(trees[at], main)]
    catalog = None
    if first.catalog is not None:
        catalog = read_catalog(base, offset=first.catalog, origin=0, size=size, name=name)
    return IsoImage(
        name=name,
        size=size,
        descriptors=(first, *(sets[at] for at in views)),
        trees=(*trees[0], *(tree for at in views for tree in trees[at])),
        main=main,
        catalog=catalog,
        hybrid=hybrid,
        boot_images=tuple(_boot_images(catalog, hybrid, main, size)),
        media_checksum=read_checksum(first),
    )


def _of_partitions(base: Base, hybrid: Hybrid, size: int, name: str) -> Iterator[DescriptorSet]:
    # A GPT can have thousands of entries, and in each place there could be a tree.
    for start in sorted({part.start for part in hybrid.partitions if 0 < part.start < size})[:_MOST_STARTS]:
        found = read_descriptors(base, size=size, origin=start, name=name)
        if found is not None:
            yield found


def _by_root(descriptors: DescriptorSet) -> Iterator[tuple[Volume, ...]]:
    """Yield the descriptors that have one root, the primary one first among them."""
    roots: dict[bytes, list[Volume]] = {}
    for volume in descriptors.volumes:
        roots.setdefault(volume.root[2:6], []).append(volume)
    for volumes in roots.values():
        yield tuple(sorted(volumes, key=lambda each: each.kind is not VolumeKind.PRIMARY))


def _has_files_of(trees: list[Tree], main: Tree) -> bool:
    """Return whether trees show the same files: a partition can also hold another image, which is left alone."""
    known = {main.offset_of(each) for _, entry in main.walk() for each in entry.records if _is_file(entry)}
    there = (tree.offset_of(each) for tree in trees for _, entry in tree.walk() for each in entry.records)
    return any(offset in known for offset in there)


def _is_file(entry: Entry) -> bool:
    return entry.inside is None and entry.extras.target is None and entry.records[0].size > 0


def _boot_images(catalog: Catalog | None, hybrid: Hybrid, main: Tree, size: int) -> Iterator[BootImage]:
    files: dict[int, IsoFile] = {}
    for path, entry in main.walk():
        if _is_file(entry):
            files.setdefault(main.offset_of(entry.records[0]), main.file_of(path, entry))
    known: set[int] = set()
    for each in catalog.entries if catalog is not None else ():
        if each.platform in {Platform.X86, Platform.EFI} and each.offset:
            known.add(each.offset)
            yield _of_catalog(each, files.get(each.offset), hybrid, size)
    for part in hybrid.partitions:
        if part.type_id in EFI_SYSTEM and part.start not in known and part.end <= size:
            known.add(part.start)
            file = files.get(part.start)
            yield BootImage(
                firmware=Firmware.UEFI,
                bootable=True,
                emulated=False,
                offset=part.start,
                size=part.size if file is None else file.size,
                path=None if file is None else file.path,
                catalog_offset=None,
                load_size=0,
            )


def _of_catalog(entry: CatalogEntry, file: IsoFile | None, hybrid: Hybrid, size: int) -> BootImage:
    loaded = entry.blocks * BLOCK
    known = file.size if file is not None else 0
    if file is None:
        known = max((part.size for part in hybrid.partitions if part.start == entry.offset), default=0) or loaded
    return BootImage(
        firmware=Firmware.UEFI if entry.platform == Platform.EFI else Firmware.BIOS,
        bootable=entry.bootable,
        emulated=entry.emulated,
        offset=entry.offset,
        size=min(known, max(0, size - entry.offset)),
        path=None if file is None else file.path,
        catalog_offset=entry.at,
        load_size=loaded,
    )
