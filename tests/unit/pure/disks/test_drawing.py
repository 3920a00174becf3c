"""A plan for people: the table, the bar and the picture."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from libironic_disk.pure.disks.drawing import as_svg, as_text
from libironic_disk.pure.disks.facts import Signature
from libironic_disk.pure.disks.layout import FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.planning import Existing, Plan
from libironic_disk.pure.disks.presets import ephemeral, ironic_layout, root, swap
from libironic_disk.pure.disks.sizes import Remaining, mib
from libironic_disk.pure.roles import Firmware, Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.units import GIB, TIB
from tests.support.planning import applied, blank, plan_for

SVG = "{http://www.w3.org/2000/svg}"


def layout(*, keep: bool = False) -> Layout:
    return ironic_layout(swap_mb=512, ephemeral_mb=1024, preserve_ephemeral=keep, config_drive_bytes=1, seed=b"node")


def plan() -> Plan:
    return plan_for(layout(), blank(10 * GIB))


def many(count: int) -> Plan:
    specs = tuple(PartitionSpec(role=Role.DATA, name=f"d{at}", size=mib(16)) for at in range(count))
    return plan_for(Layout(table=TableKind.GPT, partitions=specs), blank(10 * GIB))


def test_the_text_tells_the_disk_its_partitions_and_why_they_start_where_they_do() -> None:
    assert as_text(plan(), width=80).splitlines() == [
        f"/dev/test: 10 GiB in sectors of 512 bytes, gpt {plan().disk_id}: a new partition table",
        "",
        "No  Name             Start      Size  File system      What happens",
        " 1  esp              1 MiB   550 MiB  vfat efi-part    mkfs vfat",
        " 2  ephemeral      551 MiB     1 GiB  ext4 ephemeral0  mkfs ext4",
        " 3  swap          1575 MiB   512 MiB  swap swap1       mkfs swap",
        " 4  config-drive  2087 MiB     1 MiB  -                left blank",
        " 5  root          2088 MiB  8151 MiB  -                left blank",
        "",
        "│esp │ephemer│swap│c│                          root                         │",
        "aligned to 1 MiB, the disk names no optimal size",
    ]


def test_every_loss_is_told() -> None:
    facts = applied(plan(), blank(10 * GIB))
    hostile = Signature(kind="ext4", offset=5000, label="\x1b[2J\nnothing is lost")
    facts = replace(facts, signatures=(*facts.signatures, hostile))
    lines = as_text(plan_for(layout(), facts, existing=Existing.REPLACE)).splitlines()
    assert lines[-5:] == [
        f"destroys the gpt table {plan().disk_id} with 5 partitions",
        "destroys vfat labelled 'efi-part' on partition 1",
        "destroys ext4 labelled 'ephemeral0' on partition 2",
        "destroys swap labelled 'swap1' on partition 3",
        r"destroys ext4 labelled '\x1b[2J\nnothing is lost' on the disk",
    ]


def test_an_empty_plan_says_that_there_is_nothing_to_do() -> None:
    text = as_text(plan_for(layout(), applied(plan(), blank(10 * GIB))))
    assert "already as described, nothing to do" in text
    assert "destroys" not in text
    assert "mkfs" not in text
    assert text.count("kept") == 5


def test_a_kept_volume_is_told_and_shaded() -> None:
    facts = applied(plan(), blank(10 * GIB))
    text = as_text(plan_for(layout(keep=True), facts, existing=Existing.REPLACE), width=160)
    (row,) = [line for line in text.splitlines() if line.endswith("kept")]
    assert row.split()[:2] == ["2", "ephemeral"]
    assert "▒ephemeral▒" in text
    assert "the partition table stays" in text


def test_notes_are_told() -> None:
    text = as_text(plan_for(ironic_layout(firmware=Firmware.BIOS), blank(3 * TIB)))
    assert "note: 1 TiB lie behind what an MBR can reach and stay unused" in text.splitlines()


@pytest.mark.parametrize("width", [1, 20, 80, 100, 300])
@pytest.mark.parametrize("count", [1, 5, 30])
def test_the_bar_has_a_cell_for_every_partition_and_stays_in_its_width(width: int, count: int) -> None:
    (bar,) = [line for line in as_text(many(count), width=width).splitlines() if line.startswith("│")]
    cells = bar.strip("│").split("│")
    assert len(cells) == count
    assert all(cells)
    assert len(bar) <= max(width, 2 * count + 1)


def test_the_bar_shows_who_has_how_much() -> None:
    specs = (swap(mib(1024)), ephemeral(mib(3 * 1024)), root())
    wide = plan_for(Layout(table=TableKind.GPT, partitions=specs), blank(16 * GIB))
    (bar,) = [line for line in as_text(wide, width=168).splitlines() if line.startswith("│")]
    cells = bar.strip("│").split("│")
    assert [cell.strip() for cell in cells] == ["swap", "ephemeral", "root"]
    assert [len(cell) // 10 for cell in cells] == [1, 3, 12]


def rectangles(svg: str) -> list[tuple[float, float]]:
    """The left edge and the width of every box of the disk."""
    tree = ElementTree.fromstring(svg)  # noqa: S314 - our own picture
    boxes = [box for group in tree.iter(f"{SVG}g") for box in group.iter(f"{SVG}rect")]
    return [(float(box.attrib["x"]), float(box.attrib["width"])) for box in boxes]


@pytest.mark.parametrize("count", [1, 5, 67, 128])
def test_the_picture_is_well_formed_and_its_boxes_fill_it_side_by_side(count: int) -> None:
    drawn = many(count)
    tree = ElementTree.fromstring(as_svg(drawn))  # noqa: S314 - our own picture
    assert tree.tag == f"{SVG}svg"
    boxes = rectangles(as_svg(drawn))
    # Free space before and behind.
    assert len(boxes) == count + 2
    at = 0.0
    for left, width in boxes:
        assert left == pytest.approx(at, abs=0.2)
        assert width > 0
        at = left + width
    left, _, wide, _ = (float(word) for word in tree.attrib["viewBox"].split())
    assert at == pytest.approx(wide + 2 * left, abs=0.2)


def test_every_partition_is_named_in_the_picture() -> None:
    texts = ["".join(text.itertext()) for text in ElementTree.fromstring(as_svg(plan())).iter(f"{SVG}text")]  # noqa: S314
    for words in (
        "/dev/test: 10 GiB, gpt, a new partition table",
        "1 esp: 550 MiB, vfat efi-part, mkfs vfat",
        "2 ephemeral: 1 GiB, ext4 ephemeral0, mkfs ext4",
        "4 config-drive: 1 MiB, no file system, left blank",
    ):
        assert words in texts


def test_what_has_a_meaning_in_xml_is_escaped_and_what_xml_can_not_hold_is_replaced() -> None:
    named = PartitionSpec(
        role=Role.DATA, name="d", size=Remaining(), filesystem=FileSystem.EXT4, label="</text>&\"<b>'"
    )
    facts = replace(blank(10 * GIB), path="/tmp/<a>&\x01\udcff]]>\ufffe.img")
    drawn = as_svg(plan_for(Layout(table=TableKind.GPT, partitions=(named,)), facts))
    texts = ["".join(text.itertext()) for text in ElementTree.fromstring(drawn).iter(f"{SVG}text")]  # noqa: S314
    assert texts[0].startswith("/tmp/<a>&??]]>?.img: 10 GiB")
    assert any("ext4 </text>&\"<b>'" in words for words in texts)
