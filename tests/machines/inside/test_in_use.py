"""A disk that something is built upon is refused, and whoever holds it is named."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from libironic_disk import partitioner
from libironic_disk.errors import DeviceBusy
from libironic_disk.pure.disks.layout import Layout
from libironic_disk.pure.disks.planning import Existing
from libironic_disk.pure.disks.presets import ephemeral, esp, root, swap
from libironic_disk.pure.disks.sizes import mib
from libironic_disk.pure.tables.model import TableKind
from tests.support.disks import mounted
from tests.support.udevd import settle

pytestmark = pytest.mark.inside

LAYOUT = Layout(table=TableKind.GPT, partitions=(esp(mib(64)), swap(mib(64)), ephemeral(mib(64)), root()))
ARRAY = "/dev/md127"


@pytest.fixture
def nodes(nvme: str) -> Mapping[int, str]:
    """The partitions of a disk: ESP, swap, ephemeral, root."""
    nodes = partitioner.apply(partitioner.plan(LAYOUT, partitioner.observe(nvme))).nodes
    settle()
    return nodes


@contextmanager
def linear(node: str, name: str) -> Iterator[str]:
    """Map the first MiB of a device; give the kernel's name of the mapping."""
    subprocess.run(["dmsetup", "create", name, "--table", f"0 2048 linear {node} 0"], check=True)
    try:
        yield Path(f"/dev/mapper/{name}").resolve().name
    finally:
        subprocess.run(["dmsetup", "remove", "--retry", name], check=True)


@contextmanager
def mirror(node: str) -> Iterator[str]:
    """Make half a mirror of a device; give the kernel's name of the array."""
    argv = ["mdadm", "--create", ARRAY, "--run", "--force", "--level=1", "--metadata=1.2", "--raid-devices=1", node]
    subprocess.run(argv, check=True, capture_output=True)
    try:
        settle()
        yield Path(ARRAY).name
        settle()
    finally:
        subprocess.run(["mdadm", "--stop", ARRAY], check=True, capture_output=True)
        subprocess.run(["mdadm", "--zero-superblock", node], check=True)


def assert_refused(disk: str, *users: str) -> None:
    """Assert that the disk can't be made anew, by whom, and that nothing of its table or superblocks changed."""
    before = partitioner.observe(disk)
    plan = partitioner.plan(LAYOUT, before, existing=Existing.REPLACE)
    with pytest.raises(DeviceBusy) as busy:
        partitioner.apply(plan)
    assert busy.value.users == users
    assert partitioner.observe(disk) == before


def test_a_mounted_esp_is_named(nvme: str, nodes: Mapping[int, str], tmp_path: Path) -> None:
    with mounted(nodes[1], tmp_path / "efi"):
        assert_refused(nvme, f"{nodes[1]} is mounted on {tmp_path / 'efi'}")


def test_a_mapping_is_named(nvme: str, nodes: Mapping[int, str]) -> None:
    with linear(nodes[3], "onpartition") as name:
        assert_refused(nvme, f"{nodes[3]} is held by {name}")


def test_an_array_is_named(nvme: str, nodes: Mapping[int, str]) -> None:
    with mirror(nodes[4]) as name:
        assert_refused(nvme, f"{nodes[4]} is held by {name}")


def test_every_user_is_named_at_once(nvme: str, nodes: Mapping[int, str], tmp_path: Path) -> None:
    subprocess.run(["swapon", nodes[2]], check=True)
    try:
        with mounted(nodes[1], tmp_path / "efi"), linear(nodes[3], "one") as one, mirror(nodes[4]) as array:
            users = (
                f"{nodes[1]} is mounted on {tmp_path / 'efi'}",
                f"{nodes[2]} is swapped on",
                f"{nodes[3]} is held by {one}",
                f"{nodes[4]} is held by {array}",
            )
            assert_refused(nvme, *users)
    finally:
        subprocess.run(["swapoff", nodes[2]], check=True)


def test_a_mapping_of_the_whole_disk_is_named(nvme: str) -> None:
    with linear(nvme, "onthedisk") as name:
        assert_refused(nvme, f"{nvme} is held by {name}")


def test_once_nobody_holds_it_the_disk_is_free(nvme: str, nodes: Mapping[int, str]) -> None:
    with linear(nodes[3], "gone"), mirror(nodes[4]):
        pass
    plan = partitioner.plan(LAYOUT, partitioner.observe(nvme), existing=Existing.REPLACE)
    assert sorted(partitioner.apply(plan).nodes) == [1, 2, 3, 4]
