"""Files that are put into an image: where their contents go, and what in it has their addresses."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Final

from libironic_disk.errors import IsoUnsupported
from libironic_disk.pure.iso.bootinfo import loader_edit, with_boot_info
from libironic_disk.pure.iso.counterparts import Counterparts, Places
from libironic_disk.pure.iso.directories import Directory, Entry
from libironic_disk.pure.iso.eltorito import BLOCK
from libironic_disk.pure.iso.growing import Growth, Place, growth_of, place_of
from libironic_disk.pure.iso.hybrid import HFS_PLUS
from libironic_disk.pure.iso.image import IsoImage
from libironic_disk.pure.iso.model import TreeKind
from libironic_disk.pure.iso.naming import parts_of
from libironic_disk.pure.iso.newspace import NewSpace
from libironic_disk.pure.iso.occupied import Occupied
from libironic_disk.pure.iso.records import LARGEST_SIZE
from libironic_disk.pure.iso.treechanges import TreeChange
from libironic_disk.pure.iso.volumes import SECTOR
from libironic_disk.pure.ropes import Base, Range, Rope
from libironic_disk.units import align_up

_LARGEST_LOAD: Final = 0xFFFF

Parts = tuple[str, ...]


class FileChanges:
    """All changes of an image's files, collected and then carried out at once.

    Args:
        image: the image.
        base: its bytes.
    """

    def __init__(self, image: IsoImage, base: Base) -> None:
        self._image = image
        self._base = base
        self._edits: dict[int, bytes | Rope] = {}
        self._places = Places(image.main)
        self._files: dict[Range, Range] = {}
        self._made: dict[tuple[int, Parts], Directory] = {}
        self.growth: Growth | None = None

    @property
    def files_moved(self) -> Mapping[Range, Range]:
        """Where files are that aren't any more where they were."""
        return {was: now for was, now in self._files.items() if now.offset != was.offset}

    def put(self, files: Mapping[str, Rope], boot_images: Mapping[int, Rope]) -> None:
        """Take on new contents of files and boot images.

        Raises:
            IsoUnsupported: a path or a size is one that can't be, or it would break something.
        """
        contents = self._by_parts(files)
        for index, content in boot_images.items():
            self._put_boot_image(index, content, contents)
        for parts in contents:
            self._check_path(parts, contents)
        for parts, content in sorted(contents.items()):
            entry = self._image.main.find(parts)
            if entry is None:
                self._add(parts, content)
            else:
                self._replace(parts, entry, content)

    def finish(self) -> dict[int, bytes | Rope]:
        """Return which bytes of the old image change; how it grows is known then.

        Raises:
            IsoUnsupported: something would have to move that can't.
        """
        for change in self._changes:
            self._edits |= change.finish()
        if self.space.size:
            # libisofs reads one sector more than a directory has, and fails if the image or the partition ends there.
            self.space.take(SECTOR)
            self.growth = growth_of(self._image, self._place, self.space.size)
        self._edits |= self._boot_edits()
        return self._edits

    @cached_property
    def space(self) -> NewSpace:
        """Where new contents go."""
        return NewSpace(lambda: self._place.at)

    @cached_property
    def _place(self) -> Place:
        return place_of(self._image, self._occupied.end)

    @cached_property
    def _occupied(self) -> Occupied:
        return Occupied(self._image)

    @cached_property
    def _changes(self) -> tuple[TreeChange, ...]:
        exactly = self._image.main.kind is TreeKind.PLAIN
        trees = self._image.trees
        return tuple(TreeChange(tree, self.space, exactly=exactly, name=self._image.name) for tree in trees)

    @cached_property
    def _counterparts(self) -> tuple[Counterparts, ...]:
        return tuple(Counterparts(self._image.main, self._places, tree) for tree in self._image.trees)

    def _by_parts(self, files: Mapping[str, Rope]) -> dict[Parts, Rope]:
        image = self._image
        contents: dict[Parts, Rope] = {}
        for path, content in files.items():
            parts = image.parts("/" + "/".join(parts_of(path, name=image.name)))
            if parts in contents:
                raise self._refused(f"{path!r} is put into it twice")
            contents[parts] = content
        return contents

    def _check_path(self, parts: Parts, contents: Mapping[Parts, Rope]) -> None:
        path = _path(parts)
        for depth in range(1, len(parts)):
            above = self._image.main.find(parts[:depth])
            if parts[:depth] in contents or (above is not None and above.inside is None):
                raise self._refused(f"{_path(parts[:depth])} is no directory, so {path} can't be in it")
        if contents[parts].size > LARGEST_SIZE:
            raise self._refused(f"{path} would have {contents[parts].size} bytes, {LARGEST_SIZE} are possible")

    def _put_boot_image(self, index: int, content: Rope, contents: dict[Parts, Rope]) -> None:
        image = self._image
        if not 0 <= index < len(image.boot_images):
            raise self._refused(f"it has {len(image.boot_images)} boot images, none of them is number {index}")
        found = image.boot_images[index]
        if content.size != found.size:
            raise self._refused(f"boot image {index} has {found.size} bytes, its new contents {content.size}")
        if found.path is not None:
            parts = image.parts(found.path)
            if parts in contents:
                raise self._refused(f"boot image {index} is {found.path}, which is put into it as well")
            contents[parts] = content
            return
        old = Rope.of(Range(found.offset, found.size))
        self._edits[found.offset] = self._fitted(content, old=old, was=found.offset, now=found.offset)

    def _replace(self, parts: Parts, entry: Entry, content: Rope) -> None:
        self._check_replaceable(parts, entry)
        main, record = self._image.main, entry.records[0]
        was = Range(main.offset_of(record), record.size)
        boots = self._boots(parts, was)
        if boots and not content.size:
            raise self._refused(f"{_path(parts)} is booted from, and can't be empty")
        old = Rope.of(was)
        now = was.offset
        stays = self._fits(was, content)
        if not stays:
            now = self.space.take(content.size)
        if boots:
            content = self._fitted(content, old=old, was=was.offset, now=now)
            self._files[was] = Range(now, content.size)
        if stays and content.size:
            self._edits[now] = content
        elif content.size:
            self.space.put(now, content)
        for change, others in zip(self._changes, self._counterparts, strict=True):
            for each in others.files(parts, entry):
                if not stays:
                    change.place(each, now, content.size)
                elif content.size != was.size:
                    change.resize(each, content.size)

    def _check_replaceable(self, parts: Parts, entry: Entry) -> None:
        path = _path(parts)
        if entry.inside is not None or entry.extras.target is not None:
            what = "a directory" if entry.inside is not None else "a symbolic link"
            raise self._refused(f"{path} is {what}, and no file that could have other contents")
        if len(entry.records) > 1:
            raise self._refused(f"{path} has several extents, and can't be replaced")
        if entry.extras.compressed:
            raise self._refused(f"{path} is compressed (zisofs), and can't be replaced")
        catalog = self._image.catalog
        if catalog is not None and self._image.main.offset_of(entry.records[0]) == catalog.offset:
            raise self._refused(f"{path} is its boot catalog, and can't be replaced")

    def _fits(self, was: Range, content: Rope) -> bool:
        """Return whether new contents can be where the old ones were, and nobody else sees a difference.

        Raises:
            IsoUnsupported: a UDF beside the trees would show something else.
        """
        image = self._image
        same = content.size == was.size
        alone = len(self._places.at(was.offset)) <= 1
        room = align_up(was.size, SECTOR)
        fits = content.size <= room and (not content.size or (alone and not self._occupied.has_others(*_span(was))))
        if image.has_udf and not (same and fits):
            raise self._refused("it has a UDF, too, which would show the old contents")
        # HFS+ has a tree of its own, in which sizes don't change.
        return fits and (same or not any(part.type_id in HFS_PLUS for part in image.partitions))

    def _boots(self, parts: Parts, was: Range) -> bool:
        """Return whether a file is one that is booted from, or a partition: of several names the first one counts."""
        there = self._places.at(was.offset)
        if not there or there[0][0] != _path(parts):
            return False
        starts = {part.start for part in self._image.partitions}
        catalog = self._image.catalog
        starts |= {each.offset for each in catalog.entries} if catalog is not None else set()
        return was.offset in starts

    def _fitted(self, content: Rope, *, old: Rope, was: int, now: int) -> Rope:
        return with_boot_info(content, self._base, old=old, was=was, now=now, name=self._image.name)

    def _add(self, parts: Parts, content: Rope) -> None:
        if self._image.has_udf:
            raise self._refused("it has a UDF, too, which wouldn't show what is new")
        offset = self.space.take(content.size)
        if content.size:
            self.space.put(offset, content)
        for index, change in enumerate(self._changes):
            change.add_file(self._directory(index, parts[:-1]), parts[-1], offset, content.size)

    def _directory(self, index: int, parts: Parts) -> Directory:
        """Return a directory in one of the trees, and make it and those above it if they aren't there."""
        directory = self._image.trees[index].root
        for depth in range(1, len(parts) + 1):
            key = (index, parts[:depth])
            if key not in self._made:
                found = self._counterparts[index].directory(parts[:depth])
                self._made[key] = found or self._changes[index].add_directory(directory, parts[depth - 1])
            directory = self._made[key]
        return directory

    def _boot_edits(self) -> dict[int, bytes | Rope]:
        edits: dict[int, bytes | Rope] = {}
        catalog = self._image.catalog
        moved = {was.offset: (was, now) for was, now in self._files.items()}
        for entry in catalog.entries if catalog is not None else ():
            offset, blocks = self.growth.moved(entry.offset) if self.growth is not None else entry.offset, entry.blocks
            if entry.offset in moved:
                was, now = moved[entry.offset]
                offset = now.offset
                if blocks == _blocks(was.size):
                    blocks = _blocks(now.size)
            if (offset, blocks) == (entry.offset, entry.blocks) or not entry.offset:
                continue
            at, data = entry.edit(sector=offset // SECTOR, blocks=blocks)
            edits[at] = data
            loader = loader_edit(self._image.hybrid.record, entry.offset, offset)
            if loader is not None:
                edits[loader[0]] = loader[1]
        return edits

    def _refused(self, reason: str) -> IsoUnsupported:
        return IsoUnsupported(iso=self._image.name, reason=reason)


def _path(parts: Parts) -> str:
    return "/" + "/".join(parts)


def _span(place: Range) -> tuple[int, int]:
    return place.offset, place.offset + align_up(place.size, SECTOR)


def _blocks(size: int) -> int:
    return min(-(-size // BLOCK), _LARGEST_LOAD)
