"""Trees of directories: read as a whole, with limits, because whoever made an image may have wanted to waste our time.

ECMA-119 (4th edition) 6.8 and 9.1, Joliet, and Rock Ridge's names, links and relocated directories.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from libironic_disk.errors import IsoInvalid, IsoUnsupported
from libironic_disk.pure.iso import rockridge
from libironic_disk.pure.iso.model import IsoFile, TreeKind
from libironic_disk.pure.iso.records import PARENT, SELF, Record, RecordDamaged, read_records
from libironic_disk.pure.iso.rockridge import Extras
from libironic_disk.pure.iso.volumes import SECTOR, Volume, VolumeKind
from libironic_disk.pure.ropes import Base, Range
from libironic_disk.units import MIB, align_up

_MOST_RECORDS: Final = 100_000
_MOST_BYTES: Final = 64 * MIB
_LARGEST_DIRECTORY: Final = 16 * MIB
_DEEPEST: Final = 64
_LARGEST_CONTINUATION: Final = 4096
_FORBIDDEN: Final = frozenset({"", ".", ".."})


class Budget:
    """How much may be read of all trees of an image together."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._records = _MOST_RECORDS
        self._bytes = _MOST_BYTES

    def take(self, *, records: int = 0, size: int = 0) -> None:
        """Use some of it up.

        Raises:
            IsoUnsupported: so much isn't there.
        """
        self._records -= records
        self._bytes -= size
        if self._records < 0 or self._bytes < 0:
            reason = f"it has more than {_MOST_RECORDS} directory records, or {_MOST_BYTES} bytes of directories"
            raise IsoUnsupported(iso=self._name, reason=reason)


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """Something in a directory: a file's records are several if it is larger than one extent can be."""

    name: str
    records: tuple[Record, ...]
    extras: Extras
    inside: Directory | None = None
    """What is in it, for a directory: of a placeholder what is in the directory that is meant."""


@dataclass(frozen=True, slots=True, eq=False)
class Directory:
    """A directory where it is stored.

    Attributes:
        record: the one in its parent; of the root, the one in the volume descriptor.
        parent: where it is stored; None for the root.
        records: all that are in it, its own and its parent's included, in their order.
        entries: what is meant to be in it, by name.
    """

    record: Record
    parent: Directory | None
    records: list[Record] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Tree:
    """All directories below one root.

    Attributes:
        kind: which names it has.
        volumes: the descriptors that lead to it.
        origin: what its addresses count from, in bytes.
        root: its root.
        directories: all of them, each behind its parent, in the order in which path tables have them.
        skip: bytes before Rock Ridge's first entry in each record.
        mode_size: bytes of Rock Ridge's entry with the mode.
    """

    kind: TreeKind
    volumes: tuple[Volume, ...]
    origin: int
    root: Directory
    directories: tuple[Directory, ...]
    skip: int = 0
    mode_size: int = 0

    @property
    def descriptor(self) -> int:
        """Where the first of its volume descriptors is."""
        return self.volumes[0].at

    def offset_of(self, record: Record) -> int:
        """Return where a record's contents begin in the image."""
        return self.origin + record.extent * SECTOR

    def find(self, parts: tuple[str, ...]) -> Entry | None:
        """Return what is at a path, None also for the root."""
        directory: Directory | None = self.root
        entry = None
        for part in parts:
            entry = directory.entries.get(part) if directory is not None else None
            directory = entry.inside if entry is not None else None
        return entry

    def walk(self) -> Iterator[tuple[str, Entry]]:
        """Yield all there is but the root, with its path; each directory before what is in it."""
        waiting = [("", self.root)]
        seen = {id(self.root)}
        while waiting:
            path, directory = waiting.pop()
            for name, entry in directory.entries.items():
                yield f"{path}/{name}", entry
                if entry.inside is not None and id(entry.inside) not in seen:
                    seen.add(id(entry.inside))
                    waiting.append((f"{path}/{name}", entry.inside))

    def file_of(self, path: str, entry: Entry) -> IsoFile:
        """Return an entry as the value that others see."""
        first = entry.records[0]
        target = entry.extras.target
        is_file = entry.inside is None and target is None
        extents = (
            tuple(Range(self.offset_of(each), each.size) for each in entry.records if each.size) if is_file else ()
        )
        return IsoFile(
            path=path,
            offset=self.offset_of(first),
            size=sum(extent.size for extent in extents),
            is_dir=entry.inside is not None,
            target=target,
            extents=extents,
            compressed=entry.extras.compressed,
        )


