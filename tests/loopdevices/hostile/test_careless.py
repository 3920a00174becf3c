"""What a careless library does is seen, by what the tests on hostile roots assert of any work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import hostile_roots
from tests.support.disks import attach
from tests.support.hostile_trace import Bench

pytestmark = pytest.mark.loopdevice

GRUB = "etc/default/grub"
SEEN = {
    "read_carelessly": ("boot/grub2/grub.cfg", "absolute link", "outside: openat("),
    "set_up_carelessly": ("etc", "absolute link", "outside: openat("),
    "read_by_name": (GRUB, "climbing link", "outside: openat("),
    "write_by_name": (GRUB, "chain of links", "outside: openat("),
    "list_by_name": ("boot/loader", "link through proc", "outside: openat("),
    "look_by_name": (GRUB, "absolute link", "looked behind a link: newfstatat("),
    "open_device": (GRUB, "a disk", "a device of an image: openat("),
    "run_by_name": ("srv", "odd names", 'usr/sbin/update-grub", ["'),
    "run_without_programs": ("srv", "odd names", 'usr/sbin/update-grub", ["'),
    "run_in_root": ("srv", "odd names", 'tried to start: execve("/bin/sh"'),
    "run_from_root": ("srv", "odd names", 'started: execve("./sh"'),
    "obey_settings": ("srv", "odd names", 'outside: execve("/usr/bin/touch"'),
    "read_all": (GRUB, "hole of a TiB", "read_all took "),
    "raise_untyped": ("srv", "odd names", "raise_untyped ended with ValueError"),
    "say_unprintable": ("srv", "odd names", "say_unprintable said "),
    "leave_descriptor": ("srv", "odd names", "leave_descriptor left descriptor"),
    "leave_file": ("srv", "odd names", "leave_file left file"),
    "leave_thread": ("srv", "odd names", "leave_thread left thread"),
    "leave_process": ("srv", "odd names", "leave_process left process"),
    "leave_mount": ("srv", "odd names", "leave_mount left mount"),
}


def made(tmp_path: Path, bench: Bench, place: str, hostility: str) -> Path:
    folder = hostile_roots.tree(tmp_path / "tree", bench.outside, (place,), hostility)
    return hostile_roots.image(tmp_path / "image", folder)


@pytest.fixture(scope="module")
def careless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Give a worker of its own, in which something may be left."""
    with Bench.made(tmp_path_factory.mktemp("careless")) as bench:
        yield bench


@pytest.mark.parametrize("work", SEEN)
def test_carelessness_is_seen(careless: Bench, tmp_path: Path, work: str) -> None:
    place, hostility, seen = SEEN[work]
    image = made(tmp_path, careless, place, hostility)
    with attach(image, 512) as disk, pytest.raises(AssertionError) as found:
        careless.work(disk.node, {work: {}})
    assert seen in str(found.value)


def test_who_waits_for_a_pipe_is_seen(careless: Bench, tmp_path: Path) -> None:
    """The last one here: it takes the worker with it."""
    image = made(tmp_path, careless, GRUB, "fifo")
    with attach(image, 512) as disk, pytest.raises(AssertionError, match="something in it blocks"):
        careless.worker.work(node=disk.node, works={"wait_for_a_writer": {}}, deadline=5)
