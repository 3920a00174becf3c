"""File systems on block devices, as blkid and each one's own checker see them."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

import pytest

from libironic_disk import filesystems
from libironic_disk.errors import Cancelled, DeviceFailed, NotABlockDevice, ProgramFailed
from libironic_disk.events import Cancellation
from libironic_disk.filesystems import Probed
from libironic_disk.machine.disks import claims
from libironic_disk.pure.disks import ids
from libironic_disk.pure.disks.layout import LABEL_BYTES, SMALLEST, FileSystem
from libironic_disk.units import KIB, MIB
from tests.conftest import Bench
from tests.support import oracles
from tests.support.disks import LoopDisk

pytestmark = pytest.mark.loopdevice

EVERY_FILE_SYSTEM = pytest.mark.parametrize("filesystem", list(FileSystem))
ROOM = 310 * MIB
LABELS = ["", "a", "with space", "größe 日本", "a'b\"c", "back\\slash", "$HOME `id`", "%s%n", "x=y:z;#!", "é" * 7]
FAT_LABELS = ["", "a", "WITH SPACE", "~!@#$%^&()-", "a'b`{}_", "efi-part"]


def new_uuid(filesystem: FileSystem) -> str:
    fresh = uuid.uuid4()
    return ids.fat_volume_id(fresh) if filesystem is FileSystem.VFAT else str(fresh)


def seen_by_blkid(node: str) -> Probed:
    """What blkid says, one value at a time: in its other formats it escapes labels."""
    kind, label, found = (
        oracles.output("blkid", "--probe", "--match-tag", tag, "--output", "value", node, ok=(0, 2)).removesuffix("\n")
        for tag in ("TYPE", "LABEL", "UUID")
    )
    return Probed(kind=kind, label=label, uuid=found)


@EVERY_FILE_SYSTEM
def test_what_is_made_has_the_label_and_uuid_that_blkid_reads(
    bench: Bench, sector_size: int, filesystem: FileSystem
) -> None:
    node = bench.disk(ROOM, sector_size).node
    room = LABEL_BYTES[filesystem]
    labels = FAT_LABELS if filesystem is FileSystem.VFAT else [label for label in LABELS if len(label.encode()) <= room]
    for label in (*labels, "x" * room):
        wanted = Probed(kind=filesystem, label=label, uuid=new_uuid(filesystem))
        filesystems.make(filesystem, node, label=label, uuid=wanted.uuid)
        assert seen_by_blkid(node) == filesystems.probe(node) == filesystems.read(node) == wanted
    oracles.check_filesystem(filesystem, node)


@EVERY_FILE_SYSTEM
def test_the_smallest_size_that_a_layout_may_have_is_large_enough(
    bench: Bench, sector_size: int, filesystem: FileSystem
) -> None:
    least = SMALLEST[filesystem]
    node = bench.disk(least, sector_size).node
    filesystems.make(filesystem, node, label="", uuid=new_uuid(filesystem))
    oracles.check_filesystem(filesystem, node)
    if filesystem in {FileSystem.EXT3, FileSystem.EXT4}:
        assert "has_journal" in oracles.output("dumpe2fs", "-h", node)


@pytest.mark.parametrize("filesystem", [FileSystem.BTRFS, FileSystem.XFS])
def test_with_less_the_program_itself_refuses(bench: Bench, filesystem: FileSystem) -> None:
    node = bench.disk(SMALLEST[filesystem] - 64 * KIB, 512).node
    with pytest.raises(ProgramFailed):
        filesystems.make(filesystem, node, label="", uuid=new_uuid(filesystem))


@pytest.mark.parametrize("filesystem", [FileSystem.EXT3, FileSystem.EXT4])
def test_with_less_there_is_no_journal_on_large_sectors(bench: Bench, filesystem: FileSystem) -> None:
    node = bench.disk(SMALLEST[filesystem] - 4096, 4096).node
    subprocess.run(["mke2fs", "-q", "-F", "-t", filesystem, node], check=True, capture_output=True)
    assert "has_journal" not in oracles.output("dumpe2fs", "-h", node)


def test_any_file_system_takes_the_place_of_any_other(bench: Bench) -> None:
    node = bench.disk(ROOM, 512).node
    for before in FileSystem:
        for after in FileSystem:
            for filesystem in (before, after):
                wanted = Probed(kind=filesystem, uuid=new_uuid(filesystem))
                filesystems.make(filesystem, node, label="", uuid=wanted.uuid)
                assert filesystems.read(node) == wanted


def test_there_is_nothing_on_a_blank_device(bench: Bench, sector_size: int) -> None:
    node = bench.disk(16 * MIB, sector_size).node
    assert filesystems.probe(node) is None
    assert filesystems.read(node) is None


def test_a_partition_table_is_no_file_system(bench: Bench) -> None:
    disk = bench.disk(16 * MIB, 512)
    subprocess.run(["sfdisk", "--quiet", disk.node], input="label: gpt\n,,\n", text=True, check=True)
    assert filesystems.probe(disk.node) is None


def ambivalent(bench: Bench) -> LoopDisk:
    """A device that is two things at once: an ext4 with the superblock of a btrfs, which lies elsewhere."""
    disk = bench.disk(ROOM, 512)
    subprocess.run(["mkfs.btrfs", "-q", disk.node], check=True)
    with Path(disk.node).open("rb") as node:
        node.seek(64 * KIB)
        superblock = node.read(4096)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", disk.node], check=True)
    with Path(disk.node).open("r+b") as node:
        node.seek(64 * KIB)
        node.write(superblock)
    return disk


def test_a_device_that_is_two_things_at_once_is_neither(bench: Bench) -> None:
    node = ambivalent(bench).node
    assert subprocess.run(["blkid", "--probe", node], capture_output=True, check=False).returncode == 8
    with pytest.raises(DeviceFailed) as failed:
        filesystems.probe(node)
    assert failed.value.reason == "it is ext4, btrfs at the same time; wipe it first"


def test_a_partition_is_probed_by_itself(bench: Bench) -> None:
    disk = bench.disk(64 * MIB, 512)
    table = "label: gpt\nsize=20MiB\nsize=20MiB\n"
    argv = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk.node]
    subprocess.run(argv, input=table, text=True, check=True)
    subprocess.run(["partx", "--update", disk.node], check=True)
    wanted = Probed(kind="ext4", label="second", uuid=new_uuid(FileSystem.EXT4))
    filesystems.make(FileSystem.EXT4, f"{disk.node}p2", label=wanted.label, uuid=wanted.uuid)
    assert filesystems.probe(f"{disk.node}p1") is None
    assert filesystems.probe(f"{disk.node}p2") == seen_by_blkid(f"{disk.node}p2") == wanted
    assert filesystems.probe(disk.node) is None


def test_what_udevd_left_behind_is_not_asked(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Without the daemon's control socket its database may be from another boot stage, or of another disk of that name.
    monkeypatch.setattr(claims, "_UDEV_CONTROL", tmp_path / "control")
    monkeypatch.setattr("pyudev.Devices.from_device_number", lambda *arguments: pytest.fail("udev was asked"))
    node = bench.disk(16 * MIB, 512).node
    wanted = Probed(kind="vfat", label="A B", uuid="12AB-34CD")
    filesystems.make(FileSystem.VFAT, node, label=wanted.label, uuid=wanted.uuid)
    assert filesystems.probe(node) == wanted


def test_a_label_that_udev_would_escape_is_the_same_after_unescaping(bench: Bench) -> None:
    node = bench.disk(16 * MIB, 512).node
    for label in [label for label in LABELS if label and len(label.encode()) <= 16]:
        filesystems.make(FileSystem.EXT4, node, label=label, uuid=new_uuid(FileSystem.EXT4))
        # blkid's udev builtin and this format write the same.
        lines = oracles.output("blkid", "--probe", "--output", "udev", node).splitlines()
        (escaped,) = [line.split("=", 1)[1] for line in lines if line.startswith("ID_FS_LABEL_ENC=")]
        assert filesystems._unescaped(escaped) == label


def test_what_is_no_block_device_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", Path("/dev/null")):
        with pytest.raises(NotABlockDevice):
            filesystems.probe(str(path))


def test_a_read_only_device_keeps_what_it_has(bench: Bench) -> None:
    disk = bench.attach(bench.blank_file(16 * MIB), 512, read_only=True)
    before = disk.digest()
    for filesystem in (FileSystem.EXT4, FileSystem.VFAT, FileSystem.SWAP):
        with pytest.raises((ProgramFailed, DeviceFailed)):
            filesystems.make(filesystem, disk.node, label="", uuid=new_uuid(filesystem))
    assert disk.digest() == before


def test_a_wish_to_stop_stops_the_making(bench: Bench) -> None:
    # Without lazy initialisation on so many gigabytes it takes long enough to be stopped.
    node = bench.disk(8 * 1024 * 1024 * MIB, 512).node
    switch = Cancellation()
    switch.cancel()
    with pytest.raises(Cancelled):
        filesystems.make(FileSystem.EXT3, node, label="", uuid=new_uuid(FileSystem.EXT3), cancel=switch)
