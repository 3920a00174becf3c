"""Mirrors and volume groups on real disks, as mdadm, LVM, sfdisk and blkid see them afterwards."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from libironic_disk import partitioner, volumes
from libironic_disk.errors import (
    Cancelled,
    DeviceBusy,
    DeviceFailed,
    DiskError,
    DiskState,
    LayoutInvalid,
    NameTaken,
    PlanOutdated,
    ProgramFailed,
)
from libironic_disk.events import Cancellation, Phase
from libironic_disk.machine.disks import sysfs
from libironic_disk.machine.volumes import making
from libironic_disk.pure.disks.layout import FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.planning import Existing
from libironic_disk.pure.disks.presets import root
from libironic_disk.pure.disks.sizes import Percent, Remaining, mib
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.pure.volumes.drawing import as_text
from libironic_disk.pure.volumes.facts import Holder
from libironic_disk.pure.volumes.planning import StoragePlan
from libironic_disk.pure.volumes.storage import ArrayMetadata, ArraySpec, GroupSpec, Storage, VolumeSpec
from libironic_disk.units import MIB
from tests.support import oracles
from tests.support.disks import mounted
from tests.support.faultydisk_walks import when_begun
from tests.support.machinedisks import NOTHING_STARTS_BY_ITSELF, blank, lvm_configured
from tests.support.oracles import output
from tests.support.storages import group_on_mirror
from tests.support.udevd import settle

pytestmark = pytest.mark.inside

SEED = b"volumes"
PLAIN = Layout(table=TableKind.GPT, partitions=(root(),))


@pytest.fixture
def pair() -> Iterator[list[str]]:
    """Two blank disks with sectors of 512 bytes."""
    yield from _disks("nvme-512", "virtio-512")


@pytest.fixture
def large_sectors() -> Iterator[list[str]]:
    """Two blank disks with sectors of 4096 bytes."""
    yield from _disks("nvme-4096", "virtio-4096")


def _disks(*serials: str) -> Iterator[list[str]]:
    disks = [blank(serial) for serial in serials]
    yield disks
    settle()
    volumes.stop(volumes.observe(disks))
    for serial in serials:
        blank(serial)


def esp(size: int) -> PartitionSpec:
    return PartitionSpec(role=Role.ESP, size=mib(size), member_of="efi")


def part_of(name: str, role: Role, size: int | None = None) -> PartitionSpec:
    return PartitionSpec(role=role, name=f"for-{name}", size=Remaining() if size is None else mib(size), member_of=name)


def group_on(disks: int, name: str = "vg0", **changes: object) -> Storage:
    """Return a group on as many disks, with a volume of each kind of size."""
    volumes_of_it = (
        VolumeSpec(name="root", size=mib(129), role=Role.ROOT, filesystem=FileSystem.EXT4, label="root"),
        VolumeSpec(name="sw-ap", size=Percent(share=10), role=Role.SWAP, filesystem=FileSystem.SWAP),
        VolumeSpec(name="data", size=Remaining(), filesystem=FileSystem.XFS, mount_point="/srv"),
    )
    layout = Layout(table=TableKind.GPT, partitions=(part_of(name, Role.LVM),))
    storage = Storage(disks=(layout,) * disks, groups=(GroupSpec(name=name, volumes=volumes_of_it),), seed=SEED)
    return replace(storage, **changes)  # type: ignore[arg-type]


def mirrors(metadata: ArrayMetadata) -> Storage:
    """Return a mirrored ESP and a mirrored root."""
    layout = Layout(table=TableKind.GPT, partitions=(esp(280), part_of("system", Role.RAID)))
    arrays = (
        ArraySpec(
            name="efi", metadata=ArrayMetadata.AT_THE_END, role=Role.ESP, filesystem=FileSystem.VFAT, label="ESP"
        ),
        ArraySpec(name="system", metadata=metadata, role=Role.ROOT, filesystem=FileSystem.EXT4, label="system"),
    )
    return Storage(disks=(layout, layout), arrays=arrays, seed=SEED)


def applied(storage: Storage, disks: list[str], *, take_apart: bool = False) -> volumes.AppliedStorage:
    plan = volumes.plan(storage, volumes.observe(disks), take_apart=take_apart)
    done = volumes.apply(plan)
    settle()
    return done


def detail(node: str) -> dict[str, str]:
    lines = output("mdadm", "--detail", "--export", node).splitlines()
    return dict(line.split("=", 1) for line in lines)


def nothing_runs(disks: list[str]) -> bool:
    return not volumes.observe(disks).holders


@contextmanager
def foreign_group(disk: str, name: str) -> Iterator[None]:
    """Have somebody else's group on a disk, and assert that not one byte of it is another afterwards."""
    for argv in (
        ("pvcreate", "-y", disk),
        ("vgcreate", name, disk),
        ("lvcreate", "-y", "-L", "64M", "-n", "old", name),
    ):
        output(*argv)
    output("mkfs.ext4", "-q", f"/dev/mapper/{name}-old")
    settle()
    before = digest(disk)
    try:
        yield
        assert digest(disk) == before
    finally:
        output("vgremove", "--force", "--yes", name)
        output("pvremove", "--yes", disk)


