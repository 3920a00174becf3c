"""Where partitions go: numbers, starts and sizes for layouts small enough to check by hand."""

from __future__ import annotations

import pytest

from libironic_disk.errors import LayoutDoesNotFit
from libironic_disk.pure.disks.alignment import Alignment
from libironic_disk.pure.disks.layout import PartitionSpec
from libironic_disk.pure.disks.placing import Place, Space, place
from libironic_disk.pure.disks.sizes import Exact, Percent, Remaining, Size, mib
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import KIB, MIB

GPT, MBR = TableKind.GPT, TableKind.MBR


def specs(*sizes: Size) -> list[PartitionSpec]:
    return [PartitionSpec(role=Role.DATA, name=f"d{at}", size=size) for at, size in enumerate(sizes)]


def space(mebibytes: int, *, grain: int = MIB, sector: int = 512, offset: int = 0, tail: int = 0) -> Space:
    """The usable part of a disk: from 1 MiB to the end of so many MiB, without ``tail`` bytes."""
    alignment = Alignment(grain=grain, offset=offset, reason="")
    end = mebibytes * MIB - tail
    return Space(device="/dev/test", first=MIB, end=end, sector_size=sector, alignment=alignment)


def sizes_of(places: tuple[Place, ...]) -> list[float]:
    """Their sizes in MiB."""
    return [each.size / MIB for each in places]


def test_partitions_follow_each_other() -> None:
    places = place(specs(mib(10), mib(20), mib(5)), GPT, space(100))
    assert [(each.number, each.start, each.size, each.record) for each in places] == [
        (1, MIB, 10 * MIB, None),
        (2, 11 * MIB, 20 * MIB, None),
        (3, 31 * MIB, 5 * MIB, None),
    ]


def test_an_exact_size_is_rounded_up_to_whole_sectors_and_the_next_start_to_the_grain() -> None:
    first, second = place(specs(Exact(size=1), mib(1)), GPT, space(100, sector=4096))
    assert (first.start, first.size) == (MIB, 4096)
    assert second.start == 2 * MIB


@pytest.mark.parametrize("weight", [None, 1, 7])
def test_one_partition_takes_all_that_remains(weight: int | None) -> None:
    places = place(specs(mib(10), Remaining(weight=weight), mib(20)), GPT, space(100, tail=17 * KIB))
    # The last whole MiB ends where the table's backup begins.
    assert sizes_of(places) == [10, 68, 20]


def test_what_remains_is_shared_by_weight() -> None:
    assert sizes_of(place(specs(Remaining(weight=1), Remaining(weight=3)), GPT, space(101))) == [25, 75]


def test_shares_are_rounded_down_to_the_grain() -> None:
    places = place(specs(*[Remaining(weight=1)] * 3), GPT, space(101))
    assert sizes_of(places) == [33, 33, 33]


def test_a_minimum_is_kept_and_the_others_share_the_rest() -> None:
    wanted = specs(Remaining(weight=1, minimum=40 * MIB), Remaining(weight=1), Remaining(weight=8))
    assert sizes_of(place(wanted, GPT, space(101))) == [40, 6, 53]


def test_a_maximum_is_kept_and_the_others_share_the_rest() -> None:
    wanted = specs(Remaining(weight=8, maximum=20 * MIB), Remaining(weight=1), Remaining(weight=3))
    assert sizes_of(place(wanted, GPT, space(101))) == [20, 20, 60]


def test_what_a_maximum_gives_back_goes_to_one_at_its_minimum_too() -> None:
    # By weight the first would have 10, less than its minimum; but the second can't take the other 90.
    wanted = specs(Remaining(weight=1, minimum=20 * MIB), Remaining(weight=9, maximum=10 * MIB))
    assert sizes_of(place(wanted, GPT, space(101))) == [90, 10]


def test_what_a_minimum_takes_is_not_given_to_one_at_its_maximum() -> None:
    # By weight the second would have 60, more than its maximum; but the first leaves it only 10.
    wanted = specs(Remaining(weight=4, minimum=90 * MIB), Remaining(weight=6, maximum=50 * MIB))
    assert sizes_of(place(wanted, GPT, space(101))) == [90, 10]


def test_all_at_their_maximum_leave_the_rest_free() -> None:
    wanted = specs(Remaining(weight=1, maximum=5 * MIB), Remaining(weight=1, maximum=6 * MIB))
    assert sizes_of(place(wanted, GPT, space(101))) == [5, 6]


