"""Mirrors of which a disk fails while they are made: there is a whole mirror in the end, or an error and nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from libironic_disk import volumes
from libironic_disk.errors import DiskError, DiskState
from libironic_disk.events import Phase
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support import faultydisks, oracles
from tests.support.faultydisk_walks import when_begun
from tests.support.faultydisks import Fault, FaultyDisk, Place
from tests.support.machinedisks import NOTHING_STARTS_BY_ITSELF, blank, lvm_configured
from tests.support.storages import group_on_mirror
from tests.support.udevd import settle

pytestmark = pytest.mark.inside

FULL = pytest.mark.full
SIZE = 200 * MIB
SOUND = "virtio-512"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A disk that fails and one that doesn't."""

    faulty: FaultyDisk
    sound: str

    @property
    def nodes(self) -> list[str]:
        return [self.faulty.node, self.sound]


@pytest.fixture
def pair(bench: Bench) -> Iterator[Pair]:
    with lvm_configured(NOTHING_STARTS_BY_ITSELF), faultydisks.faulty(bench, SIZE) as faulty:
        pair = Pair(faulty=faulty, sound=blank(SOUND))
        yield pair
        faulty.mend()
        settle()
        volumes.stop(volumes.observe(pair.nodes))
        blank(SOUND)


PHASES = [(Phase.PARTITION, "array"), (Phase.PARTITION, "group"), (Phase.FORMAT, ""), (Phase.COMMIT, "")]


def bad_place(disk: FaultyDisk) -> None:
    """Break what the volume has: before that are a MiB each of the disk, the member and the group."""
    disk.break_at([Place(start=3 * MIB, end=SIZE // 2, fault=Fault.DEAD)])


@pytest.mark.parametrize(
    ("fails", "phase", "detail"),
    [
        *(pytest.param(FaultyDisk.kill, *each, id=f"all-{each[0]}-{each[1]}", marks=FULL) for each in PHASES),
        pytest.param(bad_place, *PHASES[0], id="a-place-array", marks=FULL),
        pytest.param(bad_place, *PHASES[1], id="a-place-group"),
        # Behind the last look at the array it is the running system's.
        pytest.param(bad_place, *PHASES[2], id="a-place-format", marks=FULL),
    ],
)
def test_a_mirror_that_lost_a_member_is_no_success(
    pair: Pair, fails: Callable[[FaultyDisk], None], phase: Phase, detail: str
) -> None:
    storage = group_on_mirror()
    plan = volumes.plan(storage, volumes.observe(pair.nodes))
    with pytest.raises(DiskError) as failed:
        volumes.apply(plan, sink=when_begun(phase, lambda: fails(pair.faulty), detail=detail))
    assert failed.value.disk in {DiskState.UNBOOTABLE, DiskState.UNKNOWN}
    assert "vg--m-root" not in oracles.output("dmsetup", "ls")
    pair.faulty.mend()
    assert not any(oracles.has_table(node) for node in pair.nodes)
    # Of a disk that couldn't be made blank udevd may have found the member, and begun an array with it.
    done = volumes.apply(volumes.plan(storage, volumes.observe(pair.nodes), take_apart=True))
    settle()
    assert "[2/2] [UU]" in Path("/proc/mdstat").read_text()
    assert oracles.blkid(done.nodes["vg-m/root"])["TYPE"] == "ext4"
