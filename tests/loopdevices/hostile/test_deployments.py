"""Hostile images deployed as a whole, under a tracer: the disk boots what it should, or nothing at all."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.units import MIB
from tests import conftest
from tests.support import configdrives, documents, hostile_roots, multiboot_partition, oracles
from tests.support.disks import attach
from tests.support.disks import mounted as mounted_by_mount
from tests.support.hostile_roots import HARD, HOSTILITIES, INITRD, KERNEL, SOFT, innermost
from tests.support.hostile_trace import Bench, secrets_on

pytestmark = pytest.mark.loopdevice


def hostile_image(hostile: Bench, tmp_path: Path, places: tuple[str, ...], hostility: str) -> Path:
    folder = hostile_roots.tree(tmp_path / "tree", hostile.outside, places, hostility)
    return hostile_roots.image(tmp_path / "image", folder)


def cases(config: pytest.Config) -> list[tuple[str, str]]:
    """Return places, all soft ones or a hard one, and hostilities."""
    if config.getoption("--all-hostile", default=False):
        return [(place, hostility) for place in ("all", *HARD) for hostility in HOSTILITIES]
    return [
        ("all", "absolute link"),
        ("all", "a disk"),
        ("boot/grub", "climbing link"),
        (INITRD, "fifo"),
        ("boot", "chain of links"),
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "place" in metafunc.fixturenames:
        metafunc.parametrize(("place", "hostility"), cases(metafunc.config))


def test_a_root_is_deployed_or_no_disk_is_left(
    hostile: Bench, bench: conftest.Bench, tmp_path: Path, place: str, hostility: str
) -> None:
    places = innermost(SOFT) if place == "all" else (place,)
    image = hostile_image(hostile, tmp_path, places, hostility)
    disk = bench.disk(200 * MIB, 512)
    asked = {"image": str(image), "firmware": "bios"}
    (answer,) = hostile.work(disk.node, {"deploy_partition": asked}).values()
    if answer["error"]:
        assert place != "all"
        assert (answer["error"], answer["state"]) in [("PathFailed", "unbootable"), ("BootImpossible", "unbootable")]
        assert answer["said"].endswith(f"{disk.node} was left so that it does not boot")
        assert not oracles.has_table(disk.node)
    else:
        assert answer["value"]["entries"]
        assert oracles.has_table(disk.node)
        oracles.check_filesystem("ext4", answer["value"]["nodes"][-1])
    assert not secrets_on(disk.file)


def test_one_hostile_image_among_several_keeps_none_from_booting(
    hostile: Bench, bench: conftest.Bench, tmp_path: Path
) -> None:
    """Hundreds of kernels, a link for each place, names to break a menu with, and the other system boots."""
    folder = hostile_roots.tree(tmp_path / "tree", hostile.outside, innermost(SOFT), "odd names")
    for number in range(300):
        (folder / f"boot/vmlinuz-9.{number}").write_bytes(b"kernel\n")
    evil = hostile_roots.image(tmp_path / "evil", folder)
    good = bench.disk(48 * MIB, 512)
    subprocess.run(["mkfs.ext4", "-q", good.node], check=True, capture_output=True)
    multiboot_partition.write(good.node, FileSystem.EXT4, multiboot_partition.image_files("1"))
    disk = bench.disk(700 * MIB, 512)
    images = {"good": good.file, "evil": evil}
    volumes = [{"type": "partition", "mount": "/", "images": [n], "size": "120", "name": f"root-{n}"} for n in images]
    document = {
        "images": documents.images(images),
        "partitions": [{"type": "disk", "id": {"type": "name", "value": disk.node}, "volumes": volumes}],
        "partitions_policy": "clean",
    }
    (answer,) = hostile.work(disk.node, {"deploy_several": {"document": document}}, looks_at_disks=True).values()
    assert answer["said"] == ""
    value = answer["value"]
    assert value["elements"] == ["good", "evil"]
    # Whose kernels, all 64 of them, GRUB would read for half a minute.
    assert value["verified"] == [f"evil: no file system with the UUID {hostile_roots.UUID} was found"]
    (again,) = hostile.work(value["multiboot"], {"switch": {"roots": [], "to": "evil"}}).values()
    assert again["value"]["problems"] == {}
    assert len(again["value"]["entries"]) == 1 + 64
    assert not secrets_on(disk.file)


@pytest.mark.parametrize(("linked", "hostility"), [("boot", "absolute link"), ("all", "climbing over a link")])
def test_a_hostile_archive_among_several_stays_on_its_own_volumes(
    hostile: Bench, bench: conftest.Bench, tmp_path: Path, linked: str, hostility: str
) -> None:
    """Its /boot is a volume, and in one archive a link: what is below it is nothing's, and nothing is left to boot."""
    places = innermost(SOFT) if linked == "all" else (linked,)
    folder = hostile_roots.tree(tmp_path / "tree", hostile.outside, places, hostility)
    evil = tmp_path / "evil.tar"
    subprocess.run(["tar", "-C", str(folder), "-cf", str(evil), "."], check=True, capture_output=True)
    good = bench.disk(48 * MIB, 512)
    subprocess.run(["mkfs.ext4", "-q", good.node], check=True, capture_output=True)
    multiboot_partition.write(good.node, FileSystem.EXT4, multiboot_partition.image_files("1"))
    disk = bench.disk(500 * MIB, 512)
    volume = {"type": "partition", "file_system": "ext4"}
    document = {
        "images": documents.images({"good": good.file, "evil": evil}),
        "partitions": [
            {
                "type": "disk",
                "id": {"type": "name", "value": disk.node},
                "volumes": [
                    {**volume, "mount": "/", "images": ["good"], "size": "80", "name": "root-good"},
                    {**volume, "mount": "/", "images": ["evil"], "size": "80", "name": "root-evil"},
                    {**volume, "mount": "/boot", "images": ["evil"], "size": "40"},
                ],
            }
        ],
        "partitions_policy": "clean",
    }
    (answer,) = hostile.work(disk.node, {"deploy_several": {"document": document}}, looks_at_disks=True).values()
    if linked == "boot":
        assert answer["said"].startswith("/ in the file system on ")
        assert "the archive has something else than a directory there" in answer["said"]
        assert (answer["error"], answer["state"]) == ("PathFailed", "unbootable")
        assert not oracles.has_table(disk.node)
    else:
        assert answer["value"]["elements"] == ["good", "evil"]
    assert not secrets_on(disk.file)


