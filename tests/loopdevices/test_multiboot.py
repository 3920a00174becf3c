"""Several images deployed onto a loop disk: their roots, their fstabs, and what is refused or given up."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from libironic_disk import multiboot, switching
from libironic_disk.errors import (
    BootImpossible,
    Cancelled,
    ChecksumMismatch,
    DescriptionInvalid,
    DiskNotFound,
    DiskState,
    ImageRefused,
    ImageTooLarge,
    PreservationRefused,
    SourceFailed,
    SwitchRefused,
)
from libironic_disk.events import Cancellation, Event, Phase, PhaseStarted
from libironic_disk.machine.boot import osprober
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.multiboot import MultibootRequest
from libironic_disk.pure.boot import fstab
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.request import FirmwareEntry
from libironic_disk.units import KIB, MIB
from tests.conftest import Bench
from tests.support import documents, multiboot_partition, oracles
from tests.support.disks import LoopDisk
from tests.support.multiboot_partition import image_files

pytestmark = pytest.mark.loopdevice

DISK_SIZE = 700 * MIB


def image(
    bench: Bench, files: Mapping[str, bytes], *, filesystem: FileSystem = FileSystem.EXT4, size: int = 48
) -> Path:
    """Return the file of a disk that holds such a file system."""
    disk = bench.disk(size * MIB, 512)
    subprocess.run([f"mkfs.{filesystem}", "-q", disk.node], check=True, capture_output=True)
    multiboot_partition.write(disk.node, filesystem, files)
    return disk.file


def document(node: str, images: Mapping[str, Path], **more: object) -> dict[str, Any]:
    """Return a description with a root for each image, and a volume that all of them share."""
    volumes: list[dict[str, Any]] = [
        {"type": "partition", "mount": "/", "images": [name], "size": "120", "name": f"root-{name}"} for name in images
    ]
    shared = {"type": "partition", "mount": "/srv/my data", "images": list(images), "size": "16", "file_system": "ext4"}
    swap = {"type": "partition", "mount": "swap", "images": list(images), "size": "8"}
    return {
        "images": documents.images(images),
        "partitions": [{"type": "disk", "id": {"type": "name", "value": node}, "volumes": [*volumes, shared, swap]}],
        "partitions_policy": "clean",
        "deploy_data": {"kernel_params": "console=ttyS0"},
        **more,
    }


def request(disk: LoopDisk, images: Mapping[str, Path], **more: object) -> MultibootRequest:
    return MultibootRequest(description=multiboot.read(document(disk.node, images, **more)), menu_timeout=1)


def fstab_of(node: str, filesystem: FileSystem = FileSystem.EXT4, options: tuple[str, ...] = ()) -> str:
    with mounted(node, filesystem, options=options) as descriptor:
        return RootDir(descriptor, tree=node).read_file("/etc/fstab", limit=64 * KIB).decode()


def test_each_image_gets_its_own_lines_and_the_shared_volume(bench: Bench, tmp_path: Path) -> None:
    own = b"# theirs\nLABEL=gone / ext4 defaults 0 1\ntmpfs /tmp tmpfs defaults 0 0\n"
    first = image(bench, image_files("1") | {"/etc/fstab": own})
    second = image(bench, image_files("2"))
    disk = bench.disk(DISK_SIZE, 512)
    result = multiboot.apply(multiboot.plan(request(disk, {"one": first, "two": second})))
    assert result.dropped == ("one: LABEL=gone / ext4 defaults 0 1",)
    nodes = result.nodes
    uuids = {key: oracles.blkid(node)["UUID"] for key, node in nodes.items()}
    text = fstab_of(nodes["disk 1 root-one"])
    assert text.endswith("# theirs\ntmpfs /tmp tmpfs defaults 0 0\n")
    for name in ("one", "two"):
        every = fstab.parse(fstab_of(nodes[f"disk 1 root-{name}"]))
        lines = [line for line in every if isinstance(line, fstab.Line)]
        assert [(line.spec.removeprefix("UUID="), line.mount, line.passno) for line in lines[:3]] == [
            (uuids[f"disk 1 root-{name}"], "/", 1),
            (uuids["disk 1 srv-my-data"], "/srv/my data", 2),
            (uuids["disk 1 swap"], "none", 0),
        ]
        with mounted(nodes[f"disk 1 root-{name}"], FileSystem.EXT4) as descriptor:
            assert RootDir(descriptor, tree=name).exists("/srv/my data")
    table = tmp_path / "fstab"
    table.write_text(text)
    verified = subprocess.run(["findmnt", "--verify", "--tab-file", str(table)], capture_output=True, text=True)
    # Of the directories it looks for those of this machine, which isn't the one to boot.
    errors = [line for line in verified.stdout.splitlines() if "[E]" in line]
    assert all("unreachable on boot required target" in line for line in errors)
    assert "0 parse errors" in verified.stderr


def test_the_same_image_twice_is_two_systems(bench: Bench) -> None:
    """Bareon changed the UUID of ext file systems alone, and boot-info named one system (research/bareon.md, 4.8)."""
    files = image_files("1")
    path = image(bench, files)
    uuid = oracles.blkid(str(path))["UUID"]
    multiboot_partition_fstab = f"UUID={uuid} / ext4 defaults 0 1\n"
    menu = f"menuentry 'x' {{\n search --set=root {uuid}\n linux /boot/vmlinuz-1 root=UUID={uuid} ro own.word\n}}\n"
    again = bench.attach(path, 512)
    more = {"/etc/fstab": multiboot_partition_fstab.encode(), "/boot/grub/grub.cfg": menu.encode()}
    multiboot_partition.write(again.node, FileSystem.EXT4, more)
    disk = bench.disk(DISK_SIZE, 512)
    result = multiboot.apply(multiboot.plan(request(disk, {"one": path, "two": path})))
    first, second = result.info.elements
    assert first.root_uuid == uuid
    assert second.root_uuid != uuid
    node = result.nodes["disk 1 root-two"]
    assert oracles.blkid(node)["UUID"] == second.root_uuid
    oracles.check_filesystem("ext4", node)
    assert f"root=UUID={second.root_uuid}" in second.parameters
    assert "own.word" in second.parameters
    with mounted(node, FileSystem.EXT4) as descriptor:
        text = RootDir(descriptor, tree=node).read_file("/boot/grub/grub.cfg", limit=MIB).decode()
    assert uuid not in text
    assert text.count(second.root_uuid) == 2
    roots = [result.nodes["disk 1 root-one"], node]
    assert switching.verify(result.multiboot, roots) == ()


def test_a_copy_on_another_disk_of_the_machine_is_told_apart(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of last month's deployment is still there, and GRUB may see it first."""
    path = image(bench, image_files("1"))
    bench.attach(path, 512)
    uuid = oracles.blkid(str(path))["UUID"]
    monkeypatch.setattr("libironic_disk.machine.disks.sysfs.is_lent", lambda path: False)
    wanted = request(bench.disk(DISK_SIZE, 512), {"one": path})
    result = multiboot.apply(multiboot.plan(replace(wanted, firmware_entry=FirmwareEntry.NEVER)))
    (element,) = result.info.elements
    assert element.root_uuid != uuid
    assert oracles.blkid(result.nodes["disk 1 root-one"])["UUID"] == element.root_uuid


