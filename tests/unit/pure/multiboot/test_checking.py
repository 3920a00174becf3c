"""Contradictions that only all of a description shows, each with its path, and none hidden behind another defect.

The numbers in parentheses are those of Bareon's weak points in research/bareon.md, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from libironic_disk.errors import DescriptionInvalid
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.disks.sizes import Remaining, mib
from libironic_disk.pure.multiboot import checking
from libironic_disk.pure.multiboot.arranging import arrange
from libironic_disk.pure.multiboot.description import Disk, DiskIdKind, Image, MultiImage, Volume
from libironic_disk.pure.multiboot.document import read
from libironic_disk.pure.roles import Firmware, Role
from tests.unit.pure.multiboot.documents import CENTOS, UBUNTU, of_the_specification, on_volumes, partition

Document = dict[str, Any]


def refused(document: object) -> tuple[str, ...]:
    with pytest.raises(DescriptionInvalid) as caught:
        read(document)  # type: ignore[arg-type]
    return caught.value.problems


def volumes(document: Document) -> list[Document]:
    listed: list[Document] = document["partitions"][0]["volumes"]
    return listed


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda d: d.update(disks=[]), "disks: 'partitions' is there as well"),
        (lambda d: d["partitions"][0].update(size="large"), "partitions[0].size: 'large' is no size"),
        (lambda d: d["partitions"][0]["id"].update(value=" "), "partitions[0].id.value: it is empty"),
        (lambda d: d["partitions"][0]["id"].update(value="v\0da"), "partitions[0].id.value: it is empty, or has a"),
        (
            lambda d: d["partitions"][0].update(id={"type": "scsi", "value": "0:0"}),
            "partitions[0].id.value: '0:0' is not",
        ),
        (lambda d: d["partitions"][0].update(id={"type": "size", "value": "0"}), "partitions[0].id.value: '0' is noth"),
        (lambda d: d["partitions"][0].update(type="raid"), "partitions[0].type: 'raid' where 'disk' or 'vg'"),
        (lambda d: d["images"][0].update(image_pull_url="http://["), "images[0].image_pull_url: 'http://[' is none"),
        (lambda d: d["images"][0].update(name=""), "images[0].name: it is empty"),
        (lambda d: d["images"][0].update(name="a\nb"), "images[0].name: it has a control character"),
        (lambda d: volumes(d)[0].update(type="lv"), "partitions[0].volumes[0].type: 'lv' is refused: a logical volume"),
        (lambda d: volumes(d)[0].update(name="multiboot"), "partitions[0].volumes[0].name: 'multiboot' is a partition"),
        (lambda d: volumes(d)[2].update(images=[]), "partitions[0].volumes[2].images: there is none"),
        (lambda d: volumes(d)[2].update(images=[UBUNTU] * 2), "partitions[0].volumes[2].images: 2 of them are"),
        (lambda d: volumes(d)[2].update(size="1"), "partitions[0].volumes[2]: partition 'usr-share-common': 1048576"),
        (lambda d: volumes(d)[0].update(file_system="swap"), "partitions[0].volumes[0].file_system: swap is mounted"),
        (lambda d: volumes(d)[2].update(size=10**30), "partitions[0].volumes[2].size: a very large number"),
        (lambda d: volumes(d)[2].update(size=10**5000), "partitions[0].volumes[2].size: a very large number"),
        (lambda d: volumes(d).append({"type": ["x"], "size": "1"}), "partitions[0].volumes[3].type: a list where"),
    ],
)
def test_what_contradicts_itself_is_refused(change: Callable[[Document], object], problem: str) -> None:
    document = of_the_specification()
    change(document)
    found = refused(document)
    assert any(each.startswith(problem) for each in found), found


def test_the_nodes_name_and_its_path_are_one_disk() -> None:
    document = of_the_specification()
    again = {
        "type": "disk",
        "id": {"type": "name", "value": "/dev/vda"},
        "volumes": [partition("none", CENTOS, size="9")],
    }
    document["partitions"].append(again)
    assert refused(document) == ("partitions: 2 of them are the disk 'name=vda'",)


def test_a_disk_that_gets_nothing_is_refused_but_for_the_first() -> None:
    document = on_volumes()
    document["partitions"][1]["volumes"] = []
    assert any(each.startswith("partitions[1].volumes: there is none") for each in refused(document))


def test_a_name_that_lvm_keeps_for_itself_is_refused() -> None:
    document = on_volumes()
    document["partitions"][2]["volumes"][3]["name"] = "snapshot1"
    assert refused(document) == ("partitions: group 'os': 'snapshot1' is no usable name for a volume",)


def test_a_group_without_a_name_is_told_once() -> None:
    document = on_volumes()
    del document["partitions"][2]["id"]
    assert refused(document) == ("partitions[2].id: a text is missing",)


def test_of_what_is_no_object_nothing_is_missing() -> None:
    assert refused("[]") == ("the document: a list where an object is wanted",)
    document = of_the_specification()
    document["images"][1] = "ubuntu"
    assert refused(document) == ("images[1]: 'ubuntu' where an object is wanted",)


def test_contradictions_are_told_beside_what_is_no_value_at_all() -> None:
    """(13) A text for a list, a typo in a name, and one mount point twice: Bareon told none of them."""
    document = of_the_specification()
    document["partitions_policy"] = 7
    volumes(document)[0]["size"] = "10G"
    volumes(document)[1]["images"] = ["centos 7.11"]
    volumes(document)[2]["mount"] = "usr"
    assert [each.split(": ")[0] for each in refused(document)] == [
        "partitions[0].volumes[0].size",
        "partitions_policy",
        "partitions[0].volumes[1].images",
        "partitions[0].volumes[2].mount",
    ]


def test_a_size_that_cannot_be_read_claims_nothing() -> None:
    document = of_the_specification()
    volumes(document)[0]["size"] = "10G"
    volumes(document)[2]["size"] = "remaining"
    (problem,) = refused(document)
    assert problem.startswith("partitions[0].volumes[0].size: ")


def test_volumes_behind_the_one_that_gets_the_rest_are_there_too() -> None:
    """(18) Bareon left them out without a word."""
    document = of_the_specification()
    volumes(document)[0]["size"] = "remaining"
    (layout,) = arrange(read(document), firmwares=frozenset({Firmware.UEFI})).storage.disks
    assert len(layout.partitions) == 5
    assert isinstance(layout.partitions[2].size, Remaining)


def test_an_image_without_a_root_is_refused() -> None:
    """(14, 21) Bareon took a 'utility' image without volumes, and then had no place for it."""
    document = of_the_specification()
    del volumes(document)[0]
    assert "images[1]: no volume of 'ubuntu 14.04' is its '/'" in refused(document)


def test_two_roots_that_were_one_mirror_are_refused() -> None:
    """(16) Bareon grouped RAID volumes by their mount point, and one of two systems was gone."""
    document = of_the_specification()
    for volume in volumes(document)[:2]:
        volume["type"] = "raid"
    assert [each.split(": ")[:2] for each in refused(document)] == [
        [f"partitions[0].volumes[{at}].type", "'raid' is refused"] for at in (0, 1)
    ]


def test_a_volume_of_the_type_boot_is_refused_with_a_reason() -> None:
    """(15) Together with the multiboot partition it was an AttributeError."""
    document = of_the_specification()
    volumes(document).insert(0, {"type": "boot", "size": "100"})
    assert refused(document)[0] == (
        "partitions[0].volumes[0].type: 'boot' is refused: what firmware and GRUB need is made by itself"
    )


def test_something_mounted_needs_a_file_system_and_a_root_does_not() -> None:
    """(19) Bareon made none and mounted it as XFS."""
    document = of_the_specification()
    for volume in volumes(document):
        del volume["file_system"]
    assert [each.split(": ")[0] for each in refused(document)] == ["partitions[0].volumes[2].file_system"]


def test_a_logical_volume_is_known_by_its_group_and_name() -> None:
    """(17) A volume's device was its bare name."""
    arranged = arrange(read(on_volumes()), firmwares=frozenset({Firmware.BIOS}))
    assert [placed.partition for placed in arranged.placed] == ["os/centos", "os/ubuntu", "os/swap", "os/srv"]


