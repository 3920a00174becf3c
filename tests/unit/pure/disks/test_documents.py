"""Layouts and plans as JSON: equal when read back, and refused with a path when they are anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from libironic_disk.errors import DocumentInvalid
from libironic_disk.pure.disks.documents import layout_from_json, layout_to_json, plan_from_json, plan_to_json
from libironic_disk.pure.disks.facts import Topology
from libironic_disk.pure.disks.layout import FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.planning import Existing
from libironic_disk.pure.disks.presets import bios_boot, ephemeral, esp, root, swap
from libironic_disk.pure.disks.sizes import Percent, Remaining, mib
from libironic_disk.pure.roles import Architecture, Attribute, Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import GIB
from tests.support.planning import applied, blank, plan_for

LAYOUT = Layout(
    table=TableKind.GPT,
    architecture=Architecture.AARCH64,
    seed=b"\x00seed\xff",
    partitions=(
        bios_boot(),
        swap(mib(64)),
        PartitionSpec(
            role=Role.DATA,
            name="srv",
            size=Percent(share=12.5),
            filesystem=FileSystem.XFS,
            label="größe",
            mount_point="/srv",
            attributes=frozenset({Attribute.NO_AUTO, Attribute.READ_ONLY}),
        ),
        ephemeral(mib(128)),
        root(Remaining(minimum=5, maximum=2 * GIB, weight=3)),
    ),
)
JSON = dict[str, Any]
PARTS = "$.partitions"


def test_a_layout_reads_back_equal() -> None:
    assert layout_from_json(layout_to_json(LAYOUT)) == LAYOUT


@pytest.mark.parametrize("table", list(TableKind))
@pytest.mark.parametrize("sector_size", [512, 4096])
def test_a_plan_reads_back_equal_with_all_that_it_destroys(table: TableKind, sector_size: int) -> None:
    facts = blank(4 * GIB, Topology(sector_size=sector_size, physical_sector_size=4096, optimal_io=65536))
    layout = Layout(table=table, partitions=(esp(mib(64)), swap(mib(64)), ephemeral(mib(128)), *LAYOUT.partitions[4:]))
    plan = plan_for(layout, facts)
    for each in (plan, plan_for(layout, applied(plan, facts), existing=Existing.REPLACE)):
        assert plan_from_json(plan_to_json(each)) == each


def test_a_document_is_plain_json_and_says_what_it_is() -> None:
    document = json.loads(layout_to_json(LAYOUT))
    assert (document["document"], document["version"]) == ("libironic_disk/layout", 1)
    assert document["layout"]["seed"] == LAYOUT.seed.hex() if LAYOUT.seed else False
    assert document["layout"]["partitions"][2] == {
        "role": "data",
        "size": {"kind": "percent", "share": 12.5},
        "name": "srv",
        "filesystem": "xfs",
        "label": "größe",
        "mount_point": "/srv",
        "attributes": ["no-auto", "read-only"],
    }
    # Absence is absence: no key without a value.
    assert document["layout"]["partitions"][0] == {
        "role": "bios-boot",
        "size": {"kind": "exact", "size": 1048576},
        "name": "bios-boot",
    }


def test_the_same_layout_is_the_same_text() -> None:
    assert layout_to_json(LAYOUT) == layout_to_json(layout_from_json(layout_to_json(LAYOUT)))


def refused(change: Callable[[JSON, list[JSON]], object]) -> list[str]:
    """What is said of the layout after a change of its document and its partitions."""
    document = json.loads(layout_to_json(LAYOUT))
    change(document["layout"], document["layout"]["partitions"])
    with pytest.raises(DocumentInvalid) as error:
        layout_from_json(json.dumps(document))
    assert error.value.kind == "layout"
    return list(error.value.problems)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda layout, parts: layout.pop("table"), "$.table"),
        (lambda layout, parts: layout.update(table="dos"), "$.table"),
        (lambda layout, parts: layout.update(extra=1), "$"),
        (lambda layout, parts: layout.update(seed="zz"), "$.seed"),
        (lambda layout, parts: layout.update(seed=5), "$.seed"),
        (lambda layout, parts: layout.update(partitions=5), PARTS),
        (lambda layout, parts: layout.update(partitions="abc"), PARTS),
        (lambda layout, parts: layout.update(partitions={"a": 1}), PARTS),
        (lambda layout, parts: layout.update(partitions=None), PARTS),
        (lambda layout, parts: parts.append(5), f"{PARTS}[5]"),
        (lambda layout, parts: parts.append([]), f"{PARTS}[5]"),
        (lambda layout, parts: parts.append("x"), f"{PARTS}[5]"),
        (lambda layout, parts: parts.append(None), f"{PARTS}[5]"),
        (lambda layout, parts: parts[1].update(extra=1), f"{PARTS}[1]"),
        (lambda layout, parts: parts[1].pop("role"), f"{PARTS}[1].role"),
        (lambda layout, parts: parts[1].update(role="boot"), f"{PARTS}[1].role"),
        (lambda layout, parts: parts[1].update(role=[]), f"{PARTS}[1].role"),
        (lambda layout, parts: parts[1].update(name=7), f"{PARTS}[1].name"),
        (lambda layout, parts: parts[1].update(label=None), f"{PARTS}[1].label"),
        (lambda layout, parts: parts[1].update(keep="yes"), f"{PARTS}[1].keep"),
        (lambda layout, parts: parts[1].update(keep=1), f"{PARTS}[1].keep"),
        (lambda layout, parts: parts[1].update(mount_point=5), f"{PARTS}[1].mount_point"),
        (lambda layout, parts: parts[1].update(filesystem="zfs"), f"{PARTS}[1].filesystem"),
        (lambda layout, parts: parts[1].update(attributes="no-auto"), f"{PARTS}[1].attributes"),
        (lambda layout, parts: parts[1].update(attributes=["hidden"]), f"{PARTS}[1].attributes[0]"),
        (lambda layout, parts: parts[1].update(size=5), f"{PARTS}[1].size"),
        (lambda layout, parts: parts[1].update(size=None), f"{PARTS}[1].size"),
        (lambda layout, parts: parts[1].update(size={}), f"{PARTS}[1].size"),
        (lambda layout, parts: parts[1]["size"].update(kind="half"), f"{PARTS}[1].size"),
        (lambda layout, parts: parts[1]["size"].update(kind=[]), f"{PARTS}[1].size"),
        (lambda layout, parts: parts[1]["size"].pop("kind"), f"{PARTS}[1].size"),
        (lambda layout, parts: parts[1]["size"].update(extra=1), f"{PARTS}[1].size"),
        (lambda layout, parts: parts[1]["size"].update(size="64 MiB"), f"{PARTS}[1].size.size"),
        (lambda layout, parts: parts[1]["size"].update(size=1.0), f"{PARTS}[1].size.size"),
        (lambda layout, parts: parts[1]["size"].update(size=True), f"{PARTS}[1].size.size"),
        (lambda layout, parts: parts[2]["size"].update(share="5"), f"{PARTS}[2].size.share"),
        (lambda layout, parts: parts[2]["size"].update(share=True), f"{PARTS}[2].size.share"),
        (lambda layout, parts: parts[4]["size"].update(weight="1"), f"{PARTS}[4].size.weight"),
    ],
)
def test_what_is_wrong_in_a_layout_is_told_with_its_path(
    change: Callable[[JSON, list[JSON]], object], path: str
) -> None:
    (problem,) = refused(change)
    assert problem.endswith(f" @ {path}")


def test_every_defect_is_told_at_once() -> None:
    def change(layout: JSON, parts: list[JSON]) -> None:
        layout.update(table=1, extra=2)
        parts[0].update(role="x", keep=0)
        parts[2]["size"].update(share=None)

    paths = {problem.split(" @ ")[1] for problem in refused(change)}
    assert paths == {"$.table", "$", f"{PARTS}[0].role", f"{PARTS}[0].keep", f"{PARTS}[2].size.share"}


def test_a_whole_number_is_a_percentage_too() -> None:
    text = layout_to_json(LAYOUT).replace("12.5", "12")
    assert layout_from_json(text).partitions[2].size == Percent(share=12)


@pytest.mark.parametrize("read", [layout_from_json, plan_from_json])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "5",
        '"layout"',
        "[]",
        "{}",
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 10_000,
        '{"document": "libironic_disk/layout", "version": 1}',
        '{"document": "libironic_disk/layout", "version": 1, "layout": null}',
        '{"document": "libironic_disk/layout", "version": 1, "layout": []}',
        '{"document": "libironic_disk/layout", "version": 1, "layout": "x"}',
        '{"document": "libironic_disk/plan", "version": 1, "plan": 5}',
        '{"document": "libironic_disk/plan", "version": 1, "plan": {}}',
    ],
    ids=lambda text: text[:40] if isinstance(text, str) else text.__name__,
)
def test_what_is_no_such_document_is_refused(read: Callable[[str], Layout], text: str) -> None:
    with pytest.raises(DocumentInvalid) as error:
        read(text)
    assert all(error.value.problems)


@pytest.mark.parametrize("change", [{"version": 2}, {"version": "1"}, {"document": "other/layout"}, {"comment": "x"}])
def test_another_kind_version_or_key_is_refused(change: JSON) -> None:
    document = json.loads(layout_to_json(LAYOUT)) | change
    with pytest.raises(DocumentInvalid):
        layout_from_json(json.dumps(document))


def test_a_layout_is_no_plan() -> None:
    with pytest.raises(DocumentInvalid, match="not a valid plan document"):
        plan_from_json(layout_to_json(LAYOUT))


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda plan: plan["wipes"].append([1]), "$.wipes[5]"),
        (lambda plan: plan["wipes"].append([1, 2, 3]), "$.wipes[5]"),
        (lambda plan: plan["wipes"].append("12"), "$.wipes[5]"),
        (lambda plan: plan["wipes"].append([1, "2"]), "$.wipes[5]"),
        (lambda plan: plan["partitions"][0].update(start="1"), "$.partitions[0].start"),
        (lambda plan: plan["fingerprint"].pop("tables"), "$.fingerprint.tables"),
        (lambda plan: plan["fingerprint"]["identity"].update(extra=1), "$.fingerprint.identity"),
        (lambda plan: plan.update(notes="abc"), "$.notes"),
        (lambda plan: plan.update(action="destroy"), "$.action"),
    ],
)
def test_what_is_wrong_in_a_plan_is_told_with_its_path(change: Callable[[JSON], object], path: str) -> None:
    plan = plan_for(Layout(table=TableKind.GPT, partitions=(swap(mib(64)), root())), blank(GIB))
    document = json.loads(plan_to_json(plan))
    document["plan"]["wipes"] = document["plan"]["wipes"][:1] * 5
    change(document["plan"])
    with pytest.raises(DocumentInvalid) as error:
        plan_from_json(json.dumps(document))
    (problem,) = error.value.problems
    assert f" @ {path}" in problem


@pytest.mark.parametrize("table", list(TableKind))
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda plan: plan.update(disk_id="50%"), "the disk's "),
        (lambda plan: plan.update(disk_id=plan["disk_id"].upper()), "the disk's "),
        (lambda plan: plan.update(size=0), "a disk of 0 bytes with sectors of 512"),
        (lambda plan: plan["topology"].update(sector_size=0), "with sectors of 0"),
        (lambda plan: plan["topology"].update(sector_size=1 << 40), "with sectors of 1099511627776"),
        (lambda plan: plan["partitions"][0].update(type_id="linux"), "partition 1 has the type 'linux'"),
        (lambda plan: plan["partitions"][0].update(start=-(2**20)), "partition 1 is from -1048576"),
        (lambda plan: plan["partitions"][0].update(start=2**70), "partition 1 is from 1180591620717411303424"),
        (lambda plan: plan["partitions"][0].update(size=1000), "not a whole number of sectors"),
        (lambda plan: plan["wipes"].append([5, 2]), "is from 5 to 2, on a disk of"),
        (lambda plan: plan["partitions"][0].update(number=200), "partition"),
    ],
)
def test_a_plan_that_no_table_can_be_made_of_is_refused(
    table: TableKind, change: Callable[[JSON], object], problem: str
) -> None:
    """These came out of applying the plan, and not as errors of this package, or when the disk was already wiped."""
    document = json.loads(plan_to_json(plan_for(Layout(table=table, partitions=(swap(mib(64)), root())), blank(GIB))))
    change(document["plan"])
    with pytest.raises(DocumentInvalid) as error:
        plan_from_json(json.dumps(document))
    assert problem in error.value.problems[0]
