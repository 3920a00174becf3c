"""Disks found by what they say of themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from libironic_disk.errors import DiskNotFound
from libironic_disk.machine.disks import lookup
from libironic_disk.pure.multiboot.description import DiskIdKind
from libironic_disk.units import MIB
from tests.conftest import Bench

pytestmark = pytest.mark.loopdevice

SIZE = 37 * MIB + 4096


def test_a_disk_by_its_name_a_link_and_its_size(bench: Bench) -> None:
    node = bench.disk(SIZE, 512).node
    assert lookup.find(DiskIdKind.NAME, node) == node
    assert lookup.find(DiskIdKind.NAME, node.removeprefix("/dev/")) == node
    assert lookup.find(DiskIdKind.SIZE, str(SIZE)) == node
    link = Path("/dev", f"libironic_disk-test-{os.getpid()}")
    link.symlink_to(node)
    try:
        assert lookup.find(DiskIdKind.PATH, link.name) == node
        assert lookup.find(DiskIdKind.PATH, str(link)) == node
    finally:
        link.unlink()


def test_two_disks_of_one_size_are_named(bench: Bench) -> None:
    nodes = sorted(bench.disk(SIZE, 512).node for _ in range(2))
    with pytest.raises(DiskNotFound, match="one is wanted") as caught:
        lookup.find(DiskIdKind.SIZE, str(SIZE))
    assert sorted(caught.value.matching) == nodes


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (DiskIdKind.NAME, "vdzz"),
        (DiskIdKind.NAME, ""),
        (DiskIdKind.PATH, "disk/by-id/none"),
        (DiskIdKind.PATH, ""),
        (DiskIdKind.SCSI, "9:9:9:9"),
        (DiskIdKind.SERIAL, ""),
        (DiskIdKind.SERIAL, "none"),
        (DiskIdKind.WWN, ""),
        (DiskIdKind.WWN, "0x1"),
        (DiskIdKind.SIZE, "1"),
    ],
)
def test_a_disk_that_is_not_there(bench: Bench, kind: DiskIdKind, value: str) -> None:
    node = bench.disk(SIZE, 512).node
    with pytest.raises(DiskNotFound) as caught:
        lookup.find(kind, value)
    assert caught.value.matching == ()
    assert node in caught.value.present
