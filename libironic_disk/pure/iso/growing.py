"""Where an image grows, and by how much.

New contents go where the file system's partition ends, and what is behind it moves: appended partitions, and the backup
copy of a GPT, which must end with the image. Some images have no partition with a tree of its own; they grow in front
of the EFI system partition that is behind all files, or at their end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from libironic_disk.errors import IsoUnsupported
from libironic_disk.pure.iso.hybrid import EFI_SYSTEM, HFS_PLUS, SECTOR, Hybrid
from libironic_disk.pure.iso.image import IsoImage
from libironic_disk.pure.iso.model import IsoPartition, PartitionTable
from libironic_disk.pure.iso.volumes import SECTOR as ISO_SECTOR
from libironic_disk.pure.tables.bootrecord import PROTECTIVE, Slot
from libironic_disk.pure.tables.gptcopy import sectors_for
from libironic_disk.units import align_down, align_up

NO_CHS: Final = b"\xfe\xff\xff"
"""Cylinder, head and sector of what is too far away for them."""

_GEOMETRIES: Final = ((64, 32), (128, 32), (255, 32), (255, 63))
_LARGEST_CYLINDER: Final = 1023
_PROTECTIVE: Final = f"{PROTECTIVE:#04x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an image can grow.

    Attributes:
        at: everything from here on moves.
        homes: where the partitions begin that hold the tree: those of them that end here become larger.
    """

    at: int
    homes: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How an image grows.

    Attributes:
        place: where.
        added: bytes that are new there.
        old_size: of the whole image.
        behind: bytes that are new at its end, for a backup copy of the GPT that wasn't there.
    """

    place: Place
    added: int
    old_size: int
    behind: int

    @property
    def size(self) -> int:
        """Bytes of the new image."""
        return max(self.old_size, self.place.at) + self.added + self.behind

    def moved(self, offset: int) -> int:
        """Return where a byte of the old image is in the new one."""
        return offset + self.added if offset >= self.place.at else offset

    def end_of(self, part: IsoPartition) -> int:
        """Return where a partition ends in the new image."""
        if part.type_id == _PROTECTIVE and part.end == self.old_size:
            return self.size
        grows = part.end > self.place.at or (part.end == self.place.at and part.start in self.place.homes)
        return part.end + self.added if grows else part.end

    def volume_end(self, end: int) -> int:
        """Return where a volume ends in the new image: behind what is new at least."""
        if end == self.old_size:
            return self.size
        return end + self.added if end >= self.place.at else self.place.at + self.added


def place_of(image: IsoImage, used: int) -> Place:
    """Return where an image can grow.

    Args:
        image: the image.
        used: where the last of its files and directories ends.

    Raises:
        IsoUnsupported: there is no such place, or what is behind it can't be moved.
    """
    if image.hybrid.problem:
        raise IsoUnsupported(iso=image.name, reason=f"it can't grow: {image.hybrid.problem}")
    tail = _tail(image.hybrid, image.size)
    origins = {each.origin for each in image.descriptors}
    views = [part for part in image.partitions if part.start in origins and part.end >= used]
    homes = frozenset(part.start for part in views if part.type_id != _PROTECTIVE)
    systems = [part.start for part in image.partitions if part.start >= used and part.type_id in EFI_SYSTEM]
    at = min(*([part.end for part in views if part.start in homes] or systems or [tail]), tail)
    # Nothing is behind the end, which may as well be in the middle of a sector.
    at = align_up(at, ISO_SECTOR) if at == image.size else align_down(at, ISO_SECTOR)
    if at < used or at < _end_of_primary(image.hybrid):
        raise IsoUnsupported(iso=image.name, reason="it can't grow: its files reach into what would have to move")
    for part in image.partitions:
        if part.start < at < part.end and part.start not in origins and not _may_be_cut(part):
            reason = f"it can't grow: partition {part.number} of its {part.table} table is in the way"
            raise IsoUnsupported(iso=image.name, reason=reason)
    return Place(at=at, homes=homes)


def growth_of(image: IsoImage, place: Place, wanted: int) -> Growth:
    """Return how an image grows by at least ``wanted`` bytes.

    Where the MBR is more than a formality, whole cylinders stay whole: a BIOS may derive the geometry from its end.
    """
    hybrid = image.hybrid
    step = ISO_SECTOR
    if hybrid.slots and not hybrid.has_protective_mbr:
        heads, sectors = geometry(hybrid.slots)
        cylinder = heads * sectors * SECTOR
        if cylinder and cylinder % ISO_SECTOR == 0 and 0 in (image.size % cylinder, place.at % cylinder):
            step = cylinder
    behind = 0
    if hybrid.gpt is not None and not has_backup_at_end(hybrid, image.size):
        behind = align_up(align_up(len(hybrid.gpt.entries), SECTOR) + SECTOR, ISO_SECTOR)
        behind += -max(image.size, place.at) % ISO_SECTOR
    return Growth(place=place, added=align_up(wanted, step), old_size=image.size, behind=behind)


def has_backup_at_end(hybrid: Hybrid, size: int) -> bool:
    """Return whether the GPT's backup copy is where it should be: header last, entries in front of it."""
    if hybrid.backup is None or hybrid.gpt is None:
        return False
    header, room = hybrid.backup.header, sectors_for(len(hybrid.gpt.entries), SECTOR)
    same = len(hybrid.backup.entries) == len(hybrid.gpt.entries)
    return same and (header.my_lba + 1) * SECTOR == size and header.entries_lba + room <= header.my_lba


def geometry(slots: tuple[Slot, ...]) -> tuple[int, int]:
    """Return heads and sectors by which the first entry's last address is right; zeros if there are none."""
    for slot in slots:
        if not slot.sectors:
            continue
        last = slot.first_lba + slot.sectors - 1
        for heads, sectors in ((slot.last_chs[0] + 1, slot.last_chs[1] & 63), *_GEOMETRIES):
            if sectors and chs(last, heads, sectors) == slot.last_chs != NO_CHS:
                return heads, sectors
    return 0, 0


def chs(lba: int, heads: int, sectors: int) -> bytes:
    """Return a sector's address as cylinder, head and sector, as an MBR has it."""
    cylinder, rest = divmod(lba, heads * sectors)
    if cylinder > _LARGEST_CYLINDER:
        return NO_CHS
    head, sector = divmod(rest, sectors)
    return bytes((head, (sector + 1) | (cylinder >> 2 & 0xC0), cylinder & 0xFF))


def _tail(hybrid: Hybrid, size: int) -> int:
    """Return where the bytes begin that have to stay at the end."""
    start = hybrid.backup_start
    # A header can lead to any place; what is in front of the end of what is usable is no backup copy.
    if hybrid.gpt is None or start is None or start <= hybrid.gpt.header.last_usable * SECTOR:
        return size
    return min(start, size)


def _end_of_primary(hybrid: Hybrid) -> int:
    if hybrid.gpt is None:
        return 0
    return hybrid.gpt.header.entries_lba * SECTOR + len(hybrid.gpt.entries)


def _may_be_cut(part: IsoPartition) -> bool:
    """Whether a partition may be where the image grows: what is for Apple describes the image as a whole."""
    if part.table is PartitionTable.APPLE:
        return part.type_id not in HFS_PLUS
    return part.type_id == _PROTECTIVE
