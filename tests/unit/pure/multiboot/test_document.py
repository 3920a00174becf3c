"""The document of the multi-image specification: read as it stands, and refused with every defect at once.

The numbers in parentheses are those of Bareon's weak points in research/bareon.md, section 4.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from libironic_disk.errors import DescriptionInvalid
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.disks.sizes import Exact, Percent, Remaining, mib
from libironic_disk.pure.multiboot.description import DiskIdKind, Member, PartitionsPolicy
from libironic_disk.pure.multiboot.document import read
from tests.unit.pure.multiboot import documents
from tests.unit.pure.multiboot.documents import CENTOS, UBUNTU, of_the_specification, on_volumes, partition

Document = dict[str, Any]


def first_disk(document: Document) -> Document:
    disk: Document = document["partitions"][0]
    return disk


def test_the_example_of_the_specification() -> None:
    described = read(json.dumps(of_the_specification()))
    assert [image.name for image in described.images] == [CENTOS, UBUNTU]
    assert described.default == CENTOS
    assert described.policy is PartitionsPolicy.CLEAN
    (disk,) = described.disks
    assert (disk.id_kind, disk.id_value) == (DiskIdKind.NAME, "vda")
    assert [volume.mount for volume in described.volumes_of(UBUNTU)] == ["/", "/usr/share/common"]
    assert [volume.size for volume in described.volumes()] == [mib(4000), mib(5000), mib(5000)]
    assert {volume.filesystem for volume in described.volumes()} == {FileSystem.EXT4}
    assert len({volume.name for volume in described.volumes()}) == 3


def test_groups_and_their_members() -> None:
    described = read(on_volumes())
    assert [type(each) for disk in described.disks for each in disk.partitions] == [Member, Member]
    (group,) = described.groups
    assert [volume.size for volume in group.volumes] == [
        Percent(share=40),
        Percent(share=40),
        Exact(size=512 * 1024 * 1024),
        Remaining(),
    ]
    assert group.volumes[2].filesystem is FileSystem.SWAP


def test_a_volume_without_images_belongs_to_the_first() -> None:
    document = of_the_specification()
    del first_disk(document)["volumes"][1]["images"]
    described = read(document)
    assert described.volumes_of(CENTOS)[0].mount == "/"
    assert any("belong to 'centos 7.1'" in note for note in described.notes)


def test_without_an_image_that_boots_the_first_does() -> None:
    """(6)"""
    document = of_the_specification()
    document["images"][0]["boot"] = False
    described = read(document)
    assert described.default == CENTOS
    assert any("the first one, does" in note for note in described.notes)


def test_keys_that_nobody_knows_are_said_and_nothing_more() -> None:
    document = of_the_specification()
    document["images"][0]["colour"] = "blue"
    assert "images[0]: nothing here knows 'colour'" in read(document).notes


def test_what_fstab_gets_is_read() -> None:
    document = of_the_specification()
    first_disk(document)["volumes"][2] |= {"fstab_options": "noatime", "fstab_enabled": False, "keep_data": False}
    volume = read(document).volumes()[2]
    assert (volume.fstab_options, volume.fstab_enabled, volume.keep_data) == ("noatime", False, False)


def test_names_in_any_script_and_with_quotes() -> None:
    document = of_the_specification()
    odd = "Ubuntu 14.04 'наш' \"x\" $(y)"
    document["images"][1]["name"] = odd
    for each in first_disk(document)["volumes"]:
        each["images"] = [odd if name == UBUNTU else name for name in each["images"]]
    assert read(document).images[1].name == odd


def test_names_that_contain_each_other_are_two() -> None:
    """(12) "centos" and "centos7" were both written onto the first one's root."""
    document = of_the_specification()
    document["images"][1]["name"] = "centos"
    document["images"][0]["name"] = "centos7"
    first_disk(document)["volumes"] = [partition("/", "centos", size="1000"), partition("/", "centos7", size="2000")]
    described = read(document)
    assert [volume.size for volume in described.volumes_of("centos")] == [mib(1000)]
    assert [volume.size for volume in described.volumes_of("centos7")] == [mib(2000)]


def _images(document: Document, at: int, **fields: object) -> None:
    document["images"][at] |= fields


def _volume(document: Document, at: int, **fields: object) -> None:
    first_disk(document)["volumes"][at] |= fields


