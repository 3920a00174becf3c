"""The power goes at any write, of a deployment or of a switch: the disk boots nothing, the old choice or the new one.

The states of the disk after each write that reached it are made again. Those of a switch are read by GRUB's own file
system code, which reads no journal.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from libironic_disk import multiboot, switching
from libironic_disk.events import Cancellation, ignore
from libironic_disk.pure.boot.multimenu import CONFIG
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.disks.sizes import mib
from libironic_disk.pure.multiboot.description import Disk, DiskIdKind, Image, MultiImage, Volume
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support import dm_log, faultydisk_works, faultydisks, multiboot_partition, oracles
from tests.support.machinedisks import NOTHING_STARTS_BY_ITSELF, lvm_configured
from tests.support.multiboot_partition import Partitions, image_files

pytestmark = pytest.mark.inside


@pytest.fixture
def two(bench: Bench) -> Partitions:
    return multiboot_partition.make(bench, {"a": image_files("1"), "b": image_files("1")}, size=24 * MIB)


class GrubView:
    """A disk as GRUB reads it."""

    def __init__(self, image: Path) -> None:
        self._image = image

    def read(self, path: str) -> bytes:
        return oracles.grub_cat(self._image, path)

    def choice(self) -> tuple[str, bytes]:
        """What GRUB boots next, and the menu that it shows."""
        state, menu = multiboot_partition.as_grub_finds(self._image)
        return state.boots_next, menu


def moments(before: bytes, log: str, image: Path) -> Iterator[GrubView]:
    """Yield the disk after each write that changed it."""
    image.write_bytes(before)
    yield GrubView(image)
    with image.open("r+b") as file:
        for write in dm_log.writes(log):
            file.seek(write.offset)
            changes = file.read(len(write.content)) != write.content
            file.seek(write.offset)
            file.write(write.content)
            file.flush()
            if changes:
                yield GrubView(image)


def recorded(
    bench: Bench, tmp_path: Path, partitions: Partitions, change: Callable[[str], object]
) -> Iterator[GrubView]:
    before = Path(partitions.multiboot).read_bytes()
    log = bench.disk(64 * MIB, 512).node
    with dm_log.logged(partitions.multiboot, log) as node:
        change(node)
    after = Path(partitions.multiboot).read_bytes()
    yield from moments(before, log, tmp_path / "disk")
    assert (tmp_path / "disk").read_bytes() == after


@pytest.mark.parametrize(
    "change",
    [
        lambda node: switching.set_default(node, "b"),
        lambda node: switching.boot_once(node, "b"),
        lambda node: switching.try_boot(node, "b"),
    ],
    ids=["set_default", "boot_once", "try_boot"],
)
def test_a_switch_is_the_old_one_or_the_new_one(
    bench: Bench, tmp_path: Path, two: Partitions, change: Callable[[str], object]
) -> None:
    old, new = (entry.id for entry in switching.list_entries(two.multiboot))
    seen = [view.choice() for view in recorded(bench, tmp_path, two, change)]
    chosen = [entry for entry, _ in seen]
    assert chosen[0] == old
    assert chosen[-1] == new
    assert chosen == sorted(chosen, key=[old, new].index)
    assert len({menu for _, menu in seen}) == 1


def test_a_refresh_shows_the_old_menu_or_the_new_one(bench: Bench, tmp_path: Path, two: Partitions) -> None:
    multiboot_partition.write(two.roots["b"], FileSystem.EXT4, image_files("2"))
    views = recorded(bench, tmp_path, two, lambda node: switching.refresh(node, two.nodes))
    seen = []
    for view in views:
        seen.append(view.choice())
        assert b"load_env" in view.read(CONFIG)
    assert len({entry for entry, _ in seen}) == 1
    menus = list(dict.fromkeys(menu for _, menu in seen))
    assert len(menus) == 2
    assert b"vmlinuz-2" not in menus[0]
    assert b"vmlinuz-2" in menus[1]
    assert [menu for _, menu in seen] == sorted((menu for _, menu in seen), key=menus.index)


SIZE = 220 * MIB


def description(images: list[Path]) -> MultiImage:
    """Two systems on one small disk."""
    volumes = tuple(
        Volume(name=f"root-{path.stem}", size=mib(16), mount="/", images=(path.stem,), filesystem=FileSystem.EXT4)
        for path in images
    )
    return MultiImage(
        images=tuple(Image(name=path.stem, pull_url=f"file://{path}") for path in images),
        disks=(Disk(id_kind=DiskIdKind.NAME, id_value="vda", partitions=volumes),),
        default=images[0].stem,
    )


def small_image(bench: Bench, path: Path) -> Path:
    disk = bench.disk(8 * MIB, 512)
    subprocess.run(["mkfs.ext4", "-q", "-b", "4096", disk.node], check=True, capture_output=True)
    multiboot_partition.write(disk.node, FileSystem.EXT4, image_files("1", name=path.stem))
    path.write_bytes(disk.file.read_bytes())
    return path


def test_a_deployment_boots_nothing_before_all_of_it_is_there(bench: Bench, tmp_path: Path) -> None:
    """A table, a boot sector or a backup of the table is on the disk only when all between them is as it stays."""
    images = [small_image(bench, tmp_path / name) for name in ("one", "two")]
    disk, log = bench.disk(SIZE, 512), bench.disk(400 * MIB, 512)
    with dm_log.logged(disk.node, log.node) as node:
        request = multiboot.MultibootRequest(description=description(images), devices=(node,), os_prober=False)
        multiboot.apply(multiboot.plan(request))
        subprocess.run(["kpartx", "-d", node], check=False, capture_output=True)
    assert_boots_nothing_before(disk.file.read_bytes(), log.node)


def test_a_deployment_onto_a_volume_boots_nothing_before_all_of_it_is_there(bench: Bench, tmp_path: Path) -> None:
    size = faultydisk_works.SEVERAL_SIZE
    work = faultydisk_works.on_volumes(tmp_path)
    log = bench.disk(4 * size, 512)
    with lvm_configured(NOTHING_STARTS_BY_ITSELF), faultydisks.faulty(bench, size) as disk:
        with disk.logged(log):
            work.call(disk.node, ignore, Cancellation())
        final = disk.sound.file.read_bytes()
    assert_boots_nothing_before(final, log.node)


def assert_boots_nothing_before(final: bytes, log: str) -> None:
    """Assert of a disk that was blank: where anything starts it, all between its heads is there already."""
    state = bytearray(len(final))
    boots = 0
    for write in dm_log.writes(log):
        state[write.offset : write.offset + len(write.content)] = write.content
        if any(state[:440]) or state[510:512] == b"\x55\xaa" or b"EFI PART" in (state[512:520], state[-512:-504]):
            boots += 1
            assert state[MIB:-MIB] == final[MIB:-MIB]
    assert boots > 0
    assert state == final
