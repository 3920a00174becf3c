"""What is known of the systems in a menu, kept as JSON beside it on the multiboot partition.

GRUB doesn't read it. It is what a menu is listed from, checked by and made anew of: the menu itself says neither which
image an entry belongs to nor where that image's file systems are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from libironic_disk.errors import DiskError, MultibootDamaged
from libironic_disk.pure.boot.grubcfg import MenuEntry
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.multimenu import MultiMenu
from libironic_disk.pure.disks.layout import FileSystem

_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file system of an image: ``volume`` is GRUB's name of the logical volume it is on, ``subvolume`` btrfs' own."""

    filesystem: FileSystem
    uuid: str
    partuuid: str = ""
    volume: str = ""
    subvolume: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """An image on the disk.

    ``name`` is what volumes and callers call it; ``boot`` the file system on its ``/boot``, where that is another one.
    ``parameters`` are what whoever deployed it adds for its kernel.
    """

    name: str
    image_name: str
    image_uuid: str
    root: Place
    boot: Place | None = None
    parameters: KernelParameters

    @property
    def places(self) -> tuple[Place, ...]:
        """All file systems of it that are known, the root first."""
        return (self.root,) if self.boot is None else (self.root, self.boot)

    @property
    def kernels_on(self) -> Place:
        """The file system that GRUB loads its kernels from."""
        return self.boot or self.root


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEntry:
    """A menu entry, and the name of the image that it starts."""

    image: str
    entry: MenuEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuRecord:
    """Everything about one generation of the menu; ``default`` is an entry's id, ``left_out`` says what has none."""

    multiboot_uuid: str
    images: tuple[ImageRecord, ...]
    entries: tuple[RecordedEntry, ...]
    default: str
    timeout: int
    left_out: tuple[str, ...] = ()

    @property
    def menu(self) -> MultiMenu:
        """The menu that GRUB shows."""
        return MultiMenu(entries=tuple(each.entry for each in self.entries), default=self.default, timeout=self.timeout)

    @property
    def ids(self) -> frozenset[str]:
        """The ids of all entries."""
        return frozenset(each.entry.id for each in self.entries)

    def entries_of(self, image: str) -> tuple[RecordedEntry, ...]:
        """Return the entries that start an image, in their order."""
        return tuple(each for each in self.entries if each.image == image)

    def image(self, name: str) -> ImageRecord:
        """Return the image of this name.

        Raises:
            KeyError: there is none.
        """
        for each in self.images:
            if each.name == name:
                return each
        raise KeyError(name)

    def image_of(self, entry: str) -> str:
        """Return the name of the image that an entry starts.

        Raises:
            KeyError: there is no such entry.
        """
        for each in self.entries:
            if each.entry.id == entry:
                return each.image
        raise KeyError(entry)


def as_json(record: MenuRecord) -> str:
    """Return the record as a JSON document."""
    document = {
        "version": _VERSION,
        "multiboot_uuid": record.multiboot_uuid,
        "default": record.default,
        "timeout": record.timeout,
        "left_out": list(record.left_out),
        "images": [
            {
                "name": image.name,
                "image_name": image.image_name,
                "image_uuid": image.image_uuid,
                "root": _place(image.root),
                "boot": None if image.boot is None else _place(image.boot),
                "parameters": list(image.parameters.words),
            }
            for image in record.images
        ],
        "entries": [
            {
                "image": each.image,
                "id": each.entry.id,
                "title": each.entry.title,
                "root_uuid": each.entry.root_uuid,
                "volume": each.entry.volume,
                "kernel": each.entry.kernel,
                "initrd": each.entry.initrd,
                "parameters": list(each.entry.parameters.words),
            }
            for each in record.entries
        ],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _place(place: Place) -> dict[str, str]:
    return {
        "filesystem": place.filesystem.value,
        "uuid": place.uuid,
        "partuuid": place.partuuid,
        "volume": place.volume,
        "subvolume": place.subvolume,
    }


def parse(text: str, *, path: str) -> MenuRecord:
    """Read a record back.

    Raises:
        MultibootDamaged: it isn't one.
    """
    try:
        record = _record(json.loads(text))
        record.menu  # noqa: B018 # its ids are checked where it is made
        names = {image.name for image in record.images}
        if unknown := {each.image for each in record.entries} - names:
            raise ValueError(f"entries of images that it doesn't know: {', '.join(sorted(unknown))}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, DiskError) as error:
        raise MultibootDamaged(path=path, reason=f"it is no record of a menu ({error})") from error
    return record


def _record(document: object) -> MenuRecord:
    fields = _object(document)
    if fields["version"] != _VERSION:
        raise ValueError(f"its version is {fields['version']!r}, this library knows {_VERSION}")
    return MenuRecord(
        multiboot_uuid=_text(fields["multiboot_uuid"]),
        default=_text(fields["default"]),
        timeout=_number(fields["timeout"]),
        left_out=_texts(fields["left_out"]),
        images=tuple(_image(_object(each)) for each in _list(fields["images"])),
        entries=tuple(_entry(_object(each)) for each in _list(fields["entries"])),
    )


def _image(fields: Mapping[str, object]) -> ImageRecord:
    return ImageRecord(
        name=_text(fields["name"]),
        image_name=_text(fields["image_name"]),
        image_uuid=_text(fields["image_uuid"]),
        root=_read_place(fields["root"]),
        boot=None if fields["boot"] is None else _read_place(fields["boot"]),
        parameters=KernelParameters(words=_texts(fields["parameters"])),
    )


def _read_place(document: object) -> Place:
    fields = _object(document)
    names = ("uuid", "partuuid", "volume", "subvolume")
    return Place(filesystem=FileSystem(_text(fields["filesystem"])), **{name: _text(fields[name]) for name in names})


def _entry(fields: Mapping[str, object]) -> RecordedEntry:
    names = ("id", "title", "root_uuid", "volume", "kernel", "initrd")
    entry = MenuEntry(
        **{name: _text(fields[name]) for name in names}, parameters=KernelParameters(words=_texts(fields["parameters"]))
    )
    return RecordedEntry(image=_text(fields["image"]), entry=entry)


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError("an object is missing")
    return cast("Mapping[str, object]", value)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError("a list is missing")
    return cast("list[object]", value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    # They become paths and arguments of programs, which have neither.
    value.encode()
    if "\0" in value:
        raise ValueError("a text has a NUL in it")
    return value


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(each) for each in _list(value))


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a number is missing")
    return value