def digest(disk: str) -> str:
    output("blockdev", "--flushbufs", disk)
    with Path(disk).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_a_group_on_two_disks(pair: list[str], tmp_path: Path) -> None:
    storage = group_on(2)
    plan = volumes.plan(storage, volumes.observe(pair))
    done = volumes.apply(plan)
    settle()
    (group,) = oracles.lvm("vgs", "vg_name,vg_extent_size,vg_size,pv_count,lv_count")
    assert group["vg_name"] == "vg0"
    assert (group["pv_count"], group["lv_count"]) == ("2", "3")
    assert int(group["vg_size"]) == plan.groups[0].size
    (wanted,) = plan.groups
    sizes = {row["lv_name"]: int(row["lv_size"]) for row in oracles.lvm("lvs", "lv_name,lv_size")}
    assert sizes == {volume.name: volume.size for volume in wanted.volumes}
    assert sizes["root"] == 132 * MIB
    assert sizes["sw-ap"] == wanted.size // 10 // (4 * MIB) * (4 * MIB)
    assert sum(sizes.values()) == wanted.size
    for volume in wanted.volumes:
        found = oracles.blkid(done.nodes[f"vg0/{volume.name}"])
        assert (found["TYPE"], found["UUID"]) == (volume.contents.filesystem, volume.contents.filesystem_uuid)
    with mounted(done.nodes["vg0/data"], tmp_path / "data") as where:
        (where / "file").write_text("contents")
    for disk in pair:
        (row,) = oracles.sfdisk(disk).rows
        assert row.type_id == "e6d6d379-f507-44c2-a23c-238f2a3df928"
        oracles.check_gpt(disk)
    again = volumes.plan(storage, volumes.observe(pair))
    assert again.is_empty
    assert volumes.apply(again).nodes == done.nodes
    # Without a seed, what is there keeps its identity.
    assert volumes.plan(replace(storage, seed=None), volumes.observe(pair)).is_empty
    other = group_on(2, groups=(GroupSpec(name="vg0"),))
    with pytest.raises(DeviceBusy, match="logical volume vg0-root"):
        volumes.plan(other, volumes.observe(pair))


@pytest.mark.parametrize(
    "metadata", [ArrayMetadata.AT_THE_END, pytest.param(ArrayMetadata.AT_THE_START, marks=pytest.mark.full)]
)
def test_a_mirrored_esp_and_root(pair: list[str], metadata: ArrayMetadata, tmp_path: Path) -> None:
    storage = mirrors(metadata)
    plan = volumes.plan(storage, volumes.observe(pair))
    done = volumes.apply(plan)
    settle()
    for array in plan.arrays:
        found = detail(done.nodes[array.name])
        assert (found["MD_LEVEL"], found["MD_METADATA"]) == ("raid1", array.metadata)
        assert (found["MD_DEVICES"], found["MD_UUID"]) == ("2", array.uuid)
        assert int(output("blockdev", "--getsize64", done.nodes[array.name])) == array.size
        probed = oracles.blkid(done.nodes[array.name])
        assert (probed["TYPE"], probed["LABEL"]) == (array.contents.filesystem, array.contents.label)
    with mounted(done.nodes["efi"], tmp_path / "efi") as where:
        (where / "file").write_text("for firmware")
    assert volumes.plan(storage, volumes.observe(pair)).is_empty
    volumes.stop(volumes.observe(pair))
    for disk in pair:
        first, second = oracles.sfdisk(disk).rows
        assert first.type_id == "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
        assert second.type_id == "a19d880f-05fc-4d3b-a006-743f0f84911e"
        # Firmware knows nothing of arrays: to it each member is a FAT file system.
        offset = first.start * 512
        assert output("mtype", "-i", f"{disk}@@{offset}", "::/file") == "for firmware"


