"""Disks of device mapper: partitions are made and removed as mappings, as kpartx and lsblk see them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from libironic_disk import deploy, partitioner, volumes
from libironic_disk.errors import DeviceBusy, NotABlockDevice
from libironic_disk.images import ImageType
from libironic_disk.machine.disks import lookup, sysfs
from libironic_disk.pure.disks.layout import FileSystem, Layout, PartitionSpec
from libironic_disk.pure.disks.planning import Existing, Plan
from libironic_disk.pure.disks.presets import ephemeral, root, swap
from libironic_disk.pure.disks.sizes import Remaining, mib
from libironic_disk.pure.roles import Role
from libironic_disk.pure.tables.model import TableKind
from libironic_disk.pure.volumes.storage import GroupSpec, Storage, VolumeSpec
from libironic_disk.request import DeployRequest
from libironic_disk.units import MIB
from tests.support import machinedisks, oracles
from tests.support.disks import mounted
from tests.support.oracles import output
from tests.support.udevd import settle

pytestmark = pytest.mark.inside

# What the disk beneath is, the map's name and its UUID.
KINDS = {"multipath-512": ("nvme-512", "mpatha", "mpath-3600a"), "bare-4096": ("virtio-4096", "a-disk.1", "")}
RULES = Path("/run/udev/rules.d")


@pytest.fixture(params=KINDS)
def disk(request: pytest.FixtureRequest) -> Iterator[str]:
    """A blank disk of device mapper's, with and without a UUID."""
    with mapped(request.param) as node:
        yield node


@pytest.fixture
def multipath() -> Iterator[str]:
    """A blank disk that looks like a multipath map."""
    with mapped("multipath-512") as node:
        yield node


def mapped(kind: str) -> AbstractContextManager[str]:
    return machinedisks.mapped(*KINDS[kind])


@pytest.fixture(params=[False, True], ids=["", "kpartx-rules"])
def rules(request: pytest.FixtureRequest) -> Iterator[None]:
    """Udevd without kpartx's rules and with them: then it makes and removes partitions as well."""
    if not request.param:
        yield
        return
    kpartx = Path(shutil.which("kpartx") or "")
    Path("/sbin/kpartx").symlink_to(kpartx)
    RULES.mkdir(exist_ok=True)
    for rule in kpartx.parents[1].glob("lib/udev/rules.d/*kpartx.rules"):
        shutil.copy(rule, RULES)
    assert list(RULES.iterdir())
    output("udevadm", "control", "--reload")
    try:
        yield
    finally:
        shutil.rmtree(RULES)
        Path("/sbin/kpartx").unlink()
        output("udevadm", "control", "--reload")


def layout(table: TableKind, first: int = 16) -> Layout:
    """Return a layout whose last partitions are logical ones in an MBR."""
    return Layout(
        table=table,
        partitions=(
            swap(mib(first)),
            ephemeral(mib(32), FileSystem.EXT4),
            PartitionSpec(role=Role.DATA, name="data", size=mib(64), filesystem=FileSystem.EXT4, label="data"),
            PartitionSpec(role=Role.DATA, name="more", size=mib(16), filesystem=FileSystem.EXT4),
            root(),
        ),
    )


def seen_by_kpartx(node: str) -> dict[int, tuple[int, int]]:
    """Return start and size in bytes of what kpartx would make; it shows an extended partition as two sectors."""
    found = re.findall(r"-part(\d+) : 0 (\d+) \S+ (\d+)", output("kpartx", "-l", "-p", "-part", node))
    return {int(number): (int(start) * 512, int(size) * 512) for number, size, start in found}


def seen_by_dmsetup(node: str) -> dict[int, tuple[int, int]]:
    """Return start and size in bytes of the linear mappings upon a disk, by the number in their UUIDs."""
    found = {}
    (here,) = output("dmsetup", "info", "-c", "--noheadings", "-o", "major,minor", node).split()
    for row in output("dmsetup", "info", "-c", "--noheadings", "-o", "uuid,name").split():
        uuid, name = row.rsplit(":", 1)
        number = re.match(r"part(\d+)-", uuid)
        table = re.fullmatch(rf"0 (\d+) linear {here} (\d+)\n", output("dmsetup", "table", name))
        if number and table:
            found[int(number[1])] = (int(table[2]) * 512, int(table[1]) * 512)
    return found


