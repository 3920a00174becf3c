"""The two ends of a disk, where all lies by which firmware and kernels recognise it: taken away first, given last.

The first sector is the first thing that goes and the last that comes, each time with a flush between it and the rest:
a disk writes in any order what lies between two flushes, but one sector whole or not at all. A GPT without it, primary
or backup, is one that firmware, kernels and libblkid pass over (UEFI 2.10, section 5.2.3: the protective MBR).

A superblock needs no first sector: UEFI starts an ISO image by the one at 32 KiB, and a boot loader on another disk
finds a file system that has the whole disk. What it needs lies behind it, and before it is room for boot code alone. So
the start of the disk goes from front to back and comes from back to front, with a flush at every power of two, where
superblocks begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from libironic_disk.machine.disks import disk_io
from libironic_disk.pure.disks.losses import EDGE
from libironic_disk.pure.ranges import ByteRange, edges, merged, without
from libironic_disk.pure.tables.model import Extent
from libironic_disk.units import KIB, align_down

_PAGE: Final = 4096
_LAST_SUPERBLOCK: Final = 64 * KIB


def ends(size: int) -> tuple[ByteRange, ...]:
    """Return the first and the last MiB of a disk, as one range where they touch."""
    first, last = edges(ByteRange(0, size), EDGE)
    # From a page on: what lies before it may be written past the page cache, in whole pages.
    return merged((first, ByteRange(align_down(last.start, _PAGE), last.end)))


def blank_head(fd: int, device: str, end: int, sector_size: int) -> None:
    """Zero everything before ``end``, its first sector before all else, and read each part back before the next.

    Raises:
        DeviceFailed: it couldn't be written, or reads back otherwise.
    """
    fronts, behind = _head(end, sector_size)
    for spans in (*([front] for front in fronts), behind):
        disk_io.blank(fd, device, spans)


def blank_ends(fd: int, device: str, size: int, sector_size: int) -> None:
    """Zero both ends of a disk, so that nothing on it is recognised, and nothing boots.

    Raises:
        DeviceFailed: they couldn't be written, or read back otherwise.
    """
    first, *others = ends(size)
    blank_head(fd, device, first.end, sector_size)
    disk_io.blank(fd, device, others)


def write_ends(fd: int, device: str, withheld: Sequence[Extent], sector_size: int) -> None:
    """Write what was withheld of both ends, the first sector last of all, and read each part back before the next.

    Raises:
        DeviceFailed: it couldn't be written, or reads back otherwise.
    """
    head, *others = withheld
    fronts, behind = _head(len(head.data), sector_size)
    last = [[front] for front in _pieces(head, reversed(fronts))]
    for step in ([*_pieces(head, behind), *others], *last):
        disk_io.write_and_check(fd, device, step)


def _head(end: int, sector_size: int) -> tuple[tuple[ByteRange, ...], tuple[ByteRange, ...]]:
    """Return the sectors in which something begins that is recognised, from front to back, and all others."""
    starts = [0, *_powers(sector_size, min(end, _LAST_SUPERBLOCK + 1))]
    fronts = tuple(ByteRange(start, start + sector_size) for start in starts)
    return fronts, without([ByteRange(0, end)], fronts)


def _pieces(head: Extent, spans: Iterable[ByteRange]) -> list[Extent]:
    return [Extent(span.start, head.data[span.start : span.end]) for span in spans]


def _powers(start: int, end: int) -> Iterator[int]:
    while start < end:
        yield start
        start *= 2
