"""Changes of one tree: files that are elsewhere now, and files and directories that are new.

A directory whose records still fit is rewritten where it is. One that grows moves, and with it everything that has its
address: its record in its parent, its own, its children's ``..``, the path tables and, for the root, the descriptors.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Final

from libironic_disk.errors import IsoUnsupported
from libironic_disk.pure.iso import rockridge
from libironic_disk.pure.iso.directories import Directory, Entry, Tree
from libironic_disk.pure.iso.model import TreeKind
from libironic_disk.pure.iso.naming import identifier, name_entry
from libironic_disk.pure.iso.newspace import NewSpace
from libironic_disk.pure.iso.pathtables import path_tables
from libironic_disk.pure.iso.records import PARENT, SELF, Record, new_record, order_of, packed, room_for_system_use
from libironic_disk.pure.iso.volumes import SECTOR
from libironic_disk.pure.ropes import Rope
from libironic_disk.units import align_up

_SERIALS: Final = 0x40000000
"""From here on are the serial numbers of what is new: those of other programs count from 1."""


class TreeChange:
    """One tree while it is changed; the tree itself stays as it was read.

    Args:
        tree: the tree.
        space: where new contents go.
        exactly: whether plain names are all that files are found by.
        name: the image's in errors.
    """

    def __init__(self, tree: Tree, space: NewSpace, *, exactly: bool, name: str) -> None:
        self.tree: Final = tree
        self._space = space
        self._exactly = exactly
        self._name = name
        self._changed: dict[int, Record] = {}
        self._new: dict[Directory, list[Record]] = {}
        self._made: list[Directory] = []
        self._continued: tuple[int, bytearray] | None = None

    def place(self, entry: Entry, offset: int, size: int) -> None:
        """Let an existing file's contents be elsewhere."""
        record = entry.records[0]
        sector = self._sector(offset) if size else 0
        self._changed[record.at] = self._current(record).placed(sector, size)

    def resize(self, entry: Entry, size: int) -> None:
        """Let an existing file's contents have another size, where they are."""
        record = entry.records[0]
        self._changed[record.at] = self._current(record).placed(record.extent, size)

    def add_file(self, directory: Directory, part: str, offset: int, size: int) -> None:
        """Add a file that isn't there yet."""
        record = self._record(directory, part, is_directory=False)
        self._new.setdefault(directory, []).append(record.placed(self._sector(offset) if size else 0, size))

    def add_directory(self, parent: Directory, part: str) -> Directory:
        """Add a directory, and return it."""
        record = self._record(parent, part, is_directory=True)
        made = Directory(record, parent)
        above = self._own_record(PARENT).placed(parent.record.extent, parent.record.size)
        made.records.extend((self._own_record(SELF), above))
        self._new.setdefault(parent, []).append(record)
        self._new.setdefault(made, [])
        self._made.append(made)
        self._count_link(parent)
        return made

    def finish(self) -> dict[int, bytes]:
        """Put what is new into the space, and return which bytes of the old image change.

        Raises:
            IsoUnsupported: a directory can't move, or there are too many.
        """
        edits: dict[int, bytes] = {}
        places = {directory: self._place_of(directory) for directory in self._new}
        moved = {each: place for each, place in places.items() if place != (each.record.extent, each.record.size)}
        for directory, place in moved.items():
            self._lead_to(directory, *place)
        for directory, (sector, size) in places.items():
            content = packed(self._current(each) for each in self._merged(directory)).ljust(size, b"\0")
            offset = self.tree.origin + sector * SECTOR
            if offset >= self._space.start:
                self._space.put(offset, Rope.of(content))
            else:
                edits[offset] = content
        rewritten = {record.at for directory in places for record in directory.records}
        edits |= {at: record.raw for at, record in self._changed.items() if at > 0 and at not in rewritten}
        if moved:
            edits |= dict(self._table_edits({each: place[0] for each, place in moved.items()}))
        if self._continued is not None:
            self._space.put(self._continued[0], Rope.of(bytes(self._continued[1])))
        return edits

    def _sector(self, offset: int) -> int:
        sector, rest = divmod(offset - self.tree.origin, SECTOR)
        if rest:
            reason = "its partition doesn't begin with a whole sector of the image"
            raise IsoUnsupported(iso=self._name, reason=reason)
        return sector

    def _current(self, record: Record) -> Record:
        return self._changed.get(record.at, record)

    def _record(self, directory: Directory, part: str, *, is_directory: bool) -> Record:
        taken = [record.identifier for record in (*directory.records, *self._new.get(directory, ()))]
        found = identifier(
            part,
            self.tree.kind,
            is_directory=is_directory,
            taken=taken,
            versioned=self._versioned,
            exactly=self._exactly,
            name=self._name,
        )
        use = b""
        if self.tree.kind is TreeKind.ROCK_RIDGE:
            attributes, names = self._attributes(is_directory=is_directory), rockridge.name_entries(name_entry(part))
            use = attributes + names
            if len(use) > room_for_system_use(found):
                use = attributes + self._continuation(names)
        # No two records have the same place in the image, and none of these has one yet.
        record = new_record(found, date=self._date, is_directory=is_directory, system_use=use)
        return record._replace(at=-self._space.number())

    def _own_record(self, which: bytes) -> Record:
        use = self._attributes(is_directory=True) if self.tree.kind is TreeKind.ROCK_RIDGE else b""
        record = new_record(which, date=self._date, is_directory=True, system_use=use)
        return record._replace(at=-self._space.number())

    @property
    def _date(self) -> bytes:
        return self.tree.root.records[0].date

    @cached_property
    def _versioned(self) -> bool:
        """Whether names have versions: some programs leave them out, and nothing is looked up by them."""
        separator = ";".encode("utf-16-be") if self.tree.kind is TreeKind.JOLIET else b";"
        files = [record for each in self.tree.directories for record in each.records if not record.is_directory]
        return not files or any(separator in record.identifier for record in files)

    def _attributes(self, *, is_directory: bool) -> bytes:
        serial = _SERIALS + (self._space.start // SECTOR + self._space.number()) % _SERIALS
        found = rockridge.attributes(
            is_directory=is_directory, date=self._date, mode_size=self.tree.mode_size, serial=serial
        )
        return bytes(self.tree.skip) + found

    def _continuation(self, entries: bytes) -> bytes:
        """Return the entry that leads to others, which are put where more of them may be, in one sector."""
        if self._continued is not None and len(self._continued[1]) + len(entries) > SECTOR:
            self._space.put(self._continued[0], Rope.of(bytes(self._continued[1])))
            self._continued = None
        if self._continued is None:
            self._continued = (self._space.take(SECTOR), bytearray())
        offset, area = self._continued
        at = len(area)
        area += entries
        return rockridge.continuation_entry(self._sector(offset), at, len(entries))

    def _count_link(self, parent: Directory) -> None:
        """Let a directory know that there is one more in it."""
        if self.tree.kind is not TreeKind.ROCK_RIDGE:
            return
        own = [(parent.records[0], 0 if parent is self.tree.root else self.tree.skip)]
        if parent is not self.tree.root:
            own.append((parent.record, self.tree.skip))
        for record, skip in own:
            now = self._current(record)
            self._changed[record.at] = now.with_system_use(rockridge.with_another_link(now.system_use, skip))

    def _merged(self, directory: Directory) -> list[Record]:
        records = list(directory.records)
        for record in self._new[directory]:
            key = self._order(record)
            at = next((at for at in range(2, len(records)) if self._order(records[at]) > key), len(records))
            records.insert(at, record)
        return records

    def _order(self, record: Record) -> tuple[bytes, bytes, bytes]:
        if self.tree.kind is TreeKind.JOLIET:
            return record.identifier, b"", b""
        return order_of(record.identifier)

    def _place_of(self, directory: Directory) -> tuple[int, int]:
        """Return the sector at which a directory will be, and its size; room for it is taken if it must move."""
        size = len(packed(self._merged(directory)))
        there = align_up(directory.record.size, SECTOR)
        if there and size <= there:
            return directory.record.extent, there
        if there:
            self._check_movable(directory)
        return self._sector(self._space.take(size)), size

    def _check_movable(self, directory: Directory) -> None:
        inside = [entry for entry in directory.entries.values() if entry.extras.child is not None]
        links = (entry.extras.child for each in self.tree.directories for entry in each.entries.values())
        if inside or directory.record.extent in links:
            reason = "a directory would have to move that is part of a path too deep for ISO 9660"
            raise IsoUnsupported(iso=self._name, reason=reason)

    def _lead_to(self, directory: Directory, sector: int, size: int) -> None:
        """Change all records that have a directory's address."""
        records = [directory.records[0], *(child.records[1] for child in self._children(directory))]
        if directory is self.tree.root:
            records.append(directory.records[1])
        else:
            records.append(directory.record)
        for record in records:
            self._changed[record.at] = self._current(record).placed(sector, size)

    def _children(self, directory: Directory) -> list[Directory]:
        return [each for each in (*self.tree.directories, *self._made) if each.parent is directory]

    def _table_edits(self, moved: dict[Directory, int]) -> Iterator[tuple[int, bytes]]:
        below: dict[Directory, list[Directory]] = {}
        for each in (*self.tree.directories, *self._made):
            if each.parent is not None:
                below.setdefault(each.parent, []).append(each)
        for directory in self._new:
            order = {record.at: at for at, record in enumerate(self._merged(directory))}
            below.get(directory, []).sort(key=lambda each: order[each.record.at])
        tables = path_tables(
            self.tree.root,
            children=lambda directory: below.get(directory, ()),
            sector=lambda directory: moved.get(directory, directory.record.extent),
            name=self._name,
        )
        known: dict[tuple[int, int], int] = {}
        for volume in self.tree.volumes:
            sectors = list(volume.tables)
            for number, sector in enumerate(sectors):
                table = tables[number // 2]
                if not sector:
                    continue
                if (number // 2, sector) not in known:
                    known[number // 2, sector] = sector
                    if len(table) > align_up(volume.table_size, SECTOR):
                        offset = self._space.take(len(table))
                        self._space.put(offset, Rope.of(table))
                        known[number // 2, sector] = self._sector(offset)
                    else:
                        yield self.tree.origin + sector * SECTOR, table
                sectors[number] = known[number // 2, sector]
            yield volume.tables_edit(len(tables[0]), (sectors[0], sectors[1], sectors[2], sectors[3]))
            if self.tree.root in moved:
                yield volume.root_edit(self._root_record(moved[self.tree.root]))

    def _root_record(self, sector: int) -> bytes:
        own = self._current(self.tree.root.records[0])
        return self.tree.root.record.placed(sector, own.size).raw