def test_a_root_in_a_btrfs_subvolume(bench: Bench) -> None:
    """os-prober misses such a system (research/bareon.md, 4)."""
    disk = bench.disk(120 * MIB, 512)
    subprocess.run(["mkfs.btrfs", "-q", disk.node], check=True, capture_output=True)
    with mounted(disk.node, FileSystem.BTRFS, read_only=False) as descriptor:
        subprocess.run(
            ["btrfs", "subvolume", "create", f"/proc/self/fd/{descriptor}/@"],
            check=True,
            capture_output=True,
            pass_fds=(descriptor,),
        )
    files = image_files("1") | {"/etc/fstab": b"LABEL=x / btrfs subvol=@ 0 0\n"}
    multiboot_partition.write(disk.node, FileSystem.BTRFS, {f"/@{path}": data for path, data in files.items()})
    target = bench.disk(DISK_SIZE, 512)
    result = multiboot.apply(multiboot.plan(request(target, {"one": disk.file})))
    (element,) = result.info.elements
    assert element.kernel == "/@/boot/vmlinuz-1"
    assert "rootflags=subvol=@" in element.parameters
    node = result.nodes["disk 1 root-one"]
    assert "subvol=@" in fstab_of(node, FileSystem.BTRFS, ("subvol=/@",)).splitlines()[0]
    assert switching.verify(result.multiboot, [node]) == ()