def test_a_group_on_a_mirror_with_large_sectors(large_sectors: list[str]) -> None:
    storage = group_on_mirror(SEED)
    plan = volumes.plan(storage, volumes.observe(large_sectors))
    done = volumes.apply(plan)
    settle()
    assert detail(done.nodes["mirror"])["MD_UUID"] == plan.arrays[0].uuid
    (physical,) = oracles.lvm("pvs", "pv_name,vg_name,pv_size")
    assert (physical["pv_name"], physical["vg_name"]) == (done.nodes["mirror"], "vg-m")
    assert int(physical["pv_size"]) == plan.groups[0].size
    assert oracles.blkid(done.nodes["vg-m/root"])["TYPE"] == "ext4"
    assert volumes.plan(storage, volumes.observe(large_sectors)).is_empty


def test_a_mirror_that_runs_on_one_disk_is_none(pair: list[str]) -> None:
    storage = group_on_mirror()
    plan = volumes.plan(storage, volumes.observe(pair))
    done = volumes.apply(plan)
    settle()
    assert volumes.plan(storage, volumes.observe(pair)).is_empty
    lost = sysfs.partitions(sysfs.whole_disk(pair[1]))[0].block.node
    output("mdadm", "--manage", done.nodes["mirror"], "--fail", lost)
    with pytest.raises(DeviceBusy, match=f"runs on .*{pair[0]}.*, and lost 1 of its members"):
        volumes.plan(storage, volumes.observe(pair))
    # Without its second disk, and with what that disk still says of itself.
    output("mdadm", "--manage", done.nodes["mirror"], "--remove", lost)
    assert volumes.observe(pair).arrays[0].members == plan.arrays[0].members
    again = volumes.plan(storage, volumes.observe(pair), take_apart=True)
    done = volumes.apply(again)
    settle()
    assert "[2/2] [UU]" in Path("/proc/mdstat").read_text()


def test_what_runs_is_taken_apart_only_by_steps_of_the_plan(pair: list[str], tmp_path: Path) -> None:
    applied(group_on_mirror(SEED), pair)
    plain = Storage(disks=(PLAIN, PLAIN))
    with pytest.raises(DeviceBusy) as busy:
        volumes.plan(plain, volumes.observe(pair))
    assert [user.split(" (")[0] for user in busy.value.users] == ["logical volume vg--m-root", "array md127"]
    with pytest.raises(DeviceBusy):
        partitioner.apply(partitioner.plan(PLAIN, partitioner.observe(pair[0])))
    facts = volumes.observe(pair)
    used = tmp_path / "used"
    with mounted(facts.holders[0].node, used), pytest.raises(DeviceBusy, match=f"mounted on {used}"):
        volumes.plan(plain, volumes.observe(pair), take_apart=True)
    plan = volumes.plan(plain, volumes.observe(pair), take_apart=True)
    assert [step.name for step in plan.stops] == ["vg--m-root", "md127"]
    assert "stops logical volume vg--m-root" in as_text(plan)
    volumes.apply(plan)
    settle()
    assert nothing_runs(pair)
    for disk in pair:
        (row,) = oracles.sfdisk(disk).rows
        assert output("wipefs", "--noheadings", f"{disk}p1" if disk[-1].isdigit() else f"{disk}1") == ""
        assert row.start == 2048
    assert oracles.lvm("pvs", "pv_name") == []