@pytest.mark.parametrize(
    ("size", "mebibytes"),
    [
        (Remaining(minimum=1, maximum=512), 512 / MIB),
        (Remaining(minimum=512, maximum=3 * KIB), 3 * KIB / MIB),
        (Remaining(minimum=1536 * KIB, maximum=1800 * KIB), 1800 / KIB),
        (Remaining(minimum=1536 * KIB, maximum=2 * MIB), 2),
        (Remaining(minimum=MIB, maximum=MIB), 1),
        (Remaining(minimum=1, maximum=2900 * KIB), 2),
    ],
)
def test_a_maximum_smaller_than_the_grain_is_a_maximum_all_the_same(size: Remaining, mebibytes: float) -> None:
    assert sizes_of(place(specs(size), GPT, space(100))) == [mebibytes]
    first, second = place(specs(size, mib(1)), GPT, space(100, grain=MIB))
    assert second.start % MIB == 0
    assert second.start >= first.end


def test_a_small_maximum_is_kept_where_the_grain_is_large() -> None:
    (first, second) = place(specs(Remaining(minimum=MIB, maximum=4 * MIB), mib(16)), GPT, space(100, grain=16 * MIB))
    assert (first.start, first.size) == (MIB, 4 * MIB)
    assert second.start == 16 * MIB


@pytest.mark.parametrize("mebibytes", [64, 101, 1000])
@pytest.mark.parametrize("table", list(TableKind))
@pytest.mark.parametrize("shares", [[100], [50, 50], [25] * 4, [20] * 5, [33.3, 33.3, 33.4], [99.5, 0.5]])
def test_percentages_that_add_up_to_a_hundred_fit(mebibytes: int, table: TableKind, shares: list[float]) -> None:
    wanted = specs(*(Percent(share=share) for share in shares))
    places = place(wanted, table, space(mebibytes, tail=17 * KIB))
    logical = sum(each.record is not None for each in places)
    whole = mebibytes - 2 - logical
    assert sum(sizes_of(places)) > whole - len(shares)
    assert [int(size) for size in sizes_of(places)] == [int(whole * share / 100 + 1e-9) for share in shares]


def test_a_percentage_of_less_than_a_grain_is_whole_sectors() -> None:
    (first, second) = place(specs(Percent(share=0.5), mib(16)), GPT, space(1009, grain=16 * MIB))
    # Of 992 MiB: 62 grains of 16 MiB from the first whole one on.
    assert (first.start, first.size) == (MIB, 992 * MIB // 200 // 512 * 512)
    assert second.start == 16 * MIB


def test_four_partitions_of_an_mbr_are_primary() -> None:
    places = place(specs(*[mib(10)] * 4), MBR, space(100))
    assert [(each.number, each.record) for each in places] == [(number, None) for number in (1, 2, 3, 4)]


def test_from_the_fourth_on_partitions_of_an_mbr_are_logical_when_there_are_five() -> None:
    places = place(specs(mib(10), mib(10), mib(10), mib(10), Remaining()), MBR, space(101))
    assert [(each.number, each.start // MIB, each.size // MIB, each.record) for each in places] == [
        (1, 1, 10, None),
        (2, 11, 10, None),
        (3, 21, 10, None),
        (5, 32, 10, 31 * MIB),
        (6, 43, 58, 42 * MIB),
    ]


def test_every_start_has_the_offset_of_the_physical_sectors() -> None:
    places = place(specs(mib(10), Remaining(), mib(1)), GPT, space(100, offset=3584))
    assert [each.start % MIB for each in places] == [3584] * 3
    assert places[-1].end <= 100 * MIB


def test_what_does_not_fit_says_how_much_is_missing_and_who_wants_it() -> None:
    with pytest.raises(LayoutDoesNotFit) as refused:
        place(specs(mib(60), Percent(share=50), Remaining(minimum=5 * MIB)), GPT, space(100))
    error = refused.value
    assert (error.wanted, error.available) == ((60 + 49 + 5) * MIB, 99 * MIB)
    assert error.detail == "d0 60 MiB, d1 49 MiB, d2 5 MiB"


def test_a_disk_without_any_room_has_none_and_not_less() -> None:
    alignment = Alignment(grain=MIB, offset=0, reason="")
    tiny = Space(device="/dev/test", first=MIB, end=100 * KIB, sector_size=512, alignment=alignment)
    for size in (mib(1), Percent(share=50), Remaining()):
        with pytest.raises(LayoutDoesNotFit) as refused:
            place(specs(size), GPT, tiny)
        assert refused.value.available == 0


def test_the_last_byte_counts() -> None:
    assert place(specs(mib(98), Exact(size=MIB - 512)), GPT, space(100, tail=512))[-1].end == 100 * MIB - 512
    with pytest.raises(LayoutDoesNotFit):
        place(specs(mib(98), Exact(size=MIB - 511)), GPT, space(100, tail=512))
