"""Where partitions may start: a grain that suits the disk, and the word of why it was chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from libironic_disk.pure.disks.facts import Topology
from libironic_disk.units import MIB, align_up, in_words

_LARGEST_GRAIN: Final = 16 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Partitions start at ``offset`` plus a multiple of ``grain`` bytes; ``reason`` says which fact decided."""

    grain: int
    offset: int
    reason: str

    def start(self, at: int, size: int) -> int:
        """Return the first aligned byte at or behind ``at`` for a partition of ``size`` bytes."""
        grain = self.grain
        # A large grain would turn a BIOS boot partition of 1 MiB into a hole of 16: what is smaller than the grain
        # can't profit from it.
        if size < grain and grain % MIB == 0:
            grain = MIB
        return align_up(at - self.offset, grain) + self.offset


def choose_alignment(topology: Topology) -> Alignment:
    """Return the alignment for a disk: 1 MiB, or the smallest multiple of its optimal I/O size that is at least that.

    Reported optimal sizes are not always true: USB bridges say 33553920 bytes, some arrays 256 MiB. One that isn't a
    multiple of the physical sector or asks for more than 16 MiB is passed over.
    """
    # What isn't a whole number of sectors can't be a start, whatever the disk reports.
    offset = topology.alignment_offset
    offset = offset if 0 < offset < MIB and offset % topology.sector_size == 0 else 0
    optimal = topology.optimal_io
    if optimal <= 0:
        return Alignment(grain=MIB, offset=offset, reason="1 MiB, the disk names no optimal size")
    grain = align_up(MIB, optimal)
    if optimal % topology.sector_size or optimal % topology.physical_sector_size or grain > _LARGEST_GRAIN:
        reason = f"1 MiB, the reported optimal size of {optimal} bytes is not credible"
        return Alignment(grain=MIB, offset=offset, reason=reason)
    return Alignment(
        grain=grain, offset=offset, reason=f"{in_words(grain)}, a multiple of the optimal {in_words(optimal)}"
    )