@pytest.mark.parametrize("disk", ["mmcblk0", "nvme0n1", "/dev/loop7"])
def test_a_disk_of_any_kind_is_taken_by_its_name(disk: str) -> None:
    """(20) Bareon had its own list of what disks are called."""
    document = of_the_specification()
    document["partitions"][0]["id"]["value"] = disk
    assert read(document).disks[0].id_value == disk


def test_one_image_under_two_names_is_allowed_and_said() -> None:
    document = of_the_specification()
    document["images"][1]["image_uuid"] = document["images"][0]["image_uuid"]
    assert any("have one image_uuid" in note for note in read(document).notes)


def test_without_a_policy_a_note_says_that_disks_are_made_anew() -> None:
    document = of_the_specification()
    assert any("no partitions_policy: clean" in note for note in read(document).notes)
    document["partitions_policy"] = "verify"
    assert not any("partitions_policy" in note for note in read(document).notes)


def test_keys_of_bareons_without_effect_are_said() -> None:
    document = of_the_specification()
    document["image_deploy_flags"] = {"rsync_flags": "-a"}
    volumes(document)[0]["disk_label"] = "x"
    notes = read(document).notes
    assert "the document: image_deploy_flags has no effect here" in notes
    assert "partitions[0].volumes[0]: disk_label has no effect here" in notes


