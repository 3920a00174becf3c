"""Where each partition goes: numbers, starts and sizes in bytes, from the layout and the disk's usable range alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from libironic_disk.errors import LayoutDoesNotFit
from libironic_disk.pure.disks.alignment import Alignment
from libironic_disk.pure.disks.layout import PartitionSpec
from libironic_disk.pure.disks.sizes import Exact, Percent, Remaining, Size
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
    shared = _shared(numbers, table, space)
    smallest = [_smallest(spec, shared, space) for spec in specs]
    tightest = tuple(_places(smallest, numbers, table, space))
    free = space.end - tightest[-1].end
    if free < 0:
        wanted = tightest[-1].end - space.first
        detail = ", ".join(f"{spec.name} {in_words(size)}" for spec, size in zip(specs, smallest, strict=True))
        available = max(space.end - space.first, 0)
        raise LayoutDoesNotFit(device=space.device, wanted=wanted, available=available, detail=detail)
    sizes = grown([spec.size for spec in specs], smallest, free, space.alignment.grain)
    return tuple(_places(sizes, numbers, table, space))


def _numbers(count: int, table: TableKind) -> tuple[int, ...]:
    if table is TableKind.GPT or count <= _PRIMARIES:
        return tuple(range(1, count + 1))
    logical = range(_PRIMARIES + 1, _PRIMARIES + 1 + count - (_PRIMARIES - 1))
    return (*range(1, _PRIMARIES), *logical)


def _shared(numbers: Sequence[int], table: TableKind, space: Space) -> int:
    """Return the bytes that percentages are of: whole grains, without those that boot records take."""
    alignment = space.alignment
    last = align_down(space.end - alignment.offset, alignment.grain) + alignment.offset
    records = sum(_is_logical(number, table) for number in numbers)
    return max(last - alignment.start(space.first, alignment.grain) - records * alignment.grain, 0)


def _smallest(spec: PartitionSpec, shared: int, space: Space) -> int:
    """Return the size before growing: whole sectors, and whole grains for what can grow.

    Growing by whole grains then never changes how the partitions behind are aligned. What has no whole grain between
    its minimum and its maximum doesn't grow.
    """
    sector, grain = space.sector_size, space.alignment.grain
    match spec.size:
        case Exact(size=size):
            return align_up(size, sector)
        case Percent():
            share = spec.size.of(shared)
            return align_down(share, grain) or max(align_down(share, sector), sector)
        case Remaining(minimum=minimum, maximum=maximum):
            whole = align_up(minimum, grain)
            if maximum is None or whole <= maximum:
                return whole
            return max(align_up(minimum, sector), align_down(maximum, sector))


def _is_logical(number: int, table: TableKind) -> bool:
    return table is TableKind.MBR and number > _PRIMARIES


def _places(sizes: Sequence[int], numbers: Sequence[int], table: TableKind, space: Space) -> Iterator[Place]:
    at = space.first
    for size, number in zip(sizes, numbers, strict=True):
        start = space.alignment.start(at, size)
        record = None
        if _is_logical(number, table):
            record = space.alignment.start(at, space.alignment.grain)
            start = record + space.alignment.grain
        yield Place(number=number, start=start, size=size, record=record)
        at = start + size


def grown(sizes: Sequence[Size], smallest: Sequence[int], free: int, grain: int) -> list[int]:
    """Share ``free`` bytes among what can grow, by weight, between each one's minimum and maximum.

    The rule is that of CSS's flexible boxes (section 9.7): where the minimums together ask for more than the maximums
    give back, those at their minimum are settled, else those at their maximum, and the others share what is left.

    Args:
        sizes: what was asked for.
        smallest: the bytes that each has already.
        free: the bytes that are left.
        grain: what everything grows by.
    """
    shared = list(smallest)
    growing = {at: size for at, size in enumerate(sizes) if isinstance(size, Remaining)}
    pot = align_down(free, grain) + sum(smallest[at] for at in growing)
    while growing:
        total = sum(size.weight or 1 for size in growing.values())
        shares = {at: pot * (size.weight or 1) // total for at, size in growing.items()}
        bounded = {at: _bounded(shares[at], smallest[at], size.maximum) for at, size in growing.items()}
        excess = sum(bounded.values()) - sum(shares.values())
        settled = [at for at, size in bounded.items() if excess and (size - shares[at]) * excess > 0]
        for at in settled or bounded:
            shared[at] = max(align_down(bounded[at], grain), smallest[at])
            pot -= shared[at]
            del growing[at]
    return shared


def _bounded(share: int, smallest: int, maximum: int | None) -> int:
    return max(share if maximum is None else min(share, maximum), smallest)