def lsblk_types(node: str) -> list[str]:
    """Return what lsblk takes what is built upon a disk for."""
    (row,) = json.loads(output("lsblk", "--json", "--output", "NAME,TYPE", node))["blockdevices"]
    return [child["type"] for child in row.get("children", [])]


def spans(plan: Plan) -> dict[int, tuple[int, int]]:
    return {part.number: (part.start, part.size) for part in plan.partitions}


def without_extended(found: Mapping[int, tuple[int, int]]) -> dict[int, tuple[int, int]]:
    return {number: span for number, span in found.items() if span[1] > 4096}


def found_by_us(node: str) -> dict[int, tuple[int, int]]:
    return {part.number: (part.start, part.size) for part in sysfs.partitions(sysfs.whole_disk(node))}


# Of disk, kpartx's rules and table, each pair.
EACH_PAIR = {
    ("multipath-512", False, TableKind.GPT),
    ("multipath-512", True, TableKind.MBR),
    ("bare-4096", True, TableKind.GPT),
    ("bare-4096", False, TableKind.MBR),
}


@pytest.mark.parametrize(
    ("disk", "rules", "table"),
    [
        pytest.param(*each, marks=() if each in EACH_PAIR else pytest.mark.full)
        for each in product(KINDS, (False, True), (TableKind.GPT, TableKind.MBR))
    ],
    ids=lambda value: {False: "", True: "kpartx-rules"}.get(value, value),
    indirect=("disk", "rules"),
)
def test_partitions_are_made_and_made_anew(disk: str, rules: None, table: TableKind, tmp_path: Path) -> None:
    for first in (16, 24, 16):
        plan = partitioner.plan(layout(table, first), partitioner.observe(disk))
        with partitioner.stage(plan) as staged:
            partitioner.make_filesystems(staged)
            with mounted(staged.nodes[2], tmp_path / "filled") as where:
                (where / "file").write_text("contents")
            settle()
            assert seen_by_dmsetup(disk) == spans(plan)
            staged.commit()
        settle()
        # Kpartx makes the extended one too.
        assert without_extended(seen_by_dmsetup(disk)) == spans(plan) == without_extended(found_by_us(disk))
        assert without_extended(seen_by_kpartx(disk)).keys() == spans(plan).keys()
        if table is TableKind.GPT:
            assert seen_by_kpartx(disk) == spans(plan)
            oracles.check_gpt(disk)
        assert lsblk_types(disk) == ["part"] * len(seen_by_dmsetup(disk))
        for part in plan.partitions:
            if part.filesystem:
                assert oracles.blkid(staged.nodes[part.number])["UUID"] == part.filesystem_uuid
        with mounted(staged.nodes[2], tmp_path / "filled", "-o", "ro") as where:
            assert (where / "file").read_text() == "contents"
        again = partitioner.plan(layout(table, first), partitioner.observe(disk))
        assert again.is_empty
        assert partitioner.apply(again).nodes == staged.nodes


@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_partitions_that_kpartx_made_are_found_and_replaced(disk: str, label: str) -> None:
    script = f"label: {label}\n,16M\n,32M\n" + (",\n" if label == "gpt" else ",,E\n,64M\n,\n")
    subprocess.run(["sfdisk", "--quiet", "--no-tell-kernel", disk], input=script, text=True, check=True)
    output("kpartx", "-a", "-p", "-part", disk)
    settle()
    facts = partitioner.observe(disk)
    assert facts.table is not None
    assert without_extended(found_by_us(disk)) == {p.number: (p.start, p.size) for p in facts.table.partitions}
    plan = partitioner.plan(layout(TableKind.GPT), facts, existing=Existing.REPLACE)
    partitioner.apply(plan)
    settle()
    assert seen_by_dmsetup(disk) == spans(plan)


def test_an_empty_plan_makes_the_partitions_that_nobody_made(disk: str) -> None:
    nodes = partitioner.apply(partitioner.plan(layout(TableKind.GPT), partitioner.observe(disk))).nodes
    output("kpartx", "-d", "-p", "-part", disk)
    settle()
    assert seen_by_dmsetup(disk) == {}
    plan = partitioner.plan(layout(TableKind.GPT), partitioner.observe(disk))
    assert plan.is_empty
    assert partitioner.apply(plan).nodes.keys() == nodes.keys()
    assert seen_by_dmsetup(disk) == spans(plan)