def test_nothing_starts_a_system_that_is_being_taken_apart(pair: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    applied(mirrors(ArrayMetadata.AT_THE_END), pair)
    esps = [oracles.sfdisk(disk).rows[0].start * 512 for disk in pair]
    for disk, start in zip(pair, esps, strict=True):
        assert first_sector(disk, start)[510:] == b"\x55\xaa"
    plan = volumes.plan(Storage(disks=(PLAIN, PLAIN)), volumes.observe(pair), take_apart=True)

    def dead(holder: Holder) -> None:
        raise DeviceFailed(device=holder.node, action="opening", reason="Input/output error")

    with monkeypatch.context() as broken, pytest.raises(DeviceFailed, match="boot nothing") as failed:
        broken.setattr(making, "take_apart", dead)
        volumes.apply(plan)
    assert failed.value.disk is DiskState.UNKNOWN
    for disk, start in zip(pair, esps, strict=True):
        # int 18h: the BIOS goes on to its next device; and no firmware finds a file system where its loader was.
        assert first_sector(disk, 0).startswith(b"\xcd\x18")
        assert first_sector(disk, start) == bytes(512)
    again = volumes.plan(Storage(disks=(PLAIN, PLAIN)), volumes.observe(pair), take_apart=True)
    volumes.apply(again)
    settle()
    assert nothing_runs(pair)


def first_sector(disk: str, start: int) -> bytes:
    """Return 512 bytes of a disk from a byte on, past the kernel's cache."""
    subprocess.run(["blockdev", "--flushbufs", disk], check=True)
    with Path(disk).open("rb") as node:
        node.seek(start)
        return node.read(512)


def test_a_plan_is_outdated_when_something_else_runs(pair: list[str]) -> None:
    facts = volumes.observe(pair)
    early = volumes.plan(group_on(2), facts)
    applied(group_on(2), pair)
    plan = volumes.plan(Storage(disks=(PLAIN, PLAIN)), volumes.observe(pair), take_apart=True)
    with pytest.raises(PlanOutdated):
        volumes.apply(early)
    volumes.stop(volumes.observe(pair))
    with pytest.raises(PlanOutdated, match=r"logical volume vg0-root .* ran upon it and doesn't any more") as outdated:
        volumes.apply(plan)
    assert outdated.value.disk is DiskState.UNCHANGED


def test_a_group_elsewhere_is_never_touched(pair: list[str]) -> None:
    ours, theirs = pair
    with foreign_group(theirs, "taken"):
        with pytest.raises(NameTaken) as taken:
            volumes.plan(group_on(1, "taken"), volumes.observe([ours]))
        assert taken.value.users == (theirs,)
        applied(group_on(1), [ours])
        plan = volumes.plan(Storage(disks=(PLAIN,)), volumes.observe([ours]), take_apart=True)
        assert {step.name for step in plan.stops} == {"vg0-root", "vg0-sw--ap", "vg0-data"}
        volumes.apply(plan)
        settle()
        assert [row["vg_name"] for row in oracles.lvm("vgs", "vg_name")] == ["taken"]


# Of another machine's group LVM says nothing unless it is asked for such.
@pytest.mark.parametrize("owner", [(), ("--systemid", "another-machine")], ids=["ours", "another-machines"])
def test_a_group_on_whole_disks_that_is_also_elsewhere_is_left_whole(pair: list[str], owner: tuple[str, ...]) -> None:
    ours, theirs = pair
    output("pvcreate", "-y", *pair)
    output("vgcreate", "--yes", *owner, "whole", *pair)
    settle()
    try:
        with pytest.raises(DeviceBusy, match=f"volume group whole is also on {theirs}"):
            volumes.plan(Storage(disks=(PLAIN,)), volumes.observe([ours]), take_apart=True)
        with pytest.raises(NameTaken):
            volumes.plan(group_on(1, "whole"), volumes.observe([ours]), take_apart=True)
    finally:
        for disk in pair:
            output("wipefs", "--all", "--force", disk)
        settle()


def test_a_stopped_array_is_not_robbed_of_a_member_because_it_has_a_spare(
    pair: list[str], large_sectors: list[str]
) -> None:
    disks = [*pair, large_sectors[0]]
    # The last one is the spare.
    argv = ("--run", "--level=5", "--raid-devices=2", "--spare-devices=1", "--metadata=1.2", "--assume-clean")
    # What an earlier test left where the array has its data may be a group, which udevd would start.
    with lvm_configured(NOTHING_STARTS_BY_ITSELF):
        output("mdadm", "--create", "/dev/md127", *argv, *disks)
        settle()
        output("mdadm", "--stop", "/dev/md127")
    seen = volumes.observe([disks[1], disks[2]])
    assert [(array.devices, len(array.members), array.spares) for array in seen.arrays] == [(2, 2, 1)]
    with pytest.raises(DeviceBusy, match="of level raid5 has 1 members that aren't on these disks"):
        volumes.plan(Storage(disks=(PLAIN, PLAIN)), seen, take_apart=True)


def test_a_mirror_of_whole_disks_is_not_started_again_while_it_is_taken_apart(pair: list[str]) -> None:
    # The first copy from one disk to the other would still write, over an earlier test's table too: that isn't the disk
    # that was planned for.
    argv = ("--run", "--assume-clean", "--level=1", "--raid-devices=2", "--metadata=1.2")
    output("mdadm", "--create", "/dev/md127", *argv, *pair)
    settle()
    applied(Storage(disks=(PLAIN, PLAIN)), pair, take_apart=True)
    assert nothing_runs(pair)
    for disk in pair:
        assert len(oracles.sfdisk(disk).rows) == 1


def test_an_array_that_waits_for_its_other_disk_is_taken_apart(pair: list[str]) -> None:
    """udevd begins one when it sees a member, and it has no byte yet that could be erased or flushed."""
    member = Layout(table=TableKind.GPT, partitions=(part_of("mirror", Role.RAID),))
    applied(Storage(disks=(member, member), arrays=(ArraySpec(name="mirror"),)), pair)
    volumes.stop(volumes.observe(pair))
    blank("virtio-512")
    output("mdadm", "--incremental", f"{pair[0]}p1")
    assert "inactive" in Path("/proc/mdstat").read_text()
    applied(Storage(disks=(PLAIN, PLAIN)), pair, take_apart=True)
    assert nothing_runs(pair)


def test_a_group_that_is_also_elsewhere_is_left_whole(pair: list[str]) -> None:
    ours, theirs = pair
    applied(group_on(2), pair)
    for running in (True, False):
        with pytest.raises(DeviceBusy, match=f"is also on {theirs}"):
            volumes.plan(Storage(disks=(PLAIN,)), volumes.observe([ours]), take_apart=True)
        if running:
            volumes.stop(volumes.observe(pair))


def test_a_volume_that_cannot_be_made_leaves_nothing(pair: list[str]) -> None:
    storage = group_on(2)
    plan = volumes.plan(storage, volumes.observe(pair))
    # LVM's own reading of a size is stricter than what a changed plan says.
    group = replace(plan.groups[0], volumes=(replace(plan.groups[0].volumes[0], size=plan.groups[0].size * 2),))
    with pytest.raises(ProgramFailed) as failed:
        volumes.apply(replace(plan, groups=(group,)))
    assert failed.value.disk is DiskState.UNBOOTABLE
    assert nothing_runs(pair)
    assert not any(oracles.has_table(disk) for disk in pair)


@pytest.mark.parametrize("during", [Phase.PARTITION, pytest.param(Phase.FORMAT, marks=pytest.mark.full)])
def test_cancelling_leaves_nothing(pair: list[str], during: Phase) -> None:
    cancel = Cancellation()
    plan = volumes.plan(group_on_mirror(SEED), volumes.observe(pair))
    with pytest.raises(Cancelled):
        volumes.apply(plan, cancel=cancel, sink=when_begun(during, cancel.cancel, detail="vg-m"))
    assert nothing_runs(pair)
    assert not any(oracles.has_table(disk) for disk in pair)
    applied(group_on_mirror(SEED), pair)


def test_a_path_of_a_multipath_map_is_refused_by_name(pair: list[str]) -> None:
    disk, _ = pair
    sectors = output("blockdev", "--getsz", disk).strip()
    table = f"0 {sectors} linear {disk} 0"
    output("dmsetup", "create", "mpatha", "--uuid", "mpath-3600", "--table", table)
    try:
        settle()
        plan = partitioner.plan(PLAIN, partitioner.observe(disk))
        with pytest.raises(DeviceBusy, match="the multipath map mpatha"):
            partitioner.apply(plan)
        with pytest.raises(DeviceBusy, match=r"multipath map mpatha .* is never taken apart"):
            volumes.plan(Storage(disks=(PLAIN,)), volumes.observe([disk]), take_apart=True)
        with pytest.raises(DeviceBusy, match="is never taken apart"):
            volumes.stop(volumes.observe([disk]))
        assert Path("/dev/mapper/mpatha").exists()
    finally:
        output("dmsetup", "remove", "--retry", "mpatha")


def test_one_disk_under_two_names_is_refused(pair: list[str]) -> None:
    (link,) = (path for path in Path("/dev/disk/by-id").iterdir() if path.resolve() == Path(pair[1]))
    with pytest.raises(LayoutInvalid, match="are the same disk"):
        volumes.observe([pair[1], str(link)])


def test_members_with_sectors_of_two_sizes_are_refused(pair: list[str], large_sectors: list[str]) -> None:
    disks = [pair[0], large_sectors[0]]
    with pytest.raises(LayoutInvalid, match="sectors of different size"):
        volumes.plan(group_on(2), volumes.observe(disks), existing=Existing.REPLACE)


@contextmanager
def used_elsewhere(node: str, how: str) -> Iterator[None]:
    """Have a volume used where /proc/self/mountinfo doesn't tell: mounted in another namespace, or open."""
    script = {
        "namespace": f"mount {node} /mnt && echo used && read forever",
        "open": f"exec 3<>{node}; echo used; read forever",
    }[how]
    argv = ["unshare", "--mount", "--propagation", "private", "bash", "-c", script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == b"used\n"
            yield
        finally:
            program.communicate(b"\n")


@pytest.mark.parametrize("how", ["namespace", "open"])
def test_what_somebody_uses_is_not_erased_before_that_is_known(pair: list[str], how: str) -> None:
    done = applied(group_on(2), pair)
    node = done.nodes["vg0/root"]
    plan = volumes.plan(Storage(disks=(PLAIN, PLAIN)), volumes.observe(pair), take_apart=True)
    with used_elsewhere(node, how):
        before = [oracles.blkid(each) for each in done.nodes.values()]
        with pytest.raises(DeviceBusy, match=r"logical volume vg0-root \(.*\) is in use") as busy:
            volumes.apply(plan)
        assert busy.value.disk is DiskState.UNCHANGED
        with pytest.raises(DeviceBusy):
            volumes.stop(volumes.observe(pair))
        assert [oracles.blkid(each) for each in done.nodes.values()] == before
    settle()
    volumes.apply(plan)


def test_an_array_that_a_program_has_open_is_not_erased_before_that_is_known(pair: list[str]) -> None:
    """It needn't have claimed it; the kernel would refuse to stop it, when what is on it is gone."""
    done = applied(mirrors(ArrayMetadata.AT_THE_START), pair)
    plan = volumes.plan(Storage(disks=(PLAIN, PLAIN)), volumes.observe(pair), take_apart=True)
    with used_elsewhere(done.nodes["system"], "open"):
        with pytest.raises(DeviceBusy, match=r"array md\d+ \(.*\) is open in bash \(pid \d+\)") as busy:
            volumes.apply(plan)
        assert busy.value.disk is DiskState.UNCHANGED
        assert oracles.blkid(done.nodes["system"])["LABEL"] == "system"
    settle()
    volumes.apply(plan)


@pytest.mark.parametrize("how", ["namespace", "open"])
def test_volumes_that_stay_as_they_are_are_not_given_to_be_filled_while_somebody_uses_them(
    pair: list[str], how: str
) -> None:
    done = applied(group_on_mirror(SEED), pair)
    plan = volumes.plan(group_on_mirror(SEED), volumes.observe(pair))
    assert plan.is_empty
    with (
        used_elsewhere(done.nodes["vg-m/root"], how),
        pytest.raises(DeviceBusy, match=r"logical volume vg--m-root \(.*\) is in use"),
        volumes.stage(plan),
    ):
        pass
    assert volumes.apply(plan).nodes == done.nodes


def test_what_is_built_upon_a_volume_that_stays_is_named(pair: list[str]) -> None:
    """Whoever fills the volume would write beneath it, though nobody has it open."""
    done = applied(group_on_mirror(SEED), pair)
    plan = volumes.plan(group_on_mirror(SEED), volumes.observe(pair))
    sectors = output("blockdev", "--getsz", done.nodes["vg-m/root"]).strip()
    output("dmsetup", "create", "theirs", "--table", f"0 {sectors} linear {done.nodes['vg-m/root']} 0")
    try:
        settle()
        with pytest.raises(DeviceBusy, match=r"device theirs \(.*\) runs on") as busy:
            volumes.apply(plan)
        assert busy.value.disk is DiskState.UNCHANGED
    finally:
        output("dmsetup", "remove", "--retry", "theirs")
    volumes.apply(plan)
    volumes.stop(volumes.observe(pair))
    with pytest.raises(PlanOutdated, match="mirror doesn't run any more, or is not whole; vg-m/root doesn't run"):
        volumes.apply(plan)


def test_a_name_is_given_to_one_of_two_groups_that_are_made_at_one_moment(
    pair: list[str], large_sectors: list[str]
) -> None:
    storages = [group_on(2), group_on_mirror(SEED)]
    storages[1] = replace(
        storages[1],
        arrays=(replace(storages[1].arrays[0], member_of="vg0"),),
        groups=(replace(storages[1].groups[0], name="vg0"),),
    )
    disks = (pair, large_sectors)
    plans = [volumes.plan(each, volumes.observe(on)) for each, on in zip(storages, disks, strict=True)]

    def attempt(plan: StoragePlan) -> DiskError | None:
        try:
            # Who comes second waits for the name, however slow the machine is.
            volumes.apply(plan, lock_timeout=600)
        except DiskError as error:
            return error
        return None

    with ThreadPoolExecutor() as threads:
        (refused,) = (error for error in threads.map(attempt, plans) if error)
    assert isinstance(refused, NameTaken)
    assert refused.disk is DiskState.UNCHANGED
    settle()
    assert [row["vg_name"] for row in oracles.lvm("vgs", "vg_name")] == ["vg0"]


def test_links_to_volumes_that_are_gone_keep_no_group_from_its_name(pair: list[str]) -> None:
    """As LVM leaves them where no udevd runs, when dmsetup removes a volume."""
    applied(group_on(2), pair)
    volumes.stop(volumes.observe(pair))
    settle()
    folder = Path("/dev/vg0")
    assert not folder.exists()
    folder.mkdir()
    (folder / "root").symlink_to("../dm-77")
    applied(group_on(2), pair)
    assert (folder / "root").is_block_device()


def test_a_group_that_lacks_a_member_is_not_robbed_of_the_other(pair: list[str]) -> None:
    ours, theirs = pair
    output("pvcreate", "-y", *pair)
    output("vgcreate", "torn", *pair)
    settle()
    output("wipefs", "--all", "--force", theirs)
    settle()
    try:
        with pytest.raises(DeviceBusy, match="volume group torn is also on a missing device"):
            volumes.plan(Storage(disks=(PLAIN,)), volumes.observe([ours]), take_apart=True)
    finally:
        output("wipefs", "--all", "--force", ours)


def test_an_array_that_is_made_where_another_was_shows_nothing_of_it(pair: list[str]) -> None:
    storage = group_on_mirror(SEED)
    applied(storage, pair)
    volumes.stop(volumes.observe(pair))
    blank_mirror = replace(storage, arrays=(ArraySpec(name="mirror"),), groups=())
    done = applied(blank_mirror, pair)
    assert output("wipefs", "--noheadings", done.nodes["mirror"]) == ""


@pytest.mark.parametrize("storage", [group_on(2), group_on_mirror(SEED)], ids=["partitions", "mirror"])
def test_the_machines_configuration_of_lvm_costs_no_extent(pair: list[str], storage: Storage) -> None:
    metadata = "pvmetadatasize = 16384\npvmetadatacopies = 2\nvgmetadatacopies = 1"
    devices = "data_alignment = 8\ndefault_data_alignment = 4\ndata_alignment_offset_detection = 1"
    with lvm_configured(f"metadata {{\n{metadata}\n}}\ndevices {{\n{devices}\n}}\n"):
        done = applied(storage, pair)
        (group,) = oracles.lvm("vgs", "vg_size,vg_free")
        assert (int(group["vg_size"]), int(group["vg_free"])) == (done.plan.groups[0].size, 0)
        assert {row["pe_start"] for row in oracles.lvm("pvs", "pe_start")} == {str(MIB)}
        assert {row["pv_mda_count"] for row in oracles.lvm("pvs", "pv_mda_count")} == {"1"}
        assert volumes.plan(storage, volumes.observe(pair)).is_empty


def test_a_mirror_on_disks_that_had_partitions_keeps_its_members(pair: list[str]) -> None:
    applied(Storage(disks=(PLAIN, PLAIN)), pair)
    done = applied(group_on_mirror(SEED), pair)
    members = {f"{disk}p1" if disk[-1].isdigit() else f"{disk}1" for disk in pair}
    assert members <= set(detail(done.nodes["mirror"]).values())


@pytest.mark.parametrize("name", ["shm", "mapper", "null"])
def test_a_group_has_no_name_that_dev_has(pair: list[str], name: str) -> None:
    plan = volumes.plan(group_on(2, name), volumes.observe(pair))
    with pytest.raises(LayoutInvalid, match=f"'{name}': /dev/{name} is something else") as refused:
        volumes.apply(plan)
    assert refused.value.disk is DiskState.UNCHANGED
    # So would LVM, behind the wipe.
    said = subprocess.run(["vgcreate", "--test", name, pair[0]], capture_output=True, text=True, check=False)
    assert (said.returncode != 0, "already exists in filesystem" in said.stderr) == (True, True)


def test_a_group_is_made_anew_in_its_own_place(pair: list[str]) -> None:
    applied(group_on(2), pair)
    again = volumes.plan(group_on(2), volumes.observe(pair), existing=Existing.REPLACE, take_apart=True)
    assert again.stops
    volumes.apply(again)


def test_arrays_made_at_one_moment_have_numbers_of_their_own(pair: list[str], large_sectors: list[str]) -> None:
    storage = replace(group_on_mirror(SEED), arrays=(ArraySpec(name="mirror"),), groups=(), seed=None)
    plans = [volumes.plan(storage, volumes.observe(disks)) for disks in (pair, large_sectors)]
    with ThreadPoolExecutor() as threads:
        done = list(threads.map(volumes.apply, plans))
    settle()
    assert {each.nodes["mirror"] for each in done} == {"/dev/md126", "/dev/md127"}
    assert detail(done[0].nodes["mirror"])["MD_UUID"] == plans[0].arrays[0].uuid
    assert detail(done[1].nodes["mirror"])["MD_UUID"] == plans[1].arrays[0].uuid


def test_disks_that_belong_together_are_finished_together(pair: list[str]) -> None:
    plan = volumes.plan(group_on(2), volumes.observe(pair))
    with volumes.stage(plan) as staged:
        staged.disks[0].commit()
    settle()
    assert nothing_runs(pair)
    assert not any(oracles.has_table(disk) for disk in pair)


def test_what_fails_after_the_commit_leaves_everything_as_it_is(pair: list[str]) -> None:
    storage = group_on(2)
    plan = volumes.plan(storage, volumes.observe(pair))

    class Unrelated(Exception):
        """The caller's own."""

    with pytest.raises(Unrelated), volumes.stage(plan) as staged:
        volumes.make_filesystems(staged)
        staged.commit()
        raise Unrelated
    settle()
    assert volumes.plan(storage, volumes.observe(pair)).is_empty
