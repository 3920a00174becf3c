"""The files of a boot ISO while a patch is planned: those that changed, and the others as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from libironic_disk.errors import BootIsoRefused
from libironic_disk.pure.bootisos.discovering import Discovery
from libironic_disk.pure.bootisos.model import Place
from libironic_disk.pure.drives.fat_changing import edits_of_file
from libironic_disk.pure.iso.image import IsoImage
from libironic_disk.pure.ropes import Base, Range, Rope
from libironic_disk.units import MIB

LARGEST_INSIDE: Final = 256 * MIB
"""Bytes of a file inside of a boot image that gets longer: it is held in memory."""


class Contents:
    """Contents of files by their places; what was changed is read back changed.

    Args:
        image: the ISO.
        base: its bytes, and behind them those of files that are put.
        found: what boots from it.
        name: by which the ISO is called in errors.
    """

    def __init__(self, image: IsoImage, base: Base, found: Discovery, *, name: str) -> None:
        self._image = image
        self._base = base
        self._found = found
        self._name = name
        self._tree: dict[str, Rope] = {}
        self._inside: dict[int, dict[str, bytes]] = {}

    @property
    def changed(self) -> Mapping[str, Rope]:
        """What changed in the tree so far, the boot images left out."""
        return self._tree

    def put(self, path: str, content: Rope) -> None:
        """Change a file of the tree, or make one."""
        self._tree[path] = content

    def found(self, place: Place) -> Place | None:
        """Return where a file is, links followed; None if there is none, or a directory."""
        if place.boot_image is None and place.path in self._tree:
            return place
        found = self._found.views[place.boot_image].find(place.path)
        if found is None or found.is_directory:
            return None
        return Place(path=found.path, boot_image=place.boot_image)

    def rope(self, path: str) -> Rope:
        """Return the contents of a file in the tree."""
        return self._tree[path] if path in self._tree else self._image.content(path)

    def text(self, place: Place, limit: int) -> bytes:
        """Return the contents of a small file, ``limit`` bytes of it at most."""
        if place.boot_image is not None:
            changed = self._inside.get(place.boot_image, {}).get(place.path)
            return changed if changed is not None else self._found.views[place.boot_image].read(place.path, limit)
        rope = self.rope(place.path)
        return rope.read_at(self._base, 0, min(rope.size, limit))

    def change(self, place: Place, content: bytes) -> None:
        """Change a small file, in the tree or in a boot image."""
        if place.boot_image is None:
            self._tree[place.path] = Rope.of(content)
        else:
            self._inside.setdefault(place.boot_image, {})[place.path] = content

    def append(self, place: Place, more: bytes) -> None:
        """Add bytes to the end of a file."""
        if place.boot_image is None:
            self._tree[place.path] = self.rope(place.path) + Rope.of(more)
        else:
            self.change(place, self.text(place, LARGEST_INSIDE) + more)

    def size(self, place: Place) -> int:
        """Return the bytes of a file."""
        if place.boot_image is None:
            return self.rope(place.path).size
        return len(self.text(place, LARGEST_INSIDE))

    def pack(self) -> dict[int, Rope]:
        """Bring what changed inside boot images into these; return those that aren't in the tree, by their index.

        Raises:
            BootIsoRefused: a boot image was replaced as a whole.
            FatImageRefused: its file system hasn't room for a file, or is damaged.
        """
        outside: dict[int, Rope] = {}
        for index, files in self._inside.items():
            boot_image = self._image.boot_images[index]
            where = boot_image.path
            if where in self._tree:
                reason = f"{where} can't be replaced while a file inside of it is changed"
                raise BootIsoRefused(iso=self._name, reason=reason)
            rope = Rope.of(Range(boot_image.offset, boot_image.size))
            for path, content in files.items():
                source = _Source(rope, self._base)
                rope = rope.overlaid(edits_of_file(source, rope.size, path, content))
            if where is None:
                outside[index] = rope
            else:
                self._tree[where] = rope
        return outside


class _Source:
    """A rope, as what the FAT's reader takes bytes from."""

    def __init__(self, rope: Rope, base: Base) -> None:
        self._rope = rope
        self._base = base

    def __getitem__(self, key: slice, /) -> bytes:
        start, stop, _ = key.indices(self._rope.size)
        return self._rope.read_at(self._base, start, max(0, stop - start))
