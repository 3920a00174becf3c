"""Where each partition goes: numbers, starts and sizes in bytes, from the layout and the disk's usable range alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from libironic_disk.errors import LayoutDoesNotFit
from libironic_disk.pure.alignment import Alignment
from libironic_disk.pure.layout import PartitionSpec
from libironic_disk.pure.sizes import Exact, Percent, Remaining
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import align_down, align_up, in_words

_PRIMARIES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The bytes of a disk that partitions may use: from ``first`` up to, not including, ``end``."""

    device: str
    first: int
    end: int
    sector_size: int
    alignment: Alignment


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one partition goes, in bytes; ``record`` is where a logical partition's own boot record goes."""

    number: int
    start: int
    size: int
    record: int | None = None

    @property
    def end(self) -> int:
        """The first byte behind the partition."""
        return self.start + self.size


def place(specs: Sequence[PartitionSpec], table: TableKind, space: Space) -> tuple[Place, ...]:
    """Return the places of all partitions, in the layout's order.

    On an MBR with more than four partitions the first three are primary and the others logical, each behind one grain
    that holds its extended boot record.

    Raises:
        LayoutDoesNotFit: they need more bytes than ``space`` has.
    """
    numbers = _numbers(len(specs), table)
    smallest = [_smallest(spec, space) for spec in specs]
    tightest = tuple(_places(smallest, numbers, table, space))
    free = space.end - tightest[-1].end
    if free < 0:
        wanted = tightest[-1].end - space.first
        detail = ", ".join(f"{spec.name} {in_words(size)}" for spec, size in zip(specs, smallest, strict=True))
        raise LayoutDoesNotFit(device=space.device, wanted=wanted, available=space.end - space.first, detail=detail)
    grown = _grow(specs, smallest, free, space.alignment.grain)
    return tuple(_places(grown, numbers, table, space))


def _numbers(count: int, table: TableKind) -> tuple[int, ...]:
    if table is TableKind.GPT or count <= _PRIMARIES:
        return tuple(range(1, count + 1))
    logical = range(_PRIMARIES + 1, _PRIMARIES + 1 + count - (_PRIMARIES - 1))
    return (*range(1, _PRIMARIES), *logical)


def _smallest(spec: PartitionSpec, space: Space) -> int:
    """Return the size before growing: whole sectors, and whole grains for what can grow.

    Growing by whole grains then never changes how the partitions behind are aligned.
    """
    match spec.size:
        case Exact(size=size):
            return align_up(size, space.sector_size)
        case Percent():
            share = spec.size.of(space.end - space.first)
            return max(align_down(share, space.alignment.grain), space.sector_size)
        case Remaining(minimum=minimum):
            return align_up(minimum, space.alignment.grain)


def _places(sizes: Sequence[int], numbers: Sequence[int], table: TableKind, space: Space) -> Iterator[Place]:
    at = space.first
    for size, number in zip(sizes, numbers, strict=True):
        start = space.alignment.start(at, size)
        record = None
        if table is TableKind.MBR and number > _PRIMARIES:
            record = space.alignment.start(at, space.alignment.grain)
            start = record + space.alignment.grain
        yield Place(number=number, start=start, size=size, record=record)
        at = start + size


def _grow(specs: Sequence[PartitionSpec], sizes: Sequence[int], free: int, grain: int) -> list[int]:
    """Share ``free`` bytes among what can grow, by weight, between each one's minimum and maximum."""
    grown = list(sizes)
    growing = {at: spec.size for at, spec in enumerate(specs) if isinstance(spec.size, Remaining)}
    pot = align_down(free, grain) + sum(sizes[at] for at in growing)
    while growing:
        total = sum(size.weight or 1 for size in growing.values())
        shares = {at: pot * (size.weight or 1) // total for at, size in growing.items()}
        # Too small a share is settled before too large a one: giving it its minimum lowers the others' shares.
        bound = {at: sizes[at] for at in growing if shares[at] < sizes[at]} or {
            at: align_down(size.maximum, grain) or grain
            for at, size in growing.items()
            if size.maximum is not None and shares[at] > size.maximum
        }
        bound = bound or {at: align_down(share, grain) for at, share in shares.items()}
        for at, size in bound.items():
            grown[at] = max(size, sizes[at])
            pot -= grown[at]
            del growing[at]
    return grown
