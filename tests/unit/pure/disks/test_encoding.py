"""A planned table as bytes; that they decode to the plan is shown in tests/properties/test_planning.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libironic_disk.errors import TableLimit
from libironic_disk.pure.disks.encoding import encode_table
from libironic_disk.pure.disks.layout import Layout, PartitionSpec
from libironic_disk.pure.disks.sizes import mib
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import GIB
from tests.support.planning import blank, plan_for

LAYOUT = tuple(PartitionSpec(role=Role.DATA, name=f"d{at}", size=mib(16)) for at in range(6))


@pytest.mark.parametrize("table", list(TableKind))
def test_the_first_sector_comes_last_and_carries_the_boot_code(table: TableKind) -> None:
    plan = plan_for(Layout(table=table, partitions=LAYOUT), blank(GIB))
    extents = encode_table(plan, b"boot code")
    assert [extent.offset for extent in extents] == sorted((extent.offset for extent in extents), reverse=True)
    assert extents[-1].offset == 0
    assert extents[-1].data[:440] == b"boot code".ljust(440, b"\0")
    assert len(extents[-1].data) == 512
    assert encode_table(plan, b"")[:-1] == extents[:-1]


def test_what_a_table_can_not_express_is_refused() -> None:
    plan = plan_for(Layout(table=TableKind.GPT, partitions=LAYOUT), blank(GIB))
    twice = replace(plan, partitions=(*plan.partitions, plan.partitions[0]))
    with pytest.raises(TableLimit, match="/dev/test"):
        encode_table(twice, b"")


def test_boot_code_that_does_not_fit_is_refused() -> None:
    plan = plan_for(Layout(table=TableKind.MBR, partitions=LAYOUT), blank(GIB))
    with pytest.raises(ValueError, match="boot code of 441 bytes"):
        encode_table(plan, bytes(441))