@pytest.mark.parametrize("hostility", HOSTILITIES)
def test_an_archive_is_unpacked_inside(hostile: Bench, tmp_path: Path, hostility: str) -> None:
    """What is in it is on the volume as it was: links lead outside and nobody followed them."""
    folder = hostile_roots.tree(tmp_path / "tree", hostile.outside, innermost(SOFT), hostility)
    if hostility in {"hole of a TiB", "claims GiB"}:
        subprocess.run(["find", str(folder), "-size", "+1G", "-name", "[!g]*", "-delete"], check=True)
    archive = tmp_path / "evil.tar"
    options = ["--sparse", "--exclude=*.sock"]
    subprocess.run(["tar", "-C", str(folder), *options, "-cf", str(archive), "."], check=True, capture_output=True)
    volume = tmp_path / "volume"
    volume.write_bytes(b"")
    with volume.open("r+b") as file:
        file.truncate(64 * MIB)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", str(volume)], check=True)
    with attach(volume, 512) as disk:
        (answer,) = hostile.work(disk.node, {"unpack": {"image": str(archive)}}).values()
        oracles.check_filesystem("ext4", disk.node)
        if hostility in {"hole of a TiB", "claims GiB"}:
            assert (answer["error"], answer["said"].partition(": ")[2]) == ("PathFailed", "No space left on device")
        else:
            assert answer["said"] == ""
    assert not secrets_on(volume)


