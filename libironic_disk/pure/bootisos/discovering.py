"""What boots from an ISO: found from its boot images and the places that are known, and from there by references.

All that is read comes from strangers, so everything is bounded: how many files, how large, how many references. What
can't be followed is said in words.
"""

from __future__ import annotations

import posixpath
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from libironic_disk.errors import IsoInvalid, LoaderConfigRefused
from libironic_disk.pure.bootisos.knownplaces import efi_programs, entries_in, known_configs
from libironic_disk.pure.bootisos.loaderkinds import LOOKED_AT, kind_of_bios_image, kind_of_efi_program
from libironic_disk.pure.bootisos.model import BootConfig, BootLoader, Place
from libironic_disk.pure.bootisos.paths import absolute
from libironic_disk.pure.bootisos.views import TreeView, View, fat_view
from libironic_disk.pure.iso.image import IsoImage
from libironic_disk.pure.loaders.config import LARGEST_CONFIG, ConfigKind, Reference
from libironic_disk.pure.loaders.reading import read_config
from libironic_disk.pure.roles import Firmware
from libironic_disk.pure.ropes import Base

MOST_CONFIGS: Final = 512
MOST_REFERENCES: Final = 8192
_MOST_PROGRAMS: Final = 64
_MOST_SAID: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What was found; ``unresolved`` says what couldn't be followed or read.

    ``views`` are the file systems: the tree under None, and the boot images' by their index.
    """

    loaders: tuple[BootLoader, ...]
    configs: tuple[BootConfig, ...]
    unresolved: tuple[str, ...]
    views: Mapping[int | None, View]


class _Wanted(NamedTuple):
    kind: ConfigKind
    place: Place
    prefix: str


def discover(image: IsoImage, base: Base, *, name: str) -> Discovery:
    """Find boot loaders and configuration files.

    Raises:
        IsoInvalid: the tree is damaged where it has to be read.
        SourceFailed: the ISO can't be read.
    """
    views = dict(_views(image, base, name))
    search = _Search(views)
    loaders = tuple(_loaders(image, base, views, search))
    for index, view in views.items():
        beside = [
            posixpath.dirname(loader.place.path)
            for loader in loaders
            if loader.place is not None and loader.place.boot_image == index
        ]
        with search.noting(_called(index)):
            for kind, path, prefix in known_configs(view, beside):
                search.want(kind, Place(path=path, boot_image=index), prefix)
    search.follow()
    return Discovery(loaders=loaders, configs=tuple(search.configs), unresolved=tuple(search.unresolved), views=views)


def _called(index: int | None) -> str:
    return "the tree" if index is None else f"boot image {index}"


def _views(image: IsoImage, base: Base, name: str) -> Iterator[tuple[int | None, View]]:
    """Yield the file systems: the tree, and the FAT of each boot image; one that two entries share comes once."""
    yield None, TreeView(image, base)
    starts: set[int] = set()
    for index, boot_image in enumerate(image.boot_images):
        view = fat_view(boot_image, base, name) if boot_image.offset not in starts else None
        starts.add(boot_image.offset)
        if view is not None:
            yield index, view


def _loaders(image: IsoImage, base: Base, views: Mapping[int | None, View], search: _Search) -> Iterator[BootLoader]:
    starts = {image.boot_images[index].offset for index in views if index is not None}
    for index, boot_image in enumerate(image.boot_images):
        if boot_image.offset in starts:
            continue
        if boot_image.firmware is not Firmware.BIOS:
            search.say(f"boot image {index}, for {boot_image.firmware}, has no FAT that can be read")
            continue
        place = None if boot_image.path is None else Place(path=boot_image.path)
        head = base.read_at(boot_image.offset, min(boot_image.size, LOOKED_AT))
        kind = kind_of_bios_image(head)
        yield BootLoader(place=place, boot_image=index, firmware=Firmware.BIOS, kind=kind)
    for where, view in views.items():
        with search.noting(_called(where)):
            for found in islice(efi_programs(view), _MOST_PROGRAMS):
                efi_kind = kind_of_efi_program(view.read(found.path, LOOKED_AT))
                if efi_kind is not None:
                    place = Place(path=found.path, boot_image=where)
                    yield BootLoader(place=place, boot_image=where, firmware=Firmware.UEFI, kind=efi_kind)


class _Search:
    """Reads configuration files, each once, and what they refer to."""

    def __init__(self, views: Mapping[int | None, View]) -> None:
        self._views = views
        self._waiting: deque[_Wanted] = deque()
        self._seen: set[tuple[ConfigKind, Place]] = set()
        self._references = 0
        self.configs: list[BootConfig] = []
        self.unresolved: list[str] = []

    def say(self, words: str) -> None:
        """Take note of what couldn't be resolved."""
        if len(self.unresolved) < _MOST_SAID and words not in self.unresolved:
            self.unresolved.append(words)

    def noting(self, where: str) -> _Noting:
        """Take note of damage instead of giving up: the other file systems may be whole."""
        return _Noting(self, where)

    def want(self, kind: ConfigKind, place: Place, prefix: str) -> None:
        """Have a file read, unless it was or will be."""
        if (kind, place) in self._seen:
            return
        if len(self._seen) >= MOST_CONFIGS:
            self.say(f"more than {MOST_CONFIGS} configuration files: {place} and others were not read")
            return
        self._seen.add((kind, place))
        self._waiting.append(_Wanted(kind, place, prefix))

    def follow(self) -> None:
        """Read what waits, until nothing does."""
        while self._waiting:
            wanted = self._waiting.popleft()
            with self.noting(str(wanted.place)):
                self._read(wanted)

    def _read(self, wanted: _Wanted) -> None:
        view = self._views[wanted.place.boot_image]
        text = view.read(wanted.place.path, LARGEST_CONFIG + 1)
        if len(text) > LARGEST_CONFIG:
            self.say(f"{wanted.place}: it is larger than a configuration file may be")
            return
        config = read_config(text, wanted.kind, prefix=wanted.prefix)
        self.configs.append(
            BootConfig(
                place=wanted.place,
                kind=wanted.kind,
                prefix=wanted.prefix,
                lines=config.lines,
                references=config.references,
            )
        )
        for reference in config.references:
            self._references += 1
            if self._references > MOST_REFERENCES:
                self.say(f"more than {MOST_REFERENCES} references: those of {wanted.place} were not followed")
                return
            self._refer(wanted, reference)

    def _refer(self, wanted: _Wanted, reference: Reference) -> None:
        """Look where a reference may lead: to the same file system, and to the tree that it may have searched for."""
        if not reference.resolvable:
            self.say(f"{wanted.place}: {reference.path} can't be resolved before it runs")
            return
        indices = dict.fromkeys((wanted.place.boot_image, None))
        found = [index for index in indices if self._want_in(index, reference, wanted)]
        if not found:
            self.say(f"{wanted.place}: {reference.path} isn't there")

    def _want_in(self, index: int | None, reference: Reference, wanted: _Wanted) -> bool:
        path = absolute(reference.path, "/")
        there = self._views[index].find(path)
        if there is None:
            return False
        if not there.is_directory:
            self.want(reference.kind, Place(path=there.path, boot_image=index), _prefix(wanted, reference, there.path))
        elif reference.kind is ConfigKind.LOADER_ENTRY:
            for kind, found, prefix in entries_in(self._views[index], there.path):
                self.want(kind, Place(path=found, boot_image=index), prefix)
        else:
            return False
        return True


def _prefix(wanted: _Wanted, reference: Reference, path: str) -> str:
    """Paths of an included file count from where those of the including one do; another loader's from beside it."""
    return wanted.prefix if reference.kind is wanted.kind else posixpath.dirname(path)


class _Noting:
    """Keeps what is wrong with one file from hiding all the others."""

    def __init__(self, search: _Search, where: str) -> None:
        self._search = search
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, IsoInvalid | LoaderConfigRefused):
            self._search.say(f"{self._where}: {error}")
            return True
        return False