def test_an_image_without_a_kernel_is_deployed_and_has_no_entry(bench: Bench) -> None:
    disk = bench.disk(DISK_SIZE, 512)
    images = {"one": image(bench, image_files("1")), "tools": image(bench, {"/bin/tool": b"x"})}
    result = multiboot.apply(multiboot.plan(request(disk, images)))
    assert result.left_out == ("tools: there is no kernel in its /boot",)
    assert [element.os_id for element in result.info.elements] == ["one"]
    assert oracles.blkid(result.nodes["disk 1 root-tools"])["TYPE"] == "ext4"


def test_the_other_disks_of_the_machine_stay_as_they_are(bench: Bench) -> None:
    """Bareon removed every volume group of the machine (research/bareon.md, 4.29)."""
    other = bench.disk(320 * MIB, 512)
    subprocess.run(["mkfs.ext4", "-q", "-L", "foreign", other.node], check=True, capture_output=True)
    multiboot_partition.write(other.node, FileSystem.EXT4, image_files("9", name="Foreign"))
    before = hashlib.sha256(other.file.read_bytes()).hexdigest()
    disk = bench.disk(DISK_SIZE, 512)
    result = multiboot.apply(multiboot.plan(request(disk, {"one": image(bench, image_files("1"))})))
    assert hashlib.sha256(other.file.read_bytes()).hexdigest() == before
    assert [element.os_id for element in result.info.elements] == ["one"]


def test_where_os_prober_could_not_look_nothing_is_said_of_what_it_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(osprober, "_USED", ())
    disk = bench.disk(DISK_SIZE, 512)
    result = multiboot.apply(multiboot.plan(request(disk, {"one": image(bench, image_files("1"))})))
    assert result.warnings == ("os-prober isn't installed: its opinion is missing",)


def no_table(disk: LoopDisk) -> bool:
    return subprocess.run(["sfdisk", "--json", disk.node], capture_output=True).returncode != 0


def test_a_default_without_a_kernel_leaves_no_disk(bench: Bench) -> None:
    """GRUB would boot whatever is first (research/bareon.md, 4.7)."""
    disk = bench.disk(DISK_SIZE, 512)
    images = {"tools": image(bench, {"/bin/tool": b"x"}), "one": image(bench, image_files("1"))}
    with pytest.raises(BootImpossible, match="tools is to boot, and there is no kernel in its /boot") as caught:
        multiboot.apply(multiboot.plan(request(disk, images)))
    assert caught.value.disk is DiskState.UNBOOTABLE
    assert no_table(disk)