def _volumes(document: Document, **fields: object) -> None:
    for each in first_disk(document)["volumes"]:
        each |= fields


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda d: d.pop("images"), "images: a list is missing"),
        (lambda d: d.update(images=[]), "images: there is none"),
        (lambda d: d.pop("partitions"), "partitions: a list is missing"),
        (lambda d: d.update(partitions=[]), "partitions: there is no disk"),
        (
            lambda d: d.update(partitions_policy="nailgun_legacy"),
            "partitions_policy: 'nailgun_legacy' is refused: it decides",
        ),
        (lambda d: d.update(deploy_data={"kernel_params": 'a"b'}), "deploy_data.kernel_params: kernel parameter"),
        (lambda d: d.update(deploy_data={"kernel_params": "a\nb"}), "has a control character"),
        (lambda d: _images(d, 0, name=UBUNTU), "images: 2 of them have the name 'ubuntu 14.04'"),
        (lambda d: _images(d, 1, boot=True), "are all to boot by default, and one can"),
        (lambda d: _images(d, 1, boot="yes"), "images[1].boot: 'yes' where true or false"),
        (lambda d: _images(d, 0, image_name="a\nb"), "images[0].image_name: it has a control character"),
        (lambda d: _images(d, 0, image_pull_url="ftp://x"), "http, https and file URLs are read"),
        (lambda d: d["images"][0].pop("image_pull_url"), "images[0].image_pull_url: a text is missing"),
        (lambda d: _images(d, 0, target="/opt"), "written to '/'"),
        (lambda d: _volume(d, 0, images=CENTOS), "partitions[0].volumes[0].images: 'centos 7.1' where a list"),
        (
            lambda d: _volume(d, 0, images=["ubuntu 14.4"]),
            "partitions[0].volumes[0].images: there is no image 'ubuntu 14.4', did you mean 'ubuntu 14.04'?",
        ),
        (
            lambda d: _volume(d, 0, images=[CENTOS]),
            "partitions[0].volumes[0], partitions[0].volumes[1]: of the image 'centos 7.1' all",
        ),
        (lambda d: _volume(d, 0, images=[CENTOS]), "images[1]: no volume of 'ubuntu 14.04' is its '/'"),
        (
            lambda d: _volume(d, 0, images=[CENTOS, UBUNTU]),
            "partitions[0].volumes[0].images: one volume is the root of several",
        ),
        (lambda d: _volume(d, 0, size="10G"), "partitions[0].volumes[0].size: '10G' is no size"),
        (lambda d: _volume(d, 0, size="0"), "'0' is nothing"),
        (lambda d: _volume(d, 0, size="-5"), "'-5' is no size"),
        (lambda d: _volume(d, 0, size=None), "partitions[0].volumes[0].size: null where a text"),
        (lambda d: _volume(d, 2, mount="usr"), "'usr' is no absolute path"),
        (lambda d: _volume(d, 2, mount="/a/../b"), "'/a/../b' is no plain path"),
        (lambda d: _volume(d, 2, mount="/a\nb"), "is no absolute path without control characters"),
        (lambda d: _volume(d, 2, mount="multiboot"), "the multiboot partition is there by itself"),
        (lambda d: _volume(d, 2, file_system="ntfs"), "partitions[0].volumes[2].file_system: 'ntfs' can't be made"),
        (
            lambda d: d["partitions"][0]["volumes"][2].pop("file_system"),
            "partitions[0].volumes[2].file_system: there is none",
        ),
        (lambda d: _volume(d, 2, fstab_options="a b"), "partitions[0].volumes[2].fstab_options: there is white space"),
        (lambda d: _volume(d, 2, type="raid"), "partitions[0].volumes[2].type: 'raid' is refused: mirrors"),
        (lambda d: _volume(d, 2, type="boot"), "partitions[0].volumes[2].type: 'boot' is refused: what firmware"),
        (lambda d: _volume(d, 2, type="pv", vg="x"), "partitions[0].volumes[2].vg: there is no group 'x'"),
        (
            lambda d: d["partitions"].append({"type": "vg", "id": "x", "volumes": []}),
            "partitions[1].id: no partition is a pv of 'x'",
        ),
        (lambda d: d["partitions"].append(dict(first_disk(d))), "partitions: 2 of them are the disk 'name=vda'"),
        (lambda d: first_disk(d).pop("id"), "partitions[0].id: an object is missing"),
        (lambda d: first_disk(d)["id"].update(type="model"), "partitions[0].id.type: 'model' where one of name, path"),
        (
            lambda d: first_disk(d).update(id={"type": "size", "value": "big"}),
            "partitions[0].id.value: 'big' is no size",
        ),
        (lambda d: _volumes(d, size="remaining"), "partitions[0].volumes: 3 of them claim what remains"),
        (lambda d: _volumes(d, name="x"), "partitions[0].volumes: 3 of them have the name 'x'"),
        (lambda d: _volumes(d, name="a b"), "'a b' is no name for a volume"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(change: Callable[[Document], object], problem: str) -> None:
    document = of_the_specification()
    change(document)
    with pytest.raises(DescriptionInvalid) as caught:
        read(document)
    assert any(problem in each for each in caught.value.problems), caught.value.problems


def test_every_defect_is_told_at_once() -> None:
    document = of_the_specification()
    _images(document, 0, boot="no", name=3)
    _volume(document, 0, size="many", images="x")
    with pytest.raises(DescriptionInvalid) as caught:
        read(document)
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"x"', "[" * 100_000])
def test_what_is_no_description_is_refused(text: str) -> None:
    with pytest.raises(DescriptionInvalid):
        read(text)


def test_the_documents_of_these_tests_are_valid() -> None:
    assert read(documents.on_volumes() | {"partitions_policy": "clean"}).notes == ()