def test_mount_points_with_white_space_and_in_any_script() -> None:
    document = of_the_specification()
    volumes(document)[2]["mount"] = "/srv/a b/данные"
    assert read(document).volumes()[2].mount == "/srv/a b/данные"


def test_the_older_name_of_the_list_and_lists_of_python_are_read() -> None:
    document = of_the_specification()
    document["disks"] = tuple(document.pop("partitions"))
    assert read(document) == read(of_the_specification())


def test_members_and_volumes_on_one_disk_have_different_names() -> None:
    document = on_volumes()
    document["partitions"][1]["volumes"].insert(0, partition("none", CENTOS, size="9") | {"name": "pv1"})
    arranged = arrange(read(document), firmwares=frozenset(Firmware))
    assert [part.name for part in arranged.storage.disks[1].partitions] == ["pv1", "pv2"]


def test_names_made_from_long_mount_points_stay_apart() -> None:
    document = of_the_specification()
    mounts = [f"/srv/a/very/long/name/of/a/folder/{number}" for number in range(12)]
    volumes(document)[2:] = [partition(mount, CENTOS, size="16") for mount in mounts]
    names = [volume.name for volume in read(document).volumes()]
    assert len(set(names)) == len(names) == 14


def test_a_description_that_was_never_a_document_is_checked_by_its_names() -> None:
    volume = Volume(name="root", size=mib(100), mount="/", images=("one",), filesystem=FileSystem.EXT4)
    disk = Disk(id_kind=DiskIdKind.NAME, id_value="vda", partitions=(volume,))
    images = (Image(name="one", pull_url="file:///one"), Image(name="two", pull_url="nowhere"))
    assert list(checking.problems(MultiImage(images=images, disks=(disk,), default="one"))) == [
        "image 'two'.image_pull_url: 'nowhere' is none; http, https and file URLs are read",
        "image 'two': no volume of 'two' is its '/'",
    ]


def test_every_identity_follows_from_the_seed() -> None:
    described = read(on_volumes())
    first, second = arrange(described, firmwares=frozenset(Firmware), seed=b"x").storage.disks
    assert first.seed != second.seed
    assert arrange(described, firmwares=frozenset(Firmware)).storage.seed is None
    assert [part.role for part in second.partitions] == [Role.LVM]
