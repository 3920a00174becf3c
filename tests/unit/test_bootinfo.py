"""boot-info.json: the specification's keys, Bareon's files, and whatever somebody else added."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk import bootinfo
from libironic_disk.bootinfo import BootElement, BootInfo
from libironic_disk.errors import DocumentInvalid, PathFailed
from libironic_disk.pure.boot.grubcfg import MenuEntry
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.menurecord import ImageRecord, MenuRecord, Place, RecordedEntry
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.multiboot.bootinfo import of

CENTOS_ROOT, UBUNTU_ROOT = "2abf123d-d52f-4f62-a351-7358221bc51f", "688c5f1e-dc46-4aca-a90e-be21ba8aa3e2"
SAMPLE: dict[str, Any] = {
    "elements": [
        {
            "grub_id": 0,
            "image_name": "centos-7.1.1503",
            "os_id": "centos",
            "image_uuid": "2a86b00d-cfa4-49d9-a008-13c7940ed02d",
            "boot_name": "CentOSLinuxrelease7.1.1503(Core)(on/dev/vda3)",
            "root_uuid": CENTOS_ROOT,
        },
        {
            "grub_id": 2,
            "image_name": "ubuntu",
            "os_id": "ubuntu",
            "image_uuid": "157636d8-62ad-499d-aecc-2ea4917ee396",
            "boot_name": "Ubuntu14.04.3LTS(14.04)(on/dev/vda4)",
            "root_uuid": UBUNTU_ROOT,
        },
    ],
    "current_element": 0,
    "multiboot_partition": "3b360901-7896-48d4-a14d-fc35e1582c74",
}


def entry(image: str, id: str, root_uuid: str) -> RecordedEntry:
    made = MenuEntry(
        id=id, title=id, root_uuid=root_uuid, kernel="/boot/vmlinuz", initrd="", parameters=KernelParameters()
    )
    return RecordedEntry(image=image, entry=made)


def image(name: str, image_name: str, image_uuid: str, root_uuid: str) -> ImageRecord:
    place = Place(filesystem=FileSystem.EXT4, uuid=root_uuid)
    return ImageRecord(
        name=name, image_name=image_name, image_uuid=image_uuid, root=place, parameters=KernelParameters()
    )


def test_the_sample_of_the_specification_is_what_such_a_disk_gives() -> None:
    """CentOS has a rescue kernel too, which is entry 1: so Ubuntu is 2."""
    centos, ubuntu = SAMPLE["elements"]
    record = MenuRecord(
        multiboot_uuid=SAMPLE["multiboot_partition"],
        images=(
            image("centos", centos["image_name"], centos["image_uuid"], CENTOS_ROOT),
            image("ubuntu", ubuntu["image_name"], ubuntu["image_uuid"], UBUNTU_ROOT),
        ),
        entries=(
            entry("centos", "centos-1", CENTOS_ROOT),
            entry("centos", "centos-1+0-rescue", CENTOS_ROOT),
            entry("ubuntu", "ubuntu-1", UBUNTU_ROOT),
        ),
        default="centos-1",
        timeout=5,
    )
    document = json.loads(bootinfo.as_json(of(record)))
    for made, sample in zip(document["elements"], SAMPLE["elements"], strict=True):
        assert {name: made[name] for name in sample if name != "boot_name"} == {
            name: value for name, value in sample.items() if name != "boot_name"
        }
        assert set(made) - set(sample) == {"libironic_disk"}
    assert (document["current_element"], document["multiboot_partition"]) == (0, SAMPLE["multiboot_partition"])
    assert of(record, default="ubuntu-1").current_element == 2


def test_the_sample_itself_is_read() -> None:
    info = bootinfo.parse(json.dumps(SAMPLE))
    assert [element.grub_id for element in info.elements] == [0, 2]
    assert info.elements[1].entry_id == ""


def test_keys_of_somebody_else_survive() -> None:
    sample = {**SAMPLE, "theirs": [1, {"a": None}]}
    sample["elements"] = [{**SAMPLE["elements"][0], "more": "x"}, SAMPLE["elements"][1]]
    written = json.loads(bootinfo.as_json(bootinfo.parse(json.dumps(sample))))
    assert written["theirs"] == sample["theirs"]
    assert written["elements"][0]["more"] == "x"


texts = st.text(max_size=20)
elements = st.builds(
    BootElement,
    grub_id=st.integers(0, 99),
    image_name=texts,
    os_id=texts,
    image_uuid=texts,
    boot_name=texts,
    root_uuid=texts,
    entry_id=texts,
    kernel=texts,
    initrd=texts,
    parameters=texts,
    unknown=st.dictionaries(st.sampled_from(["x", "y"]), st.none() | st.integers() | st.lists(texts)),
)


@given(st.lists(elements, max_size=4), texts)
def test_any_value_is_read_as_it_was_written(listed: list[BootElement], partition: str) -> None:
    current = listed[-1].grub_id if listed else 0
    info = BootInfo(elements=tuple(listed), current_element=current, multiboot_partition=partition)
    assert bootinfo.parse(bootinfo.as_json(info)) == info


def test_every_defect_is_told() -> None:
    broken = {"elements": [{"grub_id": -1, "os_id": 3}, []], "current_element": True}
    with pytest.raises(DocumentInvalid) as caught:
        bootinfo.parse(json.dumps(broken))
    problems = "; ".join(caught.value.problems)
    for each in (
        "elements[0].grub_id is no number from 0 on",
        "elements[0].os_id is no text",
        "elements[0].image_uuid is missing",
        "elements[1] is no object",
        "current_element is no number from 0 on",
        "multiboot_partition is missing",
    ):
        assert each in problems


def test_a_current_element_that_is_none_is_refused() -> None:
    with pytest.raises(DocumentInvalid, match="current_element is 1, which is no element's grub_id"):
        bootinfo.parse(json.dumps({**SAMPLE, "current_element": 1}))


@pytest.mark.parametrize("text", ["", "[]", "nul", "[" * 100_000, '{"libironic_disk": {"version": 2}}'])
def test_what_is_no_document_is_refused(text: str) -> None:
    with pytest.raises(DocumentInvalid):
        bootinfo.parse(text)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "boot-info.json"
    info = bootinfo.parse(json.dumps(SAMPLE))
    bootinfo.write(info, path)
    bootinfo.write(replace(info, current_element=2), path)
    assert bootinfo.read(path).current_element == 2
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "boot-info.json"
    path.mkdir()
    with pytest.raises(PathFailed, match=r"boot-info\.json"):
        bootinfo.write(bootinfo.parse(json.dumps(SAMPLE)), path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PathFailed, match="No such file"):
        bootinfo.read(tmp_path / "none")
