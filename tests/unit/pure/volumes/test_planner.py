"""Plans for several disks, from facts by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import DeviceBusy, LayoutInvalid, NameTaken, VolumesDoNotFit
from libironic_disk.pure.disks.facts import DiskFacts, Signature, Topology
from libironic_disk.pure.disks.layout import FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.planning import Existing
from libironic_disk.pure.disks.sizes import Exact, Percent, Remaining, Size, mib
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.pure.volumes import planner
from libironic_disk.pure.volumes.drawing import as_text
from libironic_disk.pure.volumes.facts import (
    FoundArray,
    FoundGroup,
    FoundVolume,
    Holder,
    HolderKind,
    Member,
    StorageFacts,
)
from libironic_disk.pure.volumes.planning import Contents, StoragePlan
from libironic_disk.pure.volumes.storage import ArraySpec, GroupSpec, Storage, VolumeSpec
from libironic_disk.units import GIB, MIB
from tests.support.planning import applied, blank

SEED = b"the seed of a test"
EXTENT = 4 * MIB
VOLUMES = (
    VolumeSpec(name="root", size=mib(101), role=Role.ROOT, filesystem=FileSystem.EXT4, label="root"),
    VolumeSpec(name="share", size=Percent(share=50)),
    VolumeSpec(name="rest", size=Remaining()),
)


def part(role: Role, member_of: str) -> PartitionSpec:
    return PartitionSpec(role=role, size=Remaining(), member_of=member_of)


def disk(role: Role, member_of: str) -> Layout:
    return Layout(table=TableKind.GPT, partitions=(part(role, member_of),))


GROUPED = Storage(disks=(disk(Role.LVM, "vg"),) * 2, groups=(GroupSpec(name="vg", volumes=VOLUMES),), seed=b"seed")
STACKED = Storage(
    disks=(disk(Role.RAID, "mirror"),) * 2,
    arrays=(ArraySpec(name="mirror", member_of="vg"),),
    groups=(GroupSpec(name="vg", volumes=VOLUMES),),
    seed=b"seed",
)


def disks(*sizes: int, sector_size: int = 512) -> StorageFacts:
    topology = Topology(sector_size=sector_size, physical_sector_size=sector_size)
    return StorageFacts(
        disks=tuple(replace(blank(size, topology), path=f"/dev/disk{at}") for at, size in enumerate(sizes))
    )


def plan(
    storage: Storage, facts: StorageFacts, *, existing: Existing = Existing.MATCH, take_apart: bool = False
) -> StoragePlan:
    return planner.make_plan(storage, facts, seed=SEED, existing=existing, take_apart=take_apart)


def found(contents: Contents) -> tuple[Signature, ...]:
    if contents.filesystem is None:
        return ()
    return (Signature(kind=contents.filesystem, offset=1080, label=contents.label, uuid=contents.filesystem_uuid),)


def made(wanted: StoragePlan, before: StorageFacts) -> StorageFacts:
    """Return what is observed after a plan was applied."""
    seen: Sequence[DiskFacts] = [applied(each, facts) for each, facts in zip(wanted.disks, before.disks, strict=True)]
    return StorageFacts(
        disks=tuple(seen),
        holders=(Holder(node="/dev/dm-0", name="vg-root", kind=HolderKind.VOLUME, upon=("/dev/disk0p1",)),),
        arrays=tuple(
            FoundArray(
                name=array.name,
                uuid=array.uuid,
                level="raid1",
                metadata=array.metadata,
                devices=len(array.members),
                members=array.members,
                node="/dev/md127",
                size=array.size,
                signatures=found(array.contents),
            )
            for array in wanted.arrays
        ),
        groups=tuple(
            FoundGroup(
                name=group.name,
                uuid="an-identity",
                extent_size=group.extent_size,
                members=group.members,
                arrays=group.arrays,
                volumes=tuple(
                    FoundVolume(name=volume.name, size=volume.size, node="/dev/dm-0", signatures=found(volume.contents))
                    for volume in group.volumes
                ),
            )
            for group in wanted.groups
        ),
    )


def test_sizes_are_whole_extents_and_fill_the_group() -> None:
    (group,) = plan(GROUPED, disks(GIB, 2 * GIB)).groups
    assert group.members == (Member("/dev/disk0", 1), Member("/dev/disk1", 1))
    assert group.size % EXTENT == 0
    # A MiB before the partition and one behind it, and one of each member.
    assert group.size == (GIB - 3 * MIB) // EXTENT * EXTENT + (2 * GIB - 3 * MIB) // EXTENT * EXTENT
    root, share, rest = (volume.size for volume in group.volumes)
    assert root == 104 * MIB
    assert share == group.size // 2 // EXTENT * EXTENT
    assert root + share + rest == group.size


def test_an_array_has_whole_mib_of_its_smallest_member() -> None:
    wanted = plan(STACKED, disks(2 * GIB, GIB))
    (array,) = wanted.arrays
    assert array.size == GIB - 3 * MIB
    assert len(array.uuid.split(":")) == 4
    (group,) = wanted.groups
    assert (group.members, group.arrays) == ((), ("mirror",))
    assert group.size == (array.size - MIB) // EXTENT * EXTENT


@given(
    sizes=st.lists(
        st.one_of(
            st.builds(Exact, size=st.integers(1, 300 * MIB)),
            st.builds(Percent, share=st.integers(1, 40)),
            st.builds(
                Remaining,
                minimum=st.integers(1, 100 * MIB),
                maximum=st.none() | st.integers(100 * MIB, 400 * MIB),
                weight=st.integers(1, 5),
            ),
        ),
        min_size=1,
        max_size=6,
    ),
    extent=st.sampled_from([MIB, EXTENT, 32 * MIB]),
)
def test_volumes_have_what_they_ask_for_or_the_group_is_refused(sizes: list[Size], extent: int) -> None:
    volumes = tuple(VolumeSpec(name=f"v{at}", size=size) for at, size in enumerate(sizes))
    storage = replace(GROUPED, groups=(GroupSpec(name="vg", volumes=volumes, extent_size=extent),))
    refused: VolumesDoNotFit | None = None
    try:
        (group,) = plan(storage, disks(GIB, GIB)).groups
    except VolumesDoNotFit as error:
        refused = error
    if refused is not None:
        assert refused.wanted > refused.available
        return
    assert sum(volume.size for volume in group.volumes) <= group.size
    for size, volume in zip(sizes, group.volumes, strict=True):
        assert volume.size % extent == 0
        match size:
            case Exact():
                assert 0 <= volume.size - size.size < extent
            case Percent():
                assert volume.size <= max(size.of(group.size), extent)
            case Remaining():
                assert volume.size >= size.minimum


@pytest.mark.parametrize("storage", [GROUPED, STACKED])
@pytest.mark.parametrize("seed", [b"seed", None])
def test_what_is_as_planned_gives_an_empty_plan(storage: Storage, seed: bytes | None) -> None:
    before = disks(GIB, GIB)
    after = made(plan(storage, before), before)
    again = plan(replace(storage, seed=seed), after)
    assert again.is_empty
    assert again.stops == ()
    assert "nothing to do" in as_text(again)
    if seed is not None:
        assert again.groups == plan(storage, before).groups
    anew = plan(storage, after, existing=Existing.REPLACE, take_apart=True)
    assert not anew.is_empty
    assert anew.stops == after.holders


@pytest.mark.parametrize(
    "changed",
    [
        lambda group: replace(group, extent_size=MIB),
        lambda group: replace(group, members=()),
        lambda group: replace(group, volumes=group.volumes[1:]),
        lambda group: replace(group, volumes=(replace(group.volumes[0], size=EXTENT), *group.volumes[1:])),
        lambda group: replace(group, volumes=(replace(group.volumes[0], signatures=()), *group.volumes[1:])),
        lambda group: replace(group, volumes=(*group.volumes[:-1], replace(group.volumes[-1], node=""))),
    ],
)
def test_a_group_that_is_another_is_made_anew(changed: object) -> None:
    assert callable(changed)
    before = disks(GIB, GIB)
    after = made(plan(GROUPED, before), before)
    other = replace(after, groups=(changed(after.groups[0]),))
    with pytest.raises(DeviceBusy, match=r"logical volume vg-root \(/dev/dm-0\) runs on /dev/disk0p1"):
        plan(GROUPED, other)
    assert not plan(GROUPED, other, take_apart=True).is_empty


@pytest.mark.parametrize(
    "changed",
    [
        {"level": "raid0"},
        {"metadata": "1.0"},
        {"devices": 3},
        {"size": MIB},
        {"uuid": "0:0:0:0"},
        {"lost": "1 of its members"},
        {"members": (Member("/dev/disk0", 1),)},
    ],
)
def test_an_array_that_is_another_is_made_anew(changed: dict[str, object]) -> None:
    before = disks(GIB, GIB)
    after = made(plan(STACKED, before), before)
    other = replace(after, arrays=(replace(after.arrays[0], **changed),))  # type: ignore[arg-type]
    assert not plan(STACKED, other, take_apart=True).is_empty


def test_a_mirror_that_lost_a_member_is_named_with_its_loss() -> None:
    before = disks(GIB, GIB)
    after = made(plan(STACKED, before), before)
    array = Holder(node="/dev/md127", name="md127", kind=HolderKind.ARRAY, upon=("/dev/disk0p1",))
    other = replace(after, holders=(array,), arrays=(replace(after.arrays[0], lost="1 of its members"),))
    with pytest.raises(DeviceBusy) as busy:
        plan(STACKED, other)
    assert busy.value.users == ("array md127 (/dev/md127) runs on /dev/disk0p1, and lost 1 of its members",)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"users": ("/dev/dm-0 is mounted on /srv",)}, "/dev/dm-0 is mounted on /srv"),
        ({"foreign": ("/dev/other",)}, "logical volume vg-root (/dev/dm-0) is also on /dev/other, which isn't among"),
        ({"kind": HolderKind.CRYPT}, "encrypted volume vg-root (/dev/dm-0) runs on /dev/disk0p1 and is never taken"),
    ],
)
def test_what_may_not_be_stopped_is_named(changed: dict[str, object], words: str) -> None:
    before = disks(GIB, GIB)
    after = made(plan(GROUPED, before), before)
    holder = replace(after.holders[0], **changed)  # type: ignore[arg-type]
    with pytest.raises(DeviceBusy) as busy:
        plan(STACKED, replace(after, holders=(holder,)), take_apart=True)
    assert busy.value.device == "/dev/disk0, /dev/disk1"
    assert [user for user in busy.value.users if user.startswith(words)]


def test_a_group_that_is_also_elsewhere_is_not_robbed() -> None:
    before = disks(GIB, GIB)
    after = made(plan(GROUPED, before), before)
    shared = replace(after.groups[0], name="shared", foreign=("/dev/other",))
    with pytest.raises(DeviceBusy, match="volume group shared is also on /dev/other"):
        plan(GROUPED, replace(before, groups=(shared,)), take_apart=True)


def test_the_name_of_a_group_elsewhere_is_taken() -> None:
    other = FoundGroup(name="vg", uuid="x", extent_size=EXTENT, members=(), is_here=False, foreign=("/dev/other",))
    with pytest.raises(NameTaken, match="on /dev/other"):
        plan(GROUPED, replace(disks(GIB, GIB), groups=(other,)))


def test_members_with_different_sectors_are_refused() -> None:
    one, two = disks(GIB), disks(GIB, GIB, sector_size=4096)
    with pytest.raises(LayoutInvalid, match="'vg' have sectors of different size: /dev/disk0 512, /dev/disk1 4096"):
        plan(STACKED, StorageFacts(disks=(one.disks[0], two.disks[1])))


def test_disks_that_are_not_those_described_are_refused() -> None:
    with pytest.raises(LayoutInvalid, match="2 disks are described and 1 were observed"):
        plan(GROUPED, disks(GIB))
    facts = disks(GIB)
    with pytest.raises(LayoutInvalid, match="one disk is named twice"):
        plan(GROUPED, StorageFacts(disks=facts.disks * 2))


def test_what_does_not_fit_says_how_much_there_is() -> None:
    with pytest.raises(VolumesDoNotFit, match="root 104 MiB, share"):
        plan(GROUPED, disks(64 * MIB, 64 * MIB))
    small = replace(STACKED.arrays[0], member_of="", filesystem=FileSystem.XFS)
    with pytest.raises(VolumesDoNotFit) as refused:
        plan(replace(STACKED, arrays=(small,), groups=()), disks(GIB, 100 * MIB))
    assert (refused.value.name, refused.value.available) == ("mirror", 97 * MIB)


def test_a_plan_is_drawn_with_all_that_it_stops() -> None:
    before = disks(GIB, GIB)
    after = made(plan(STACKED, before), before)
    text = as_text(plan(GROUPED, after, take_apart=True))
    for line in (
        "stops logical volume vg-root (/dev/dm-0) on /dev/disk0p1",
        "group vg, 2040 MiB on partition 1 of /dev/disk0, partition 1 of /dev/disk1",
        "  volume root, 104 MiB: root, ext4 root",
    ):
        assert line in text.splitlines()


def test_grub_finds_volumes_by_their_names_and_mirrors_by_their_identity() -> None:
    wanted = plan(STACKED, disks(GIB, GIB))
    assert wanted.grub_name("mirror") == "mduuid/" + wanted.arrays[0].uuid.replace(":", "")
    assert wanted.grub_name("vg/root") == "lvm/vg-root"
    (group,) = wanted.groups
    renamed = replace(group, name="a-b", volumes=(replace(group.volumes[0], name="c-d"),))
    assert replace(wanted, groups=(renamed,)).grub_name("a-b/c-d") == "lvm/a--b-c--d"
    with pytest.raises(KeyError):
        wanted.grub_name("root")


def test_nothing_is_taken_apart_beside_a_partition_that_is_kept() -> None:
    """What is to be erased may lie in it."""
    kept = PartitionSpec(role=Role.DATA, size=Remaining(), keep=True)
    storage = Storage(disks=(Layout(table=TableKind.GPT, partitions=(kept,)),), seed=b"seed")
    before = disks(GIB)
    fresh = replace(storage, disks=(Layout(table=TableKind.GPT, partitions=(replace(kept, keep=False),)),))
    after = made(plan(fresh, before), before)
    assert plan(storage, replace(after, holders=()), existing=Existing.REPLACE).disks[0].partitions[0].keep
    with pytest.raises(DeviceBusy, match="a partition is to be kept"):
        plan(storage, after, existing=Existing.REPLACE, take_apart=True)


def test_a_spare_is_no_member_that_an_array_could_do_without_another_for() -> None:
    members = (Member("/dev/disk0", 1), Member("/dev/disk1", 1))
    array = FoundArray(name="theirs", uuid="x", level="raid5", metadata="", devices=2, members=members, spares=1)
    with pytest.raises(DeviceBusy, match="has 1 members that aren't on these disks"):
        plan(GROUPED, replace(disks(GIB, GIB), arrays=(array,)))
    assert not plan(GROUPED, replace(disks(GIB, GIB), arrays=(replace(array, spares=0),))).is_empty


@pytest.mark.parametrize(("level", "is_refused"), [("raid0", True), ("raid5", True), ("raid1", False)])
def test_a_stopped_array_that_would_lose_what_is_elsewhere_is_not_robbed(level: str, is_refused: bool) -> None:
    array = FoundArray(name="theirs", uuid="x", level=level, metadata="", devices=3, members=(Member("/dev/disk0", 1),))
    facts = replace(disks(GIB, GIB), arrays=(array,))
    if is_refused:
        with pytest.raises(DeviceBusy, match=f"array theirs of level {level} has 2 members that aren't on these disks"):
            plan(GROUPED, facts)
    else:
        assert not plan(GROUPED, facts).is_empty