class TreeReader:
    """Reads the trees of one image.

    Args:
        base: the image's bytes.
        size: how many of them are the image's.
        name: the image's in errors.
    """

    def __init__(self, base: Base, *, size: int, name: str) -> None:
        self._base = base
        self._size = size
        self._name = name
        self._budget = Budget(name)

    def read(self, volumes: tuple[Volume, ...]) -> Tree:
        """Read the tree that one descriptor leads to, or several that have the same root.

        Raises:
            IsoInvalid: it is damaged, or leaves the image.
            IsoUnsupported: it is too large.
        """
        try:
            return self._read(volumes)
        except RecordDamaged as error:
            raise self._invalid(str(error)) from error

    def _read(self, volumes: tuple[Volume, ...]) -> Tree:
        volume = volumes[0]
        kind = TreeKind.JOLIET if volume.kind is VolumeKind.JOLIET else TreeKind.PLAIN
        root = Directory(Record(0, volume.root), None)
        if not root.record.is_directory:
            raise self._invalid("its root is no directory")
        root.records.extend(self._records_of(root, volume.origin))
        skip = rockridge.skip_of(root.records[0]) if volume.kind is VolumeKind.PRIMARY else None
        extras: list[Extras] = []
        if skip is not None:
            extras = [
                self._extras(record, 0 if at == 0 else skip, volume.origin) for at, record in enumerate(root.records)
            ]
            if any(each.known for each in extras):
                kind = TreeKind.ROCK_RIDGE
        rock = skip if kind is TreeKind.ROCK_RIDGE else None
        directories = self._directories(root, kind, volume.origin, rock)
        return Tree(
            kind=kind,
            volumes=volumes,
            origin=volume.origin,
            root=root,
            directories=directories,
            skip=rock or 0,
            mode_size=rockridge.mode_entry_size(root.records[0].system_use) if rock is not None else 0,
        )

    def _directories(self, root: Directory, kind: TreeKind, origin: int, skip: int | None) -> tuple[Directory, ...]:
        found: dict[int, Directory] = {root.record.extent: root}
        order: list[Directory] = []
        links: list[tuple[Directory, Entry]] = []
        waiting = deque([(root, 0)])
        while waiting:
            directory, depth = waiting.popleft()
            order.append(directory)
            if depth > _DEEPEST:
                raise self._invalid(f"its directories are more than {_DEEPEST} deep")
            if directory is not root:
                directory.records.extend(self._records_of(directory, origin))
            for entry in self._entries(directory, kind, origin, skip):
                if entry.inside is not None:
                    # Two paths to one directory could make any number of them, and a path to itself does.
                    if entry.inside.record.extent in found:
                        raise self._invalid(f"its directory {entry.name!r} is in two places")
                    found[entry.inside.record.extent] = entry.inside
                    waiting.append((entry.inside, depth + 1))
                if entry.extras.child is not None:
                    links.append((directory, entry))
                elif not entry.extras.relocated:
                    directory.entries.setdefault(entry.name, entry)
        for directory, entry in links:
            meant = found.get(entry.extras.child or 0)
            if meant is not None:
                directory.entries.setdefault(entry.name, Entry(entry.name, entry.records, entry.extras, meant))
        return tuple(order)

    def _entries(self, directory: Directory, kind: TreeKind, origin: int, skip: int | None) -> Iterator[Entry]:
        parts: list[Record] = []
        for record in directory.records[2:]:
            if record.is_associated:
                continue
            parts.append(record)
            if record.is_continued and not record.is_directory:
                continue
            extras = Extras() if skip is None else self._extras(record, skip, origin)
            name = _name(record, kind, extras)
            if name in _FORBIDDEN or "/" in name or "\0" in name:
                raise self._invalid(f"the directory record at byte {record.at} has the name {name!r}")
            self._check_places(parts, origin)
            inside = Directory(record, directory) if record.is_directory else None
            yield Entry(name, tuple(parts), extras, inside)
            parts = []

    def _check_places(self, records: list[Record], origin: int) -> None:
        for record in records:
            if record.is_interleaved:
                raise IsoUnsupported(iso=self._name, reason=f"the file at byte {record.at} is interleaved with others")
            if record.size and origin + record.extent * SECTOR + record.size > self._size:
                problem = f"what the directory record at byte {record.at} leads to is behind the end: it was cut off"
                raise self._invalid(problem)

    def _records_of(self, directory: Directory, origin: int) -> list[Record]:
        size, at = directory.record.size, origin + directory.record.extent * SECTOR
        if not 0 < size <= _LARGEST_DIRECTORY:
            raise self._invalid(f"it has a directory of {size} bytes")
        if at + size > self._size:
            raise self._invalid("it has a directory behind its end: it was cut off")
        self._budget.take(size=align_up(size, SECTOR))
        records = []
        for record in read_records(self._base.read_at(at, size), at):
            self._budget.take(records=1)
            records.append(record)
        if [record.identifier for record in records[:2]] != [SELF, PARENT]:
            raise self._invalid(f"the directory at byte {at} doesn't begin with itself and its parent")
        return records

    def _extras(self, record: Record, skip: int, origin: int) -> Extras:
        def continued(sector: int, offset: int, size: int) -> bytes:
            wanted = min(size, _LARGEST_CONTINUATION)
            self._budget.take(size=max(wanted, SECTOR))
            at = origin + sector * SECTOR + offset
            return self._base.read_at(at, max(0, min(wanted, self._size - at)))

        return rockridge.read_extras(record.system_use[skip:], continued)

    def _invalid(self, problem: str) -> IsoInvalid:
        return IsoInvalid(iso=self._name, problems=(problem,))


def _name(record: Record, kind: TreeKind, extras: Extras) -> str:
    if extras.name is not None:
        return extras.name.decode("utf-8", "surrogateescape")
    if kind is TreeKind.JOLIET:
        return record.identifier.decode("utf-16-be", "replace").partition(";")[0]
    # As Linux has it (fs/isofs/dir.c): no version, no dot behind which there is nothing, in lower case.
    return record.identifier.decode("latin-1").partition(";")[0].removesuffix(".").lower()