@pytest.mark.parametrize("at", [Phase.FORMAT, Phase.IMAGE, Phase.BOOT_LOADER])
def test_a_cancelled_deployment_leaves_no_disk(bench: Bench, at: Phase) -> None:
    disk = bench.disk(DISK_SIZE, 512)
    wanted = multiboot.plan(request(disk, {"one": image(bench, image_files("1"))}))
    cancel = Cancellation()

    def sink(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase is at:
            cancel.cancel()

    with pytest.raises(Cancelled) as caught:
        multiboot.apply(wanted, sink=sink, cancel=cancel)
    assert caught.value.disk is DiskState.UNBOOTABLE
    assert no_table(disk)


def unchanged(disk: LoopDisk) -> bool:
    """Whether nothing was ever written to a disk: its file is one hole."""
    return disk.digest() == hashlib.sha256().hexdigest()


def test_what_cannot_be_is_refused_before_the_first_write(bench: Bench, tmp_path: Path) -> None:
    disk = bench.disk(DISK_SIZE, 512)
    good = image(bench, image_files("1"))
    whole = tmp_path / "whole"
    whole.write_bytes(bytes(8 * MIB))
    subprocess.run(["sfdisk", "-q", str(whole)], input="label: gpt\n,,L\n", text=True, check=True)
    large = image(bench, image_files("1"), size=130)
    for images, kind in (
        ({"one": good, "two": tmp_path / "none"}, SourceFailed),
        ({"one": good, "two": whole}, ImageRefused),
        ({"one": good, "two": large}, ImageTooLarge),
    ):
        with pytest.raises(kind) as caught:
            multiboot.plan(request(disk, images))
        assert caught.value.disk is DiskState.UNCHANGED
    assert unchanged(disk)


def verified(disk: LoopDisk, images: Mapping[str, Path], **again: bool) -> MultibootRequest:
    """Ask for a disk that is as described already; what ``again`` names is made anew."""
    asked = document(disk.node, images, partitions_policy="verify")
    for volume in asked["partitions"][0]["volumes"]:
        volume["keep_data"] = not again.get(volume.get("name", "").removeprefix("root-") or volume["mount"], False)
    return MultibootRequest(description=multiboot.read(asked), menu_timeout=1)


def test_a_disk_that_is_as_described_stays_so(bench: Bench) -> None:
    """An fstab that was edited by hand survives (research/bareon.md, 3)."""
    disk = bench.disk(DISK_SIZE, 512)
    images = {"one": image(bench, image_files("1")), "two": image(bench, image_files("2"))}
    first = multiboot.apply(multiboot.plan(request(disk, images)))
    multiboot_partition.write(first.nodes["disk 1 root-one"], FileSystem.EXT4, {"/etc/fstab": b"edited\n"})
    switching.set_default(first.multiboot, "two")
    again = multiboot.apply(multiboot.plan(verified(disk, {"one": Path("/none"), "two": Path("/none")})))
    assert fstab_of(again.nodes["disk 1 root-one"]) == "edited\n"
    assert [each.root_uuid for each in again.info.elements] == [each.root_uuid for each in first.info.elements]
    assert again.info.current_element == 1
    assert switching.get_state(again.multiboot).boots_next == first.info.elements[1].entry_id


def test_one_system_is_written_anew_beside_the_others(bench: Bench) -> None:
    disk = bench.disk(DISK_SIZE, 512)
    images = {"one": image(bench, image_files("1")), "two": image(bench, image_files("2"))}
    first = multiboot.apply(multiboot.plan(request(disk, images)))
    root = Path(first.nodes["disk 1 root-one"])
    before = hashlib.sha256(root.read_bytes()).hexdigest()
    newer = image(bench, image_files("3"))
    wanted = multiboot.plan(verified(disk, {"one": Path("/none"), "two": newer}, two=True))
    assert "root-one keeps the image one" in str(wanted)
    result = multiboot.apply(wanted)
    assert hashlib.sha256(root.read_bytes()).hexdigest() == before
    assert [each.kernel for each in result.info.elements] == ["/boot/vmlinuz-1", "/boot/vmlinuz-3"]
    assert result.info.elements[1].entry_id == first.info.elements[1].entry_id
    nodes = [result.nodes["disk 1 root-one"], result.nodes["disk 1 root-two"]]
    assert switching.verify(result.multiboot, nodes) == ()
    assert "/srv/my\\040data" in fstab_of(nodes[1])


def test_a_system_that_boots_is_never_written_anew(bench: Bench) -> None:
    disk = bench.disk(DISK_SIZE, 512)
    images = {"one": image(bench, image_files("1")), "two": image(bench, image_files("2"))}
    first = multiboot.apply(multiboot.plan(request(disk, images)))
    switching.try_boot(first.multiboot, "two")
    before = [hashlib.sha256(Path(node).read_bytes()).hexdigest() for node in first.nodes.values()]
    for name in ("one", "two"):
        with pytest.raises(SwitchRefused, match=f"writing {name}-.* anew") as caught:
            multiboot.apply(multiboot.plan(verified(disk, images, **{name: True})))
        assert caught.value.disk is DiskState.UNCHANGED
    assert [hashlib.sha256(Path(node).read_bytes()).hexdigest() for node in first.nodes.values()] == before


def test_a_system_half_written_is_in_no_menu(bench: Bench) -> None:
    disk = bench.disk(DISK_SIZE, 512)
    images = {"one": image(bench, image_files("1")), "two": image(bench, image_files("2"))}
    first = multiboot.apply(multiboot.plan(request(disk, images)))
    wanted = multiboot.plan(verified(disk, images, two=True))
    cancel = Cancellation()

    def sink(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase is Phase.IMAGE:
            cancel.cancel()

    with pytest.raises(Cancelled) as caught:
        multiboot.apply(wanted, sink=sink, cancel=cancel)
    assert caught.value.disk is DiskState.INCOMPLETE
    assert [entry.image for entry in switching.list_entries(first.multiboot)] == ["one"]
    assert switching.verify(first.multiboot, [first.nodes["disk 1 root-one"]])[0].startswith("two: no file system")
    multiboot.apply(wanted)
    assert [entry.image for entry in switching.list_entries(first.multiboot)] == ["one", "two"]


def test_a_volume_that_keeps_nothing_is_empty_again(bench: Bench) -> None:
    disk = bench.disk(DISK_SIZE, 512)
    images = {"one": image(bench, image_files("1"))}
    first = multiboot.apply(multiboot.plan(request(disk, images)))
    (node,) = (node for key, node in first.nodes.items() if "srv" in key)
    multiboot_partition.write(node, FileSystem.EXT4, {"/old": b"x"})
    uuid = oracles.blkid(node)["UUID"]
    multiboot.apply(multiboot.plan(verified(disk, images, **{"/srv/my data": True})))
    assert oracles.blkid(node)["UUID"] == uuid
    with mounted(node, FileSystem.EXT4) as descriptor:
        assert not RootDir(descriptor, tree=node).exists("/old")


def test_a_disk_that_is_not_as_described_is_refused(bench: Bench) -> None:
    disk = bench.disk(DISK_SIZE, 512)
    images = {"one": image(bench, image_files("1"))}
    with pytest.raises(PreservationRefused, match="the disk has no partition table"):
        multiboot.plan(verified(disk, images))
    multiboot.apply(multiboot.plan(request(disk, images)))
    with pytest.raises(PreservationRefused, match="is not there"):
        multiboot.plan(verified(disk, {**images, "two": images["one"]}))


def test_a_boot_volume_would_hide_the_kernels_of_a_file_system(bench: Bench) -> None:
    disk = bench.disk(DISK_SIZE, 512)
    asked = document(disk.node, {"one": image(bench, image_files("1"))})
    asked["partitions"][0]["volumes"][1] |= {"mount": "/boot"}
    with pytest.raises(DescriptionInvalid, match="it would hide the kernels"):
        multiboot.plan(MultibootRequest(description=multiboot.read(asked)))
    assert unchanged(disk)


def test_an_image_that_is_another_one_leaves_no_disk(bench: Bench) -> None:
    disk = bench.disk(DISK_SIZE, 512)
    path = image(bench, image_files("1"))
    asked = document(disk.node, {"one": path})
    asked["images"][0]["image_checksum"] = "sha256:" + "0" * 64
    with pytest.raises(ChecksumMismatch) as caught:
        multiboot.apply(multiboot.plan(MultibootRequest(description=multiboot.read(asked))))
    assert caught.value.disk is DiskState.UNBOOTABLE
    assert no_table(disk)
    asked["images"][0]["image_checksum"] = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert multiboot.apply(multiboot.plan(MultibootRequest(description=multiboot.read(asked)))).info.elements


def test_a_disk_that_is_not_there_is_refused(bench: Bench) -> None:
    described = document("/dev/vdzz", {"one": image(bench, image_files("1"))})
    with pytest.raises(DiskNotFound, match="name /dev/vdzz"):
        multiboot.plan(MultibootRequest(description=multiboot.read(described)))


def test_a_kernel_that_grub_cannot_read_leaves_no_disk(bench: Bench) -> None:
    source = bench.disk(48 * MIB, 512)
    subprocess.run(["mkfs.ext4", "-q", "-O", "inline_data", "-I", "256", source.node], check=True, capture_output=True)
    multiboot_partition.write(source.node, FileSystem.EXT4, image_files("1"))
    disk = bench.disk(DISK_SIZE, 512)
    with pytest.raises(BootImpossible, match="GRUB") as caught:
        multiboot.apply(multiboot.plan(request(disk, {"one": source.file})))
    assert caught.value.disk is DiskState.UNBOOTABLE
    assert no_table(disk)


def test_an_image_with_too_much_on_its_command_line_boots_without(bench: Bench) -> None:
    menu = "menuentry 'x' {\n linux /boot/vmlinuz-1 " + "x" * 3000 + "\n}\n"
    files = image_files("1") | {"/boot/grub/grub.cfg": menu.encode(), "/boot/vmlinux-1": b"the same"}
    disk = bench.disk(DISK_SIZE, 512)
    result = multiboot.apply(multiboot.plan(request(disk, {"one": image(bench, files)})))
    (element,) = result.info.elements
    assert element.kernel == "/boot/vmlinuz-1"
    assert element.parameters.endswith("multiboot.entry=" + element.entry_id + " console=ttyS0")


def test_the_files_of_an_image_keep_their_owners_and_labels(bench: Bench) -> None:
    source = bench.attach(image(bench, image_files("1") | {"/etc/fstab": b"# own\n"}), 512)
    with mounted(source.node, FileSystem.EXT4, read_only=False) as descriptor:
        path = Path(f"/proc/self/fd/{descriptor}/etc/fstab")
        path.chmod(0o640)
        os.chown(path, 12, 34)
        os.setxattr(path, "security.selinux", b"system_u:object_r:etc_t:s0\0")
    disk = bench.disk(DISK_SIZE, 512)
    result = multiboot.apply(multiboot.plan(request(disk, {"one": source.file})))
    with mounted(result.nodes["disk 1 root-one"], FileSystem.EXT4) as descriptor:
        path = Path(f"/proc/self/fd/{descriptor}/etc/fstab")
        found = path.stat()
        assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o640, 12, 34)
        assert os.getxattr(path, "security.selinux") == b"system_u:object_r:etc_t:s0\0"
        assert "UUID=" in path.read_text()


def test_a_hostile_menu_says_nothing_to_our_grub(bench: Bench) -> None:
    r"""Parameters that would be commands of GRUB's stay words of the kernel's, or are left out (4.9)."""
    menu = 'menuentry \'x\' {\n linux /boot/vmlinuz-1 ok=1 "a\'b" "$evil" "c;reboot" \'}\' ${x}\n}\n'
    path = image(bench, image_files("1") | {"/boot/grub/grub.cfg": menu.encode()})
    disk = bench.disk(DISK_SIZE, 512)
    result = multiboot.apply(multiboot.plan(request(disk, {"one": path})))
    with mounted(result.multiboot, FileSystem.EXT4) as descriptor:
        text = RootDir(descriptor, tree="x").read_file("/boot/grub/menu-a.cfg", limit=MIB).decode()
    subprocess.run(["grub-script-check"], input=text, text=True, check=True)
    (line,) = (line for line in text.splitlines() if line.startswith("  linux "))
    assert "'ok=1'" in line
    assert "evil" not in line
    assert "'c;reboot'" in line