TRAVERSALS: Mapping[str, list[tuple[str, bytes, str]]] = {
    "a link and what is below it": [("x", b"2", "{outside}"), ("x/boot/vmlinuz-2", b"0", "")],
    "links that climb": [("x", b"2", "../../../../../..{outside}"), ("x/new", b"0", "")],
    "a hard link to outside": [("x", b"1", "{outside}/etc/fstab"), ("x", b"0", "")],
    "a hard link to a link to outside": [("y", b"2", "{outside}/etc/fstab"), ("x", b"1", "y"), ("x", b"0", "")],
    "a directory over a link": [("x", b"2", "{outside}/etc"), ("x", b"5", "")],
    "a device that is then a file": [("x", b"4", "disk"), ("x", b"0", "")],
    "a fifo that is then a file": [("x", b"6", ""), ("x", b"0", "")],
    "out of the tree": [("../../../../../..{outside}/new", b"0", "")],
}


@pytest.mark.parametrize("traversal", TRAVERSALS)
def test_members_of_an_archive_lead_nowhere(hostile: Bench, tmp_path: Path, traversal: str) -> None:
    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as file:
        for name, kind, link in TRAVERSALS[traversal]:
            member = tarfile.TarInfo(name.format(outside=hostile.outside.folder))
            member.type, member.linkname = kind, link.format(outside=hostile.outside.folder)
            member.mode = 0o777
            if link == "disk":
                member.devmajor, member.devminor = os.major(hostile.outside.device), os.minor(hostile.outside.device)
            member.size = 4 if kind == b"0" else 0
            file.addfile(member, io.BytesIO(b"evil") if kind == b"0" else None)
    volume = tmp_path / "volume"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", str(volume), "16M"], check=True, capture_output=True)
    with attach(volume, 512) as disk:
        (answer,) = hostile.work(disk.node, {"unpack": {"image": str(archive)}}).values()
    assert answer["error"] in {"", "PathFailed"}


def esp(case: str) -> bytes:
    """Return an EFI system partition whose names and sizes were made to do harm."""
    tree: dict[str, bytes] = {
        "EFI/BOOT/BOOTX64.EFI": b"MZ",
        "EFI/own/BOOTX64.CSV": b"shim.efi,own",
        "EFI/own/shim.efi": b"MZ",
    }
    match case:
        case "two names in two cases":
            tree |= {"EFI/ZZZ/BOOTX64.CSV": b"a.efi,first", "EFI/ZZZ/a.efi": b"MZ"}
            return configdrives.fat(tree, size=8 * MIB).replace(b"ZZZ     ", b"OWN     ")
        case "names that lead out":
            tree |= {"EFI/own/BOOTX64.CSV": b"../../../etc/passwd,a\n/etc/passwd,b\nshim.efi,own\n"}
        case "a csv of four GiB":
            data = bytearray(configdrives.fat(tree, size=8 * MIB))
            at = data.index(b"BOOTX64 CSV")
            data[at + 28 : at + 32] = b"\xff" * 4
            return bytes(data)
        case "a directory in itself":
            data = bytearray(configdrives.fat(tree, size=8 * MIB))
            own, top = data.index(b"OWN     "), data.index(b"EFI     ")
            data[own + 26 : own + 28] = data[top + 26 : top + 28]
            return bytes(data)
        case _:
            tree |= {f"EFI/d{number}/BOOTX64.CSV": b"x.efi,x\n" * 2000 for number in range(100)}
    return configdrives.fat(tree, size=8 * MIB)


ESPS = (
    "two names in two cases",
    "names that lead out",
    "a csv of four GiB",
    "a directory in itself",
    "too much of all",
)


@pytest.mark.parametrize("case", ESPS)
def test_a_whole_disk_image_has_its_root_and_loaders_looked_for(
    hostile: Bench, bench: conftest.Bench, tmp_path: Path, case: str
) -> None:
    hostility = list(HOSTILITIES)[ESPS.index(case) * 3]
    places = ("etc/os-release", "usr/lib/os-release", "boot/grub", KERNEL)
    root = hostile_image(hostile, tmp_path, places, hostility)
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(96 * MIB)
    table = "label: gpt\nstart=1MiB,size=8MiB,type=U\nstart=9MiB,size=40MiB,type=L\nstart=49MiB,size=40MiB,type=L\n"
    subprocess.run(["sfdisk", "-q", str(image)], input=table, text=True, check=True)
    with image.open("r+b") as file:
        for at, data in ((1, esp(case)), (9, root.read_bytes()), (49, root.read_bytes())):
            file.seek(at * MIB)
            file.write(data)
    disk = bench.disk(128 * MIB, 512)
    (answer,) = hostile.work(disk.node, {"deploy_whole_disk": {"image": str(image)}}).values()
    assert answer["said"] == ""
    value = answer["value"]
    assert any("can't be told" in each for each in value["warnings"])
    # Of the two directories in one name the first counts: which that is, mcopy took from a directory of this machine.
    assert value["loaders"]["loaders"] in ([], ["EFI/own/shim.efi"], ["EFI/OWN/shim.efi"], ["EFI/OWN/a.efi"])
    oracles.check_gpt(disk.node)
    assert not secrets_on(disk.file)


