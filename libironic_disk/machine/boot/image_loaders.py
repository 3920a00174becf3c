"""Which loaders the EFI system partition of an image carries: those that its CSV files name, and the removable path.

As shim's fallback does (README.fallback, fallback.c): in every directory of ``EFI`` but ``BOOT`` the file
``BOOTX64.CSV`` counts, or its like of another architecture, and where there is none, ``BOOT.CSV``.

The partition is a tenant's. It is read by :mod:`libironic_disk.pure.drives.fat`: the kernel may lack vfat, and no
program that runs as root should have to parse it. What is read is bounded, and whatever is wrong is a problem in words.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from libironic_disk.errors import ConfigDriveInvalid
from libironic_disk.machine.boot import esp
from libironic_disk.pure.boot import bootcsv
from libironic_disk.pure.boot.bootcsv import CsvLoader
from libironic_disk.pure.drives import fat
from libironic_disk.pure.drives.fat import Entry, Reader
from libironic_disk.pure.roles import Architecture

MOST_DIRECTORIES: Final = 64
MOST_FILES: Final = 1024
"""In one directory. Fedora's and Windows' have a dozen."""

MOST_LOADERS: Final = 8
"""What one image may have of the firmware's memory, which is some dozen KiB for the whole machine."""

_MOST_PROBLEMS: Final = 16
_CSV_FILES: Final[Mapping[Architecture, str]] = {
    Architecture.AARCH64: "BOOTAA64.CSV",
    Architecture.RISCV64: "BOOTRISCV64.CSV",
    Architecture.X86_64: "BOOTX64.CSV",
}
_CSV_FOR_ANY: Final = "BOOT.CSV"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLoader:
    """A loader that the image wants an entry for; ``path`` is spelled as it is there, with slashes inside only."""

    path: str
    label: str
    options: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLoaders:
    """What the partition has.

    Attributes:
        loaders: what its CSV files name and what is there, by directory, in each as its file has them.
        removable: the path of the loader that firmware starts without an entry; empty if there is none.
        files: the directories of ``EFI`` that were read to their ends, and what is in each, in lower case.
        problems: what was left out, and why.
    """

    loaders: tuple[ImageLoader, ...] = ()
    removable: str = ""
    files: Mapping[str, frozenset[str]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def lacks(self, path: str) -> bool:
        """Whether it is certain that the partition has no such file; in the path are slashes, none at its start."""
        match path.lower().split("/"):
            case ["efi", directory, file]:
                return directory in self.files and file not in self.files[directory]
            case _:
                return False


def find(node: str, architecture: Architecture) -> FoundLoaders:
    """Look for loaders on an EFI system partition.

    Args:
        node: the partition, or a file with its contents.
        architecture: of the machine that is to start.
    """
    if architecture not in _CSV_FILES:
        return FoundLoaders(problems=(f"UEFI doesn't start a machine of {architecture} here",))
    search = _Search(architecture)
    try:
        with _opened(node) as reader:
            search.run(reader)
    except ConfigDriveInvalid as error:
        # The name is that of its other user; the reason is about FAT.
        search.problems.append(f"{node} can't be read as an EFI system partition: {error.reason}")
    except OSError as error:
        search.problems.append(f"{node} can't be read: {error.strerror or error}")
    return search.found()


class _Search:
    """What was found so far."""

    def __init__(self, architecture: Architecture) -> None:
        self.problems: list[str] = []
        self._architecture = architecture
        self._loaders: list[ImageLoader] = []
        self._removable = ""
        self._files: dict[str, frozenset[str]] = {}

    def run(self, reader: Reader) -> None:
        top = _named(_listed(reader, None), "EFI")
        if top is None or not top.is_directory:
            return
        directories = [each for each in _listed(reader, top.first) if each.is_directory]
        if len(directories) > MOST_DIRECTORIES:
            self.problems.append(f"EFI has more than {MOST_DIRECTORIES} directories; the others aren't looked at")
        # By name, and not by the order in which they were made, which a copy of the files would lose.
        for directory in sorted(directories[:MOST_DIRECTORIES], key=lambda each: (each.name or "").lower()):
            self._look_into(reader, directory, f"{top.name}/{directory.name or '?'}")

    def found(self) -> FoundLoaders:
        problems = [*self.problems[:_MOST_PROBLEMS]]
        if len(self.problems) > _MOST_PROBLEMS:
            problems.append(f"and {len(self.problems) - _MOST_PROBLEMS} problems more")
        if not self._loaders and not self._removable:
            problems.append(f"there is no loader for {self._architecture} that a CSV file names or firmware looks for")
        return FoundLoaders(
            loaders=tuple(self._loaders),
            removable=self._removable,
            files=self._files,
            problems=tuple(problems),
        )

    def _look_into(self, reader: Reader, directory: Entry, path: str) -> None:
        name = directory.name or ""
        why = bootcsv.refusal(name) if name else "its name is written in an unknown code page"
        if why:
            self.problems.append(f"the directory {path!r} isn't looked into: {why}")
            return
        try:
            entries = _listed(reader, directory.first)
            if name.lower() in self._files:
                self.problems.append(f"there are two directories {path!r}")
                return
            self._files[name.lower()] = frozenset((each.name or "").lower() for each in entries)
            self._look_at(reader, entries, path)
        except ConfigDriveInvalid as error:
            self.problems.append(f"{path!r} can't be read: {error.reason}")

    def _look_at(self, reader: Reader, entries: tuple[Entry, ...], path: str) -> None:
        if path.lower() == "efi/boot":
            wanted = esp.REMOVABLE_LOADERS[self._architecture].rpartition("/")[2]
            removable = _named(entries, wanted)
            if removable is not None and not removable.is_directory and removable.size:
                self._removable = f"{path}/{removable.name}"
            return
        for wanted in (_CSV_FILES[self._architecture], _CSV_FOR_ANY):
            if (csv := _named(entries, wanted)) is not None:
                self._read(reader, csv, entries, path)
                return

    def _read(self, reader: Reader, csv: Entry, entries: tuple[Entry, ...], path: str) -> None:
        place = f"{path}/{csv.name}"
        if sum(_is_called(each, csv.name or "") for each in entries) > 1:
            self.problems.append(f"there are two files {place!r}; the first one counts")
        # Its size before its bytes: it may be whatever the directory says.
        if csv.is_directory or csv.size > bootcsv.LARGEST:
            self.problems.append(f"{place!r} is a directory or has more than {bootcsv.LARGEST} bytes")
            return
        read = bootcsv.parse(reader.content(csv))
        self.problems += (f"{place!r}: {problem}" for problem in read.problems)
        for line in read.loaders:
            self._add(line, _named(entries, line.file), path, place)

    def _add(self, line: CsvLoader, file: Entry | None, path: str, place: str) -> None:
        if file is None or file.is_directory or not file.size:
            self.problems.append(f"{place!r} names {line.file!r}, which isn't there")
            return
        # The spelling is the directory's: the same file has to give the same path each time.
        loader = ImageLoader(path=f"{path}/{file.name}", label=line.label, options=line.options)
        if (loader.path, loader.options) in ((each.path, each.options) for each in self._loaders):
            self.problems.append(f"{place!r} names {line.file!r} twice")
        elif len(self._loaders) == MOST_LOADERS:
            self.problems.append(f"{line.file!r} of {place!r} is left out: there are {MOST_LOADERS} before it")
        else:
            self._loaders.append(loader)


def _listed(reader: Reader, first: int | None) -> tuple[Entry, ...]:
    entries = tuple(islice(reader.entries(first), MOST_FILES + 1))
    if len(entries) > MOST_FILES:
        raise ConfigDriveInvalid(reason=f"a directory has more than {MOST_FILES} files")
    return entries


def _named(entries: Iterable[Entry], name: str) -> Entry | None:
    return next((each for each in entries if _is_called(each, name)), None)


def _is_called(entry: Entry, name: str) -> bool:
    # FAT keeps the case of a name and takes it for the same in another one. The Kelvin sign's other case is a k.
    return entry.name is not None and entry.name.lower() == name.lower() and not bootcsv.refusal(entry.name)


@dataclass(frozen=True, slots=True)
class _Device:
    """The bytes of an open device, by slices. A mapping would turn a bad sector into the process's end."""

    descriptor: int

    def __getitem__(self, key: slice, /) -> bytes:
        return os.pread(self.descriptor, key.stop - key.start, key.start)


@contextmanager
def _opened(node: str) -> Iterator[Reader]:
    descriptor = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
    try:
        device = _Device(descriptor)
        size = os.lseek(descriptor, 0, os.SEEK_END)
        geometry = fat.geometry(device[0 : fat.BOOT_SECTOR])
        if geometry is None or size < geometry.size:
            raise ConfigDriveInvalid(reason="it has no FAT file system, or less than its boot sector says")
        yield Reader(device, geometry)
    finally:
        os.close(descriptor)
