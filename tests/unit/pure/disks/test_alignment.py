"""Where partitions may start, on disks that tell the truth about themselves and on others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.pure.disks.alignment import Alignment, choose_alignment
from libironic_disk.pure.disks.facts import Topology
from libironic_disk.units import KIB, MIB


def topology(optimal_io: int = 0, *, sector: int = 512, physical: int = 512, offset: int = 0) -> Topology:
    return Topology(sector_size=sector, physical_sector_size=physical, optimal_io=optimal_io, alignment_offset=offset)


@pytest.mark.parametrize(
    ("disk", "grain"),
    [
        (topology(0), MIB),
        (topology(512), MIB),
        (topology(4096, physical=4096), MIB),
        (topology(64 * KIB), MIB),
        (topology(MIB), MIB),
        (topology(768 * KIB), 1536 * KIB),
        (topology(192 * KIB), 1152 * KIB),
        (topology(3 * MIB), 3 * MIB),
        (topology(16 * MIB), 16 * MIB),
        # Not to be believed: with more than 16 MiB, users of other tools saw 2 MiB become 260.
        (topology(64 * MIB), MIB),
        (topology(256 * MIB), MIB),
        (topology(33553920), MIB),
        # No multiple of the physical sector: 65535 logical ones, as USB bridges say.
        (topology(33553920, physical=4096), MIB),
        (topology(16776704, physical=4096), MIB),
        (topology(1048576 + 512, physical=4096), MIB),
        (topology(1048576 + 512, sector=4096, physical=4096), MIB),
    ],
)
def test_the_grain_is_a_mebibyte_or_a_credible_multiple_of_the_optimal_size(disk: Topology, grain: int) -> None:
    assert choose_alignment(disk).grain == grain


@pytest.mark.parametrize(
    ("disk", "reason"),
    [
        (topology(0), "1 MiB, the disk names no optimal size"),
        (topology(768 * KIB), "1536 KiB, a multiple of the optimal 768 KiB"),
        (topology(33553920), "1 MiB, the reported optimal size of 33553920 bytes is not credible"),
    ],
)
def test_the_reason_names_the_fact_that_decided(disk: Topology, reason: str) -> None:
    assert choose_alignment(disk).reason == reason


@pytest.mark.parametrize(
    ("offset", "used"),
    [(0, 0), (3584, 3584), (512, 512), (513, 0), (-1, 0), (MIB, 0), (32256, 32256)],
)
def test_the_offset_of_the_physical_sectors_is_used_where_it_is_whole_sectors(offset: int, used: int) -> None:
    assert choose_alignment(topology(physical=4096, offset=offset)).offset == used


def test_an_offset_that_is_no_whole_sector_is_passed_over() -> None:
    assert choose_alignment(topology(sector=4096, physical=4096, offset=3584)).offset == 0


@given(
    st.integers(0, 2**45),
    st.integers(1, 2**45),
    st.sampled_from([MIB, 1536 * KIB, 4 * MIB, 16 * MIB]),
    st.integers(0, MIB - 1),
)
def test_a_start_is_the_first_one_on_the_grain(at: int, size: int, grain: int, offset: int) -> None:
    start = Alignment(grain=grain, offset=offset, reason="").start(at, size)
    step = MIB if size < grain and grain % MIB == 0 else grain
    assert start >= at
    assert (start - offset) % step == 0
    assert start - step < at


def test_a_small_partition_does_not_leave_a_large_hole() -> None:
    alignment = choose_alignment(topology(16 * MIB))
    assert alignment.start(MIB, MIB) == MIB
    assert alignment.start(2 * MIB, 16 * MIB) == 16 * MIB