def test_a_failed_staging_leaves_no_partitions(multipath: str, rules: None) -> None:
    with partitioner.stage(partitioner.plan(layout(TableKind.GPT), partitioner.observe(multipath))):
        assert len(seen_by_dmsetup(multipath)) == 5
    settle()
    assert seen_by_dmsetup(multipath) == {}
    assert not oracles.has_table(multipath)


def test_a_partition_in_use_is_named_and_all_of_them_stay(multipath: str, tmp_path: Path) -> None:
    wanted = layout(TableKind.GPT)
    done = partitioner.apply(partitioner.plan(wanted, partitioner.observe(multipath)))
    settle()
    plan = partitioner.plan(wanted, partitioner.observe(multipath), existing=Existing.REPLACE)
    with mounted(done.nodes[2], tmp_path / "used"), pytest.raises(DeviceBusy) as busy:
        partitioner.apply(plan)
    assert busy.value.users == (f"{done.nodes[2]} is mounted on {tmp_path / 'used'}",)
    with Path(done.nodes[2]).open("rb"), pytest.raises(DeviceBusy, match="partition 2 is open"):
        partitioner.apply(plan)
    assert found_by_us(multipath) == spans(done.plan)
    assert partitioner.plan(wanted, partitioner.observe(multipath)).is_empty
    output("dmsetup", "create", "above", "--table", f"0 2048 linear {done.nodes[3]} 0")
    with pytest.raises(DeviceBusy, match=f"{done.nodes[3]} is held by dm-"):
        partitioner.apply(plan)
    output("dmsetup", "remove", "--retry", "above")
    partitioner.apply(plan)


def test_a_partition_is_no_disk(multipath: str) -> None:
    done = partitioner.apply(partitioner.plan(layout(TableKind.GPT), partitioner.observe(multipath)))
    settle()
    with pytest.raises(NotABlockDevice, match="is a partition of a mapped disk"):
        partitioner.observe(done.nodes[1])
    listed = {each.node for each in lookup.disks()}
    assert str(Path(multipath).resolve()) in listed
    assert listed.isdisjoint(done.nodes.values())
    assert partitioner.observe(multipath).identity.serial == "mpath-3600a"


def test_a_whole_disk_image_has_its_partitions(multipath: str, rules: None, tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(128 * MIB)
    subprocess.run(["sfdisk", "--quiet", image], input="label: gpt\n,16M\n,32M\n", text=True, check=True)
    for _ in range(2):
        request = DeployRequest(device=multipath, image=image, image_type=ImageType.WHOLE_DISK)
        result = deploy.deploy(request)
        settle()
        assert result.warnings == ()
        assert seen_by_dmsetup(multipath) == {1: (MIB, 16 * MIB), 2: (17 * MIB, 32 * MIB)}
        nodes = [str(Path(f"/dev/mapper/mpatha-part{number}").resolve()) for number in (1, 2)]
        assert [part.node for part in result.partitions] == nodes


def test_a_volume_group_on_mapped_disks(multipath: str) -> None:
    member = PartitionSpec(role=Role.LVM, name="pv", size=Remaining(), member_of="vg-map")
    group = GroupSpec(
        name="vg-map",
        volumes=(VolumeSpec(name="root", size=Remaining(), role=Role.ROOT, filesystem=FileSystem.EXT4),),
    )
    storage = Storage(disks=(Layout(table=TableKind.GPT, partitions=(member,)),), groups=(group,), seed=b"mapped")
    with mapped("bare-4096") as other:
        plain = Storage(disks=(replace(storage.disks[0], partitions=(root(),)),))
        for disk in (multipath, other):
            done = volumes.apply(volumes.plan(storage, volumes.observe([disk])))
            settle()
            assert oracles.blkid(done.nodes["vg-map/root"])["TYPE"] == "ext4"
            assert volumes.plan(storage, volumes.observe([disk])).is_empty
            with pytest.raises(DeviceBusy, match="logical volume vg--map-root"):
                volumes.plan(plain, volumes.observe([disk]))
            plan = volumes.plan(plain, volumes.observe([disk]), take_apart=True)
            assert [step.name for step in plan.stops] == ["vg--map-root"]
            volumes.apply(plan)
            settle()
            assert len(seen_by_dmsetup(disk)) == 1