def test_what_is_mounted_over_a_root_is_no_part_of_it(hostile: Bench, bench: conftest.Bench, tmp_path: Path) -> None:
    """The running system's own root, with other directories of the machine bound into it."""
    made = multiboot_partition.make(
        bench, {"one": multiboot_partition.image_files("1"), "two": multiboot_partition.image_files("2")}
    )
    where = tmp_path / "mounted"
    with mounted_by_mount(made.roots["two"], where):
        for place in ("boot", "etc"):
            subprocess.run(["mount", "--bind", str(hostile.outside.folder / place), str(where / place)], check=True)
        try:
            (answer,) = hostile.work(made.multiboot, {"switch": {"roots": list(made.nodes), "to": "two"}}).values()
        finally:
            for place in ("boot", "etc"):
                subprocess.run(["umount", str(where / place)], check=True)
    assert set(answer["value"]["problems"]) <= {"verify", "refresh"}
    assert len(answer["value"]["entries"]) == 2


RECORDS: Mapping[str, Any] = {
    "kernel with a NUL": lambda entry: entry | {"kernel": "/boot/vmlinuz-1\0x"},
    "kernel outside": lambda entry: entry | {"kernel": "{outside}/boot/vmlinuz-2"},
    "kernel that climbs": lambda entry: entry | {"kernel": "/../../../../../..{outside}/boot/vmlinuz-2"},
    "kernel that ends GRUB's name": lambda entry: entry | {"kernel": "/boot/vmlinuz-1)(host){outside}/boot/vmlinuz-2"},
    "kernel that is an option": lambda entry: entry | {"kernel": "--root=/"},
    "kernel that is no text": lambda entry: entry | {"kernel": "/boot/\ud800"},
}


@pytest.mark.parametrize("record", RECORDS)
def test_a_tenant_s_own_record_of_the_menu_leads_nowhere(hostile: Bench, bench: conftest.Bench, record: str) -> None:
    """Whoever runs as root in one of the systems can write what he likes onto the multiboot partition."""
    made = multiboot_partition.make(
        bench, {"one": multiboot_partition.image_files("1"), "two": multiboot_partition.image_files("2")}
    )
    with mounted(made.multiboot, FileSystem.EXT4, read_only=False) as descriptor:
        tree = RootDir(descriptor, tree="multiboot")
        for generation in ("a", "b"):
            path = f"/boot/grub/menu-{generation}.json"
            document = json.loads(tree.read_file(path, limit=MIB))
            changed = [RECORDS[record](entry) for entry in document["entries"]]
            text = json.dumps(document | {"entries": changed}).replace("{outside}", str(hostile.outside.folder))
            tree.write_file(path, text.encode())
    (answer,) = hostile.work(made.multiboot, {"switch": {"roots": list(made.nodes), "to": "two"}}).values()
    assert answer["error"] == ""


@pytest.mark.parametrize("hostility", HOSTILITIES)
def test_files_of_the_multiboot_partition_are_read_inside(
    hostile: Bench, bench: conftest.Bench, tmp_path: Path, hostility: str
) -> None:
    """All of them at once, on a partition that one of its systems has filled."""
    places = ("boot/grub/grubenv", "boot/grub/grub.cfg", "boot/grub/grub.cfg.image")
    image = hostile_image(hostile, tmp_path, places, hostility)
    with attach(image, 512) as disk:
        (answer,) = hostile.work(disk.node, {"switch": {"roots": [], "to": "two"}}).values()
    assert answer["error"] == ""
    assert all(each.startswith("MultibootDamaged") for each in answer["value"]["problems"].values())
