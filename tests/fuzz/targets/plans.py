"""Layouts and plans as JSON: what is read is written as the same again, and can be checked, drawn and encoded."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from libironic_disk.errors import DocumentInvalid, LayoutInvalid, RequestError
from libironic_disk.pure.disks.documents import layout_from_json, layout_to_json, plan_from_json, plan_to_json
from libironic_disk.pure.disks.drawing import as_text
from libironic_disk.pure.disks.encoding import encode_table
from libironic_disk.pure.disks.planning import Action
from libironic_disk.pure.tables.reading import read_table
from libironic_disk.units import GIB
from tests.fuzz.json_inputs import Json
from tests.fuzz.plain import drawn
from tests.support.layouts import layouts, topologies
from tests.support.planning import blank, plan_for
from tests.unit.pure.tables.disks import Disk


class _Plans(Json):
    refusals = (DocumentInvalid, LayoutInvalid)

    def seeds(self, random: Random) -> Iterator[bytes]:
        shapes = zip(drawn(layouts(largest=8 * GIB), random, 40), drawn(topologies(), random, 40), strict=False)
        for layout, topology in shapes:
            yield layout_to_json(layout).encode()
            try:
                layout.check()
                yield plan_to_json(plan_for(layout, blank(8 * GIB, topology))).encode()
            except RequestError:
                continue

    def examine(self, data: bytes) -> str:
        text = data.decode(errors="replace")
        if b"libironic_disk/plan" not in data:
            layout = layout_from_json(text)
            assert layout_from_json(layout_to_json(layout)) == layout
            layout.check()
            return "a layout"
        plan = plan_from_json(text)
        assert plan_from_json(plan_to_json(plan)) == plan
        assert as_text(plan)
        if plan.action is not Action.MAKE:
            return "a plan for the table that is there"
        disk = Disk(plan.size, encode_table(plan, b""))
        found = read_table(disk.read, device=plan.device, disk_size=plan.size, sector_size=plan.topology.sector_size)
        assert found is not None
        assert found.kind is plan.table
        assert not found.problems, found.problems
        assert [(part.start, part.size) for part in found.partitions] == [
            (part.start, part.size) for part in sorted(plan.partitions, key=lambda part: part.number)
        ]
        return "a plan"


TARGET = _Plans()
