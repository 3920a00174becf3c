"""What an ISO 9660 image looks like as a disk: the partition tables in its system area, up to three at once.

An MBR and a GPT count sectors of 512 bytes whatever the medium is. Apple's map (Inside Macintosh: Devices, chapter 3)
says itself what it counts. Many of these tables break the rules: partitions overlap each other and the table itself,
and have the type 0. They are kept as they are, so nothing is demanded of them here but that they can be read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple
from uuid import UUID

from libironic_disk.pure.iso.model import IsoPartition, PartitionTable
from libironic_disk.pure.roles import Architecture, Role, gpt_type, mbr_type
from libironic_disk.pure.ropes import Base
from libironic_disk.pure.tables.bootrecord import PROTECTIVE, RECORD_SIZE, Slot, slots_of
from libironic_disk.pure.tables.gptcopy import ENTRY_SIZE, Copy, GptReader, sectors_for

SECTOR: Final = 512
EFI_SYSTEM: Final = frozenset({str(gpt_type(Role.ESP, Architecture.X86_64, None)), f"{mbr_type(Role.ESP):#04x}"})
HFS_PLUS: Final = frozenset({"48465300-0000-11aa-aa11-00306543ecac", "Apple_HFS"})

_GPT_ENTRY: Final = struct.Struct("<16s16xQQ")
_APPLE_BLOCKS: Final = frozenset({512, 2048})
_APPLE_ENTRY: Final = struct.Struct(">2s2xIII32s32sII")
_MOST_APPLE: Final = 64
# Boot blocks of other machines in the same place, with checksums of their own.
_OTHERS: Final = ((0, b"\x0b\xe5\xa9\x41", "SGI's volume header"), (508, b"\xda\xbe", "Sun's disk label"))


class AppleEntry(NamedTuple):
    """An entry of Apple's map, in blocks; ``at`` is where it is in the image."""

    at: int
    start: int
    blocks: int
    used: int
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hybrid:
    """All tables of an image.

    Attributes:
        record: sector 0.
        slots: the MBR's entries, none if there is no MBR.
        gpt: the primary copy of a GPT.
        backup: the copy that the primary one leads to.
        apple_block: bytes of what Apple's map counts in.
        apple: Apple's map.
        partitions: of all of them.
        problem: why none of this can be moved, empty if it can.
    """

    record: bytes
    slots: tuple[Slot, ...]
    gpt: Copy | None
    backup: Copy | None
    apple_block: int
    apple: tuple[AppleEntry, ...]
    partitions: tuple[IsoPartition, ...]
    problem: str

    @property
    def has_protective_mbr(self) -> bool:
        """Whether the MBR only says that there is a GPT."""
        return any(slot.sectors and slot.type_id == PROTECTIVE for slot in self.slots)

    @property
    def backup_start(self) -> int | None:
        """Where the backup copy of the GPT begins, entries or header; None if there is no such copy."""
        if self.backup is None:
            return None
        return min(self.backup.header.entries_lba, self.backup.header.my_lba) * SECTOR


def read_hybrid(base: Base, size: int) -> Hybrid:
    """Read the tables of an image of ``size`` bytes.

    Raises:
        SourceFailed: the image can't be read.
    """
    record = base.read_at(0, min(RECORD_SIZE, size))
    disk = GptReader(read=partial(_read_inside, base, size), sector_size=SECTOR, sectors=size // SECTOR)
    slots = _slots(record)
    primary = disk.copy(1)
    gpt = None if isinstance(primary, str) else primary
    alternate = disk.copy(gpt.header.alternate_lba) if gpt is not None else ""
    backup = None if isinstance(alternate, str) else alternate
    block = int.from_bytes(record[2:4], "big") if record[:2] == b"ER" else 0
    apple = tuple(_apple(base, size, block)) if block in _APPLE_BLOCKS else ()
    problem = "" if isinstance(primary, Copy) or not disk.has_magic(1) else f"the primary copy of its GPT {primary}"
    partitions = (*_mbr_partitions(slots), *_gpt_partitions(gpt), *_apple_partitions(apple, block))
    return Hybrid(
        record=record,
        slots=slots,
        gpt=gpt,
        backup=backup,
        apple_block=block,
        apple=apple,
        partitions=partitions,
        problem=problem or _problem(record, gpt, partitions, size) or next(disk.other_sector_sizes(), ""),
    )


def _read_inside(base: Base, size: int, offset: int, length: int) -> bytes:
    return base.read_at(offset, max(0, min(length, size - offset)))


def _slots(record: bytes) -> tuple[Slot, ...]:
    slots = slots_of(record) if len(record) == RECORD_SIZE else None
    if slots is None or not all(slot.plausible for slot in slots):
        return ()
    return slots


def _mbr_partitions(slots: tuple[Slot, ...]) -> Iterator[IsoPartition]:
    for number, slot in enumerate(slots, start=1):
        if slot.sectors:
            yield IsoPartition(
                table=PartitionTable.MBR,
                number=number,
                start=slot.first_lba * SECTOR,
                size=slot.sectors * SECTOR,
                type_id=f"{slot.type_id:#04x}",
            )


def _gpt_partitions(gpt: Copy | None) -> Iterator[IsoPartition]:
    if gpt is None or gpt.header.entry_size != ENTRY_SIZE:
        return
    for number, at in enumerate(range(0, len(gpt.entries), ENTRY_SIZE), start=1):
        kind, first, last = _GPT_ENTRY.unpack_from(gpt.entries, at)
        if any(kind) and last >= first:
            yield IsoPartition(
                table=PartitionTable.GPT,
                number=number,
                start=first * SECTOR,
                size=(last - first + 1) * SECTOR,
                type_id=str(UUID(bytes_le=kind)),
            )


def _apple(base: Base, size: int, block: int) -> Iterator[AppleEntry]:
    room = base.read_at(0, min(size, (_MOST_APPLE + 1) * block))
    count = 1
    number = 1
    while number <= min(count, _MOST_APPLE) and (number + 1) * block <= len(room):
        magic, count, start, blocks, _, kind, _, used = _APPLE_ENTRY.unpack_from(room, number * block)
        if magic != b"PM":
            return
        yield AppleEntry(number * block, start, blocks, used, kind.partition(b"\0")[0].decode("ascii", "replace"))
        number += 1


def _apple_partitions(entries: tuple[AppleEntry, ...], block: int) -> Iterator[IsoPartition]:
    for number, entry in enumerate(entries, start=1):
        if entry.blocks:
            yield IsoPartition(
                table=PartitionTable.APPLE,
                number=number,
                start=entry.start * block,
                size=entry.blocks * block,
                type_id=entry.type,
            )


def _problem(record: bytes, gpt: Copy | None, partitions: tuple[IsoPartition, ...], size: int) -> str:
    """Return why the tables can't be written anew for an image of another size."""
    for at, magic, words in _OTHERS:
        if record[at : at + len(magic)] == magic:
            return f"it has {words}"
    if gpt is not None and (gpt.header.entry_size != ENTRY_SIZE or gpt.header.header_size != 92):
        return "its GPT has a form of its own"
    if gpt is not None and (gpt.header.entries_lba + sectors_for(len(gpt.entries), SECTOR)) * SECTOR > size:
        return "its GPT is behind its end"
    for part in partitions:
        if part.end > size:
            return f"partition {part.number} of its {part.table} table ends at {part.end}, the image at {size}"
        if part.table is PartitionTable.MBR and part.type_id in {"0x05", "0x0f", "0x85"}:
            return "it has an extended partition"
    return ""
