"""Where on a disk lies what would be recognised if it stayed: old tables, old superblocks, the ends that hold them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from libironic_disk.pure.disks.facts import DiskFacts, Signature
from libironic_disk.pure.ranges import ByteRange, edges
from libironic_disk.pure.tables.reading import regions
from libironic_disk.units import MIB, align_down

EDGE: Final = MIB
"""How many bytes at each end of a disk or partition are zeroed: the superblocks of every system in use lie there."""

_BLOCK: Final = 4096


def old_metadata(facts: DiskFacts, destroys: Sequence[Signature]) -> Iterator[ByteRange]:
    """Name both ends of the disk and of every partition on it, its tables, and each of the signatures."""
    yield from edges(ByteRange(0, facts.size), EDGE)
    for old in facts.table.partitions if facts.table else ():
        yield from edges(ByteRange(max(old.start, 0), min(old.end, facts.size)), EDGE)
    yield from table_spans(facts)
    for signature in destroys:
        block = align_down(signature.offset, _BLOCK)
        yield ByteRange(block, min(block + 2 * _BLOCK, facts.size))


def table_spans(facts: DiskFacts) -> Iterator[ByteRange]:
    """Name every sector that says which partitions the disk has."""
    for offset, length in regions(facts.table, facts.size, facts.topology.sector_size):
        yield ByteRange(offset, offset + length)
