"""Plans: what becomes of a disk, decided without touching one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libironic_disk.errors import (
    DeviceReadOnly,
    LayoutDoesNotFit,
    LayoutInvalid,
    PreservationRefused,
    TableLimit,
)
from libironic_disk.pure.disks import ids
from libironic_disk.pure.disks.facts import DiskFacts, Signature, Topology
from libironic_disk.pure.disks.layout import FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.losses import EDGE
from libironic_disk.pure.disks.planner import HEAD
from libironic_disk.pure.disks.planning import Action, Existing, Plan
from libironic_disk.pure.disks.presets import bios_boot, config_drive, ephemeral, esp, ironic_layout, root, swap
from libironic_disk.pure.disks.sizes import Percent, Remaining, mib
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.pure.roles import Architecture, Attribute, Firmware, Role
from libironic_disk.pure.tables.model import FoundPartition, FoundTable, TableKind
from libironic_disk.units import GIB, MIB, TIB
from tests.support.planning import SEED, applied, blank, plan_for

GPT, MBR = TableKind.GPT, TableKind.MBR
BOTH = pytest.mark.parametrize("table", list(TableKind))


def layout(table: TableKind = GPT, *, keep: bool = False, seed: bytes | None = None, swap_mib: int = 64) -> Layout:
    specs = (esp(mib(64)), ephemeral(mib(128), keep=keep), swap(mib(swap_mib)), root())
    return Layout(table=table, partitions=specs, seed=seed)


def first_deployment(table: TableKind = GPT) -> tuple[Plan, DiskFacts]:
    """A plan for a blank disk, and what the disk is afterwards."""
    facts = blank(GIB)
    plan = plan_for(layout(table), facts)
    return plan, applied(plan, facts)


def overlap(ranges: tuple[ByteRange, ...], start: int, end: int) -> bool:
    return any(span.start < end and start < span.end for span in ranges)


# What is refused


def test_a_layout_that_contradicts_itself_is_refused_before_the_disk_is_looked_at() -> None:
    with pytest.raises(LayoutInvalid):
        plan_for(Layout(table=GPT, partitions=()), blank(0, read_only=True))


def test_a_read_only_disk_is_refused() -> None:
    with pytest.raises(DeviceReadOnly):
        plan_for(layout(), blank(GIB, read_only=True))


@BOTH
def test_a_disk_that_is_too_small_is_refused(table: TableKind) -> None:
    for size in (0, 511, 512, 34 * 512, MIB, 200 * MIB):
        with pytest.raises(LayoutDoesNotFit):
            plan_for(layout(table), blank(size))


@pytest.mark.parametrize("size", [Percent(share=10), Remaining(minimum=MIB, weight=1)])
def test_a_share_that_leaves_a_file_system_too_little_room_is_refused(size: Percent | Remaining) -> None:
    specs = (
        PartitionSpec(role=Role.DATA, name="srv", size=size, filesystem=FileSystem.XFS),
        PartitionSpec(role=Role.ROOT, size=Remaining(weight=9)),
    )
    with pytest.raises(LayoutInvalid) as refused:
        plan_for(Layout(table=GPT, partitions=specs), blank(GIB))
    (problem,) = refused.value.problems
    assert problem.startswith("partition 'srv': ")
    assert problem.endswith(" bytes are too few for xfs, which needs 300 MiB")
    assert plan_for(Layout(table=GPT, partitions=specs), blank(4 * GIB)).partitions[0].size >= 300 * MIB


# What is made


@BOTH
@pytest.mark.parametrize("sector_size", [512, 4096])
def test_a_blank_disk_gets_what_the_layout_says(table: TableKind, sector_size: int) -> None:
    facts = blank(GIB, Topology(sector_size=sector_size, physical_sector_size=4096))
    plan = plan_for(layout(table), facts)
    assert plan.action is Action.MAKE
    assert not plan.is_empty
    assert (plan.replaces, plan.destroys) == (None, ())
    assert [(part.name, part.role, part.start // MIB, part.size // MIB) for part in plan.partitions] == [
        ("esp", Role.ESP, 1, 64),
        ("ephemeral", Role.EPHEMERAL, 65, 128),
        ("swap", Role.SWAP, 193, 64),
        ("root", Role.ROOT, 257, 766 if table is GPT else 767),
    ]
    assert [(part.filesystem, part.label) for part in plan.makes] == [
        (FileSystem.VFAT, "efi-part"),
        (FileSystem.EXT4, "ephemeral0"),
        (FileSystem.SWAP, "swap1"),
    ]
    root_part = plan.partition(Role.ROOT)
    assert root_part is not None
    assert (root_part.filesystem_uuid, root_part.span.size) == ("", root_part.size)
    assert plan.partition(Role.PREP) is None


@BOTH
def test_nothing_is_placed_in_the_first_mebibyte(table: TableKind) -> None:
    # GRUB's core image goes there on an MBR, even where the disk's physical sectors start elsewhere.
    topology = Topology(sector_size=512, physical_sector_size=4096, alignment_offset=3584)
    plan = plan_for(layout(table), blank(GIB, topology))
    assert plan.partitions[0].start == HEAD + 3584


def test_identities_follow_from_the_seed_of_the_layout() -> None:
    plan = plan_for(layout(GPT, seed=b"node"), blank(GIB), seed=b"another")
    assert plan.disk_id == str(ids.guid(b"node", "disk"))
    for part in plan.partitions:
        assert part.uuid == str(ids.guid(b"node", f"partition/{part.name}"))
    esp_part, volume = plan.partitions[:2]
    assert esp_part.filesystem_uuid == ids.fat_volume_id(ids.guid(b"node", "filesystem/esp"))
    assert volume.filesystem_uuid == str(ids.guid(b"node", "filesystem/ephemeral"))


def test_identities_follow_from_the_plan_s_seed_where_the_layout_has_none() -> None:
    one, same, other = (plan_for(layout(), blank(GIB), seed=seed) for seed in (b"1", b"1", b"2"))
    assert one == same
    assert not {one.disk_id, *(part.uuid for part in one.partitions)} & {
        other.disk_id,
        *(part.uuid for part in other.partitions),
    }


def test_identities_on_an_mbr_are_its_signature_and_the_partition_s_number() -> None:
    specs = [PartitionSpec(role=Role.DATA, name=f"d{at}", size=mib(1)) for at in range(5)]
    plan = plan_for(Layout(table=MBR, partitions=tuple(specs), seed=b"node"), blank(GIB))
    signature = f"{ids.mbr_signature(b'node'):08x}"
    assert plan.disk_id == f"0x{signature}"
    assert [part.uuid for part in plan.partitions] == [f"{signature}-{number:02x}" for number in (1, 2, 3, 5, 6)]


def test_the_container_of_logical_partitions_holds_them_and_their_records() -> None:
    specs = [PartitionSpec(role=Role.DATA, name=f"d{at}", size=mib(10)) for at in range(6)]
    plan = plan_for(Layout(table=MBR, partitions=tuple(specs)), blank(GIB))
    assert plan.extended == ByteRange(31 * MIB, 64 * MIB)
    assert [part.record for part in plan.partitions] == [None, None, None, 31 * MIB, 42 * MIB, 53 * MIB]
    assert plan_for(Layout(table=MBR, partitions=tuple(specs[:4])), blank(GIB)).extended is None


def test_ironic_9_5_five_partitions_on_an_mbr_for_power_become_logical_ones() -> None:
    wanted = ironic_layout(
        root_mb=1024,
        swap_mb=64,
        ephemeral_mb=64,
        config_drive_bytes=MIB,
        firmware=Firmware.BIOS,
        table=MBR,
        architecture=Architecture.PPC64LE,
    )
    plan = plan_for(wanted, blank(2 * GIB))
    roles = [part.role for part in plan.partitions]
    assert roles == [Role.PREP, Role.EPHEMERAL, Role.SWAP, Role.CONFIG_DRIVE, Role.ROOT]
    assert [part.number for part in plan.partitions if part.number > 4]
    assert plan.extended is not None


def test_attributes_and_types_become_what_the_table_holds() -> None:
    spec = replace(root(), attributes=frozenset({Attribute.GROW_FILE_SYSTEM}))
    (part,) = plan_for(Layout(table=GPT, partitions=(spec,)), blank(GIB)).partitions
    assert (part.attributes, part.type_id) == (1 << 59, "4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
    (part,) = plan_for(Layout(table=MBR, partitions=(root(),)), blank(GIB)).partitions
    assert (part.attributes, part.type_id) == (0, "0x83")


@pytest.mark.parametrize(
    ("roles", "active"),
    [
        ([Role.ROOT], Role.ROOT),
        ([Role.SWAP, Role.ROOT], Role.ROOT),
        ([Role.PREP, Role.ROOT], Role.PREP),
        ([Role.ESP, Role.ROOT], None),
        ([Role.DATA, Role.SWAP], Role.DATA),
        # The fifth is logical, and no BIOS finds a flag there.
        ([Role.SWAP, Role.EPHEMERAL, Role.CONFIG_DRIVE, Role.DATA, Role.ROOT], Role.SWAP),
        ([Role.ROOT, Role.SWAP, Role.EPHEMERAL, Role.CONFIG_DRIVE, Role.DATA], Role.ROOT),
    ],
)
def test_one_primary_partition_of_an_mbr_is_active(roles: list[Role], active: Role | None) -> None:
    filesystems = {Role.SWAP: FileSystem.SWAP, Role.ESP: FileSystem.VFAT}
    specs = tuple(PartitionSpec(role=role, size=mib(10), filesystem=filesystems.get(role)) for role in roles)
    plan = plan_for(Layout(table=MBR, partitions=specs), blank(GIB))
    assert [part.role for part in plan.partitions if part.bootable] == ([active] if active else [])
    gpt = plan_for(Layout(table=GPT, partitions=specs), blank(GIB))
    assert not any(part.bootable for part in gpt.partitions)


# Two tebibytes


def test_what_remains_on_an_mbr_ends_where_32_bits_end() -> None:
    plan = plan_for(ironic_layout(firmware=Firmware.BIOS), blank(3 * TIB))
    assert plan.partitions[-1].end == 2 * TIB
    assert plan.notes == ("1 TiB lie behind what an MBR can reach and stay unused",)
    assert plan_for(ironic_layout(firmware=Firmware.BIOS), blank(2 * TIB)).notes == ()


def test_what_an_mbr_can_not_reach_is_refused_with_the_way_out() -> None:
    wanted = Layout(table=MBR, partitions=(root(mib(2 * 1024 * 1024)),))
    with pytest.raises(TableLimit, match="an MBR reaches only the first 2 TiB of its 3 TiB; use gpt"):
        plan_for(wanted, blank(3 * TIB))
    assert plan_for(replace(wanted, table=GPT), blank(3 * TIB)).partitions[0].size == 2 * TIB


def test_what_would_not_fit_on_any_table_is_not_blamed_on_the_mbr() -> None:
    with pytest.raises(LayoutDoesNotFit):
        plan_for(Layout(table=MBR, partitions=(root(mib(4 * 1024 * 1024)),)), blank(3 * TIB))


def test_larger_sectors_reach_further() -> None:
    facts = blank(17 * TIB, Topology(sector_size=4096, physical_sector_size=4096))
    plan = plan_for(Layout(table=MBR, partitions=(root(),)), facts)
    assert plan.partitions[0].end == 16 * TIB


# What is lost


def test_every_signature_is_named_and_its_place_wiped() -> None:
    found = (
        Signature(kind="LVM2_member", offset=512),
        Signature(kind="zfs_member", offset=GIB // 2 + 5000),
        Signature(kind="linux_raid_member", offset=GIB - 1),
    )
    plan = plan_for(layout(), replace(blank(GIB), signatures=found))
    assert plan.destroys == found
    for signature in found:
        assert overlap(plan.wipes, signature.offset, signature.offset + 1)
    assert max(span.end for span in plan.wipes) == GIB


def test_both_ends_of_the_disk_and_of_every_old_and_new_partition_are_wiped() -> None:
    old = FoundTable(
        kind=MBR,
        disk_id="0x00000001",
        partitions=(
            FoundPartition(number=1, start=300 * MIB + 512, size=10 * MIB, type_id="0x83", uuid="00000001-01"),
            FoundPartition(number=2, start=900 * MIB, size=GIB, type_id="0x83", uuid="00000001-02"),
            FoundPartition(number=3, start=2 * GIB, size=GIB, type_id="0x83", uuid="00000001-03"),
        ),
        regions=((0, 512), (700 * MIB, 512)),
    )
    plan = plan_for(layout(), replace(blank(GIB), table=old))
    assert plan.replaces == old
    places = [(0, GIB), (300 * MIB + 512, 310 * MIB + 512), (900 * MIB, GIB)]
    places += [(part.start, part.end) for part in plan.partitions]
    for start, end in places:
        for edge in (ByteRange(start, start + EDGE), ByteRange(end - EDGE, end)):
            assert any(span.start <= edge.start and edge.end <= span.end for span in plan.wipes), edge
    # The old table's own sectors too, wherever they lie.
    assert overlap(plan.wipes, 700 * MIB, 700 * MIB + 512)
    assert all(0 <= span.start < span.end <= GIB for span in plan.wipes)
    # And what lies between is left alone: wiping a disk takes no time.
    assert sum(span.size for span in plan.wipes) < 40 * MIB


# A disk that already is as it should be


@BOTH
def test_planning_again_after_an_apply_gives_an_empty_plan(table: TableKind) -> None:
    plan, facts = first_deployment(table)
    again = plan_for(layout(table), facts, seed=b"another seed")
    assert again.is_empty
    assert again.action is Action.NOTHING
    assert (again.destroys, again.wipes, again.makes) == ((), (), ())
    assert again.partitions == plan.partitions
    assert again.disk_id == plan.disk_id


@BOTH
def test_replacing_makes_the_same_disk_anew_with_new_identities(table: TableKind) -> None:
    plan, facts = first_deployment(table)
    again = plan_for(layout(table), facts, existing=Existing.REPLACE, seed=b"another seed")
    assert again.action is Action.MAKE
    assert again.disk_id != plan.disk_id
    assert again.destroys == facts.signatures
    assert [(part.start, part.size) for part in again.partitions] == [
        (part.start, part.size) for part in plan.partitions
    ]


def test_a_seed_of_the_layout_must_be_the_disk_s_too() -> None:
    _, facts = first_deployment()
    assert plan_for(layout(seed=SEED), facts).is_empty
    assert plan_for(layout(seed=b"another"), facts).action is Action.MAKE


@pytest.mark.parametrize(
    "change",
    [
        "label",
        "uuid",
        "kind",
        "missing signature",
        "second signature",
        "partition name",
        "attributes",
        "partition uuid",
        "type",
        "size",
        "problem",
        "no table",
    ],
)
def test_any_difference_makes_the_plan_a_new_disk(change: str) -> None:
    _, facts = first_deployment()
    table = facts.table
    assert table is not None
    first, *rest = facts.signatures
    part, *parts = table.partitions

    def partition(other: FoundPartition) -> DiskFacts:
        return replace(facts, table=replace(table, partitions=(other, *parts)))

    changed = {
        "label": replace(facts, signatures=(replace(first, label="other"), *rest)),
        "uuid": replace(facts, signatures=(replace(first, uuid="1111-2222"), *rest)),
        "kind": replace(facts, signatures=(replace(first, kind="ext4"), *rest)),
        "missing signature": replace(facts, signatures=tuple(rest)),
        "second signature": replace(facts, signatures=(first, replace(first, kind="swap"), *rest)),
        "partition name": partition(replace(part, name="other")),
        "attributes": partition(replace(part, attributes=1)),
        "partition uuid": partition(replace(part, uuid=parts[0].uuid)),
        "type": partition(replace(part, type_id=parts[0].type_id)),
        "size": partition(replace(part, size=part.size - 512)),
        "problem": replace(facts, table=replace(table, problems=("the backup copy is damaged",))),
        "no table": replace(facts, table=None),
    }[change]
    # The identity of a file system or partition is the disk's own where the layout has no seed.
    expected = Action.NOTHING if change in {"uuid", "partition uuid"} else Action.MAKE
    assert plan_for(layout(), changed).action is expected
    assert plan_for(layout(seed=SEED), changed).action is Action.MAKE


def test_the_contents_of_a_blank_partition_are_the_callers_own_affair() -> None:
    plan, facts = first_deployment()
    image = Signature(kind="ext4", offset=plan.partitions[-1].start + 1080, partition=4, label="cloudimg-rootfs")
    assert plan_for(layout(), replace(facts, signatures=(*facts.signatures, image))).is_empty


# A volume that is kept


@BOTH
def test_a_rebuild_keeps_the_volume_and_its_table_and_makes_the_others_anew(table: TableKind) -> None:
    plan, facts = first_deployment(table)
    again = plan_for(layout(table, keep=True), facts, existing=Existing.REPLACE, seed=b"another seed")
    assert again.action is Action.KEEP
    assert again.disk_id == plan.disk_id
    assert [part.uuid for part in again.partitions] == [part.uuid for part in plan.partitions]
    assert [part.name for part in again.makes] == ["esp", "swap"]
    kept, before = again.partitions[1], plan.partitions[1]
    assert kept.keep
    assert kept.filesystem_uuid == before.filesystem_uuid
    assert {part.filesystem_uuid for part in again.makes}.isdisjoint(part.filesystem_uuid for part in plan.makes)
    assert [found.partition for found in again.destroys] == [1, 3]
    assert not overlap(again.wipes, kept.start, kept.end)
    assert facts.table is not None
    for offset, length in facts.table.regions:
        assert not overlap(again.wipes, offset, offset + length)
    assert overlap(again.wipes, again.partitions[0].start, again.partitions[0].end)


@BOTH
def test_a_disk_with_a_kept_volume_that_needs_nothing_gets_an_empty_plan(table: TableKind) -> None:
    _, facts = first_deployment(table)
    assert plan_for(layout(table, keep=True), facts).is_empty


def test_a_kept_table_keeps_its_identities_whatever_the_layout_s_seed() -> None:
    plan, facts = first_deployment()
    wanted = replace(layout(keep=True), seed=b"another seed")
    again = plan_for(wanted, facts, existing=Existing.REPLACE)
    assert again.disk_id == plan.disk_id
    assert [part.uuid for part in again.partitions] == [part.uuid for part in plan.partitions]
    assert again.makes[0].filesystem_uuid == ids.fat_volume_id(ids.guid(b"another seed", "filesystem/esp"))


def test_a_kept_volume_may_hold_anything() -> None:
    _, facts = first_deployment()
    other = [Signature(kind="xfs", offset=facts.signatures[1].offset, partition=2)]
    changed = replace(facts, signatures=(facts.signatures[0], *other, facts.signatures[2]))
    plan = plan_for(layout(keep=True), changed, existing=Existing.REPLACE)
    assert plan.action is Action.KEEP
    assert other[0] not in plan.destroys


def test_every_difference_is_told_when_a_volume_can_not_be_proven() -> None:
    _, facts = first_deployment()
    wanted = Layout(
        table=GPT,
        partitions=(
            bios_boot(),
            ephemeral(mib(128), keep=True),
            config_drive(1),
            PartitionSpec(role=Role.DATA, name="srv", size=mib(10)),
            root(),
        ),
    )
    with pytest.raises(PreservationRefused) as refused:
        plan_for(wanted, facts)
    assert refused.value.differences == (
        "partition 1 (bios-boot) has 67108864 bytes, not 1048576",
        "partition 1 (bios-boot) has the type c12a7328-f81f-11d2-ba4b-00a0c93ec93b, not "
        "21686148-6449-6e6f-744e-656564454649",
        "partition 2 (ephemeral) starts at byte 68157440, not 2097152",
        "partition 3 (config-drive) starts at byte 202375168, not 136314880",
        "partition 3 (config-drive) has 67108864 bytes, not 1048576",
        "partition 3 (config-drive) has the type 0657fd6d-a4ab-43c4-84e5-0933c84b4f4f, not "
        "0fc63daf-8483-4772-8e79-3d69d8477de4",
        "partition 4 (srv) starts at byte 269484032, not 137363456",
        "partition 4 (srv) has 803209216 bytes, not 10485760",
        "partition 4 (srv) has the type 4f68bce3-e8cd-4db1-96e7-fbcaf984b709, not 0fc63daf-8483-4772-8e79-3d69d8477de4",
        "partition 5 (root) is not there",
    )


def test_a_partition_too_many_is_a_difference_too() -> None:
    _, facts = first_deployment()
    wanted = Layout(table=GPT, partitions=(esp(mib(64)), ephemeral(mib(128), keep=True), swap(mib(64))))
    with pytest.raises(PreservationRefused, match="partition 4 of 766 MiB at byte 269484032 is there and not in the"):
        plan_for(wanted, facts)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (blank(GIB), "the disk has no partition table"),
        (first_deployment(MBR)[1], "the table is mbr, not gpt"),
        (
            replace(
                first_deployment()[1],
                table=FoundTable(kind=GPT, disk_id="", partitions=(), problems=("it is damaged",)),
            ),
            "it is damaged",
        ),
    ],
)
def test_a_volume_is_not_kept_on_a_disk_that_proves_nothing(facts: DiskFacts, words: str) -> None:
    with pytest.raises(PreservationRefused) as refused:
        plan_for(layout(keep=True), facts)
    assert words in refused.value.differences
