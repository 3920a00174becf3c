"""The partition tables of an image that grew: all that stays is kept to the bit."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final

from libironic_disk.pure.iso.growing import Growth, chs, geometry, has_backup_at_end
from libironic_disk.pure.iso.hybrid import SECTOR, Hybrid
from libironic_disk.pure.iso.model import IsoPartition, PartitionTable
from libironic_disk.pure.iso.volumes import SECTOR as ISO_SECTOR
from libironic_disk.pure.ropes import Range
from libironic_disk.pure.tables.bootrecord import BOOT_CODE_SIZE, Slot, with_slot
from libironic_disk.pure.tables.gptcopy import ENTRY_SIZE, Copy, encode_header, sectors_for
from libironic_disk.units import align_up

_SLOTS_AT: Final = BOOT_CODE_SIZE + 6
_FIRST_LBA_AT: Final = 32  # UEFI 2.10, table 5.6
_LARGEST_MBR: Final = 0xFFFFFFFF
_APPLE_COUNT_AT: Final = 4
_APPLE_START_AT: Final = 8
_APPLE_USED_AT: Final = 84


def table_edits(hybrid: Hybrid, growth: Growth, files: Mapping[Range, Range]) -> dict[int, bytes]:
    """Return which bytes go where in the grown image.

    Args:
        hybrid: the tables as they were.
        growth: how the image grows.
        files: where in the grown image files are that were in these places; a partition that is such a file moves with
            it.
    """
    places = {part: _place(part, growth, files) for part in hybrid.partitions}
    edits = dict(_mbr_edits(hybrid, places))
    if hybrid.gpt is not None:
        edits |= dict(_gpt_edits(hybrid, hybrid.gpt, growth, places))
    return edits | dict(_apple_edits(hybrid, growth, places))


def _place(part: IsoPartition, growth: Growth, files: Mapping[Range, Range]) -> Range:
    for was, now in files.items():
        # Others begin with a file as well, and go on behind it.
        if part.start == was.offset and was.size <= part.size <= align_up(was.size, ISO_SECTOR):
            return Range(now.offset, align_up(now.size, ISO_SECTOR))
    start = growth.moved(part.start)
    return Range(start, growth.end_of(part) - start)


def _mbr_edits(hybrid: Hybrid, places: Mapping[IsoPartition, Range]) -> Iterator[tuple[int, bytes]]:
    record = hybrid.record
    heads, sectors = geometry(hybrid.slots)
    for part, place in places.items():
        if part.table is PartitionTable.MBR:
            slot = _slot(hybrid.slots[part.number - 1], place, heads, sectors)
            record = with_slot(record, part.number - 1, slot)
    if record != hybrid.record:
        # What is in front of the entries is code, which has an address of its own to change.
        yield _SLOTS_AT, record[_SLOTS_AT:]


def _slot(slot: Slot, place: Range, heads: int, sectors: int) -> Slot:
    first, count = place.offset // SECTOR, min(place.size // SECTOR, _LARGEST_MBR)
    changed = slot._replace(first_lba=first, sectors=count)
    if heads and slot.first_chs == chs(slot.first_lba, heads, sectors):
        changed = changed._replace(first_chs=chs(first, heads, sectors))
    if heads and slot.last_chs == chs(slot.first_lba + slot.sectors - 1, heads, sectors):
        changed = changed._replace(last_chs=chs(first + count - 1, heads, sectors))
    return changed


def _gpt_edits(
    hybrid: Hybrid, copy: Copy, growth: Growth, places: Mapping[IsoPartition, Range]
) -> Iterator[tuple[int, bytes]]:
    entries = _entries(copy, places)
    last, room, old = growth.size // SECTOR - 1, sectors_for(len(entries), SECTOR), copy.header
    backup, last_usable = last - room, last - room - 1
    if hybrid.backup is not None and has_backup_at_end(hybrid, growth.old_size):
        found = hybrid.backup.header
        backup = last - (found.my_lba - found.entries_lba)
        last_usable = old.last_usable + last - found.my_lba
    elif hybrid.backup is not None:
        # Whoever looks there would find an old table.
        yield growth.moved(old.alternate_lba * SECTOR), bytes(SECTOR)
    for my_lba, other, where in ((1, last, old.entries_lba), (last, 1, backup)):
        header = encode_header(
            my_lba=my_lba,
            alternate_lba=other,
            usable=(old.first_usable, last_usable),
            disk_guid=old.disk_guid,
            entries_lba=where,
            entries=entries,
            sector_size=SECTOR,
        )
        yield my_lba * SECTOR, header
        yield where * SECTOR, entries


def _entries(copy: Copy, places: Mapping[IsoPartition, Range]) -> bytes:
    entries = bytearray(copy.entries)
    for part, place in places.items():
        if part.table is PartitionTable.GPT:
            first = place.offset // SECTOR
            at = (part.number - 1) * ENTRY_SIZE + _FIRST_LBA_AT
            struct.pack_into("<QQ", entries, at, first, first + place.size // SECTOR - 1)
    return bytes(entries)


def _apple_edits(hybrid: Hybrid, growth: Growth, places: Mapping[IsoPartition, Range]) -> Iterator[tuple[int, bytes]]:
    block = hybrid.apple_block
    for part, place in places.items():
        if part.table is not PartitionTable.APPLE or place == Range(part.start, part.size):
            continue
        entry, blocks = hybrid.apple[part.number - 1], place.size // block
        yield entry.at + _APPLE_START_AT, struct.pack(">II", place.offset // block, blocks)
        if entry.used == entry.blocks:
            yield entry.at + _APPLE_USED_AT, struct.pack(">I", blocks)
    count = hybrid.record[_APPLE_COUNT_AT : _APPLE_COUNT_AT + 4]
    # In most images that is code of the MBR, which happens to begin like Apple's block 0.
    if hybrid.apple and int.from_bytes(count, "big") * block == growth.old_size:
        yield _APPLE_COUNT_AT, struct.pack(">I", growth.size // block)
