"""libparted gives back what it took: a service deploys for years."""

from __future__ import annotations

import gc

import pytest

from libironic_disk import partitioner
from libironic_disk.machine.disks import libparted
from libironic_disk.pure.disks.presets import ironic_layout
from libironic_disk.pure.roles import Firmware
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import GIB
from tests.conftest import Bench
from tests.longlife.measuring import allocated

pytestmark = pytest.mark.loopdevice

_TIMES = 100


@pytest.mark.parametrize("table", list(TableKind))
@pytest.mark.parametrize("sector_size", [512, 4096])
def test_a_layout_that_was_tried_costs_no_memory(bench: Bench, table: TableKind, sector_size: int) -> None:
    disk = bench.disk(GIB, sector_size)
    layout = ironic_layout(root_mb=64, swap_mb=16, ephemeral_mb=16, table=table, firmware=Firmware.BIOS)
    plan = partitioner.plan(layout, partitioner.observe(disk.node))
    held = []
    for _ in range(2):
        for _ in range(_TIMES):
            libparted.rehearse(disk.node, plan)
        gc.collect()
        held.append(allocated())
    # A device alone has about 240 bytes.
    assert held[1] - held[0] < 50 * _TIMES
