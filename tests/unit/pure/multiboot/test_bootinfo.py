"""boot-info.json as values: the specification's own sample, Bareon's files, and every defect at once."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from libironic_disk.errors import DocumentInvalid, EntryUnknown
from libironic_disk.pure.boot.grubcfg import MenuEntry
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.menurecord import ImageRecord, MenuRecord, Place, RecordedEntry
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.multiboot import bootinfo
from libironic_disk.pure.multiboot.bootinfo import BootElement, BootInfo
from libironic_disk.pure.multiboot.jsonvalues import JsonObject, JsonValue

SCHEMA = Path(__file__).parents[4] / "docs" / "boot-info-schema.json"
# The sample of the specification, with the spaces in its titles that Bareon really wrote.
SAMPLE = """
{
    "elements": [
        {
            "grub_id": 0,
            "image_name": "centos-7.1.1503",
            "os_id": "centos",
            "image_uuid": "2a86b00d-cfa4-49d9-a008-13c7940ed02d",
            "boot_name": "CentOS Linux release 7.1.1503 (Core) (on /dev/vda3)",
            "root_uuid": "2abf123d-d52f-4f62-a351-7358221bc51f"
        },
        {
            "grub_id": 2,
            "image_name": "ubuntu",
            "os_id": "ubuntu",
            "image_uuid": "157636d8-62ad-499d-aecc-2ea4917ee396",
            "boot_name": "Ubuntu 14.04.3 LTS (14.04) (on /dev/vda4)",
            "root_uuid": "688c5f1e-dc46-4aca-a90e-be21ba8aa3e2"
        }
    ],
    "current_element": 0,
    "multiboot_partition": "3b360901-7896-48d4-a14d-fc35e1582c74"
}
"""


def sample(**changes: JsonValue) -> str:
    return json.dumps({**json.loads(SAMPLE), **changes})


ELEMENT = BootElement(
    grub_id=0, image_name="image", os_id="os", image_uuid="uuid", boot_name="title", root_uuid="root", entry_id=""
)


def info_of(*elements: BootElement, current: int = 0) -> BootInfo:
    return BootInfo(elements=elements, current_element=current, multiboot_partition="3b360901")


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(DocumentInvalid) as caught:
        bootinfo.parse(text)
    assert caught.value.kind == "boot info"
    return caught.value.problems


def test_the_sample_of_the_specification_is_read_and_written_with_its_keys_alone() -> None:
    info = bootinfo.parse(SAMPLE)
    assert (info.version, info.current_element, info.multiboot_partition) == (
        0,
        0,
        "3b360901-7896-48d4-a14d-fc35e1582c74",
    )
    assert [(each.grub_id, each.os_id, each.entry_id) for each in info.elements] == [
        (0, "centos", ""),
        (2, "ubuntu", ""),
    ]
    assert json.loads(bootinfo.as_json(info)) == json.loads(SAMPLE)


def test_the_current_element_is_a_grub_id_and_no_place_in_the_list() -> None:
    """CentOS' rescue kernel takes number 1, so that Ubuntu, second in the list, is 2 (bareon.md, 1.8)."""
    info = bootinfo.parse(sample(current_element=2))
    assert info.current is info.elements[1]
    assert info.element(2) is info.element("ubuntu")


def test_bareons_0_for_an_image_that_it_did_not_find_is_read() -> None:
    """bareon.md, defects 1 and 7: a foreign system is entry 0, the numbers of ours begin behind it."""
    elements = [
        {**each, "grub_id": number} for each, number in zip(json.loads(SAMPLE)["elements"], (2, 4), strict=True)
    ]
    assert bootinfo.parse(sample(elements=elements)).current is None
    assert bootinfo.parse(sample(elements=[])).elements == ()


@pytest.mark.parametrize("ours", [True, False])
def test_no_other_number_may_be_nobodys(ours: bool) -> None:
    text = sample(current_element=1, **({"libironic_disk": {"version": 1}} if ours else {}))
    assert problems_of(text) == ("current_element is 1, which is no element's grub_id",)


def test_where_two_systems_have_one_number_it_means_neither() -> None:
    info = info_of(ELEMENT, replace(ELEMENT, os_id="b"))
    assert bootinfo.parse(bootinfo.as_json(info)) == info
    with pytest.raises(EntryUnknown, match=r"'0' is ambiguous; there are 0 \(os\), 0 \(b\)"):
        info.element(0)


def test_bareons_empty_names_are_read() -> None:
    info = bootinfo.parse(bootinfo.as_json(info_of(replace(ELEMENT, image_name="", image_uuid=""))))
    assert (info.elements[0].image_name, info.elements[0].image_uuid) == ("", "")


def test_a_title_with_an_apostrophe_is_whole() -> None:
    """bareon.md, defect 5."""
    info = info_of(replace(ELEMENT, boot_name="Bob's Linux"))
    assert bootinfo.parse(bootinfo.as_json(info)).elements[0].boot_name == "Bob's Linux"


def test_two_systems_with_one_root_uuid_are_two() -> None:
    """bareon.md, defect 8: one of them was left out."""
    info = info_of(replace(ELEMENT, grub_id=0, os_id="a"), replace(ELEMENT, grub_id=1, os_id="b"))
    assert bootinfo.parse(bootinfo.as_json(info)) == info
    assert info.element("b").grub_id == 1


def test_what_we_add_is_under_one_key_at_both_levels() -> None:
    info = info_of(replace(ELEMENT, entry_id="a-1", kernel="/boot/k", initrd="/boot/i", parameters="ro quiet"))
    document = json.loads(bootinfo.as_json(info))
    assert document["libironic_disk"] == {"version": 1}
    assert document["elements"][0]["libironic_disk"] == {
        "entry_id": "a-1",
        "kernel": "/boot/k",
        "initrd": "/boot/i",
        "parameters": "ro quiet",
    }
    assert set(document) - {"libironic_disk"} == set(json.loads(SAMPLE))
    assert set(document["elements"][0]) - {"libironic_disk"} == set(json.loads(SAMPLE)["elements"][0])


def test_keys_of_somebody_else_survive_wherever_they_are() -> None:
    document = json.loads(SAMPLE)
    document["x"] = {"deep": [1, 2.5, None, {"a": True}]}
    document["libironic_disk"] = {"version": 1, "later": "y"}
    document["elements"][1]["z"] = []
    document["elements"][1]["libironic_disk"] = {"kernel": "/k", "signed": False}
    info = bootinfo.parse(json.dumps(document))
    assert info.unknown == {"x": {"deep": (1, 2.5, None, {"a": True})}, "libironic_disk": {"later": "y"}}
    assert json.loads(bootinfo.as_json(info)) == document


def test_keys_of_somebody_else_never_replace_those_of_the_specification() -> None:
    info = BootInfo(elements=(), current_element=0, multiboot_partition="a", unknown={"multiboot_partition": "b"})
    assert json.loads(bootinfo.as_json(info))["multiboot_partition"] == "a"


def test_keys_of_somebody_else_can_not_be_changed() -> None:
    inner: dict[str, JsonValue] = {"b": [1]}
    info = BootInfo(elements=(), current_element=0, multiboot_partition="", unknown={"a": inner})
    inner["b"] = "changed"
    assert info.unknown == {"a": {"b": (1,)}}
    assert isinstance(info.unknown["a"], JsonObject)
    with pytest.raises(TypeError, match="item assignment"):
        info.unknown["a"] = 1  # type: ignore[index]


def test_a_value_can_be_copied_and_sent_to_another_process() -> None:
    info = BootInfo(elements=(ELEMENT,), current_element=0, multiboot_partition="", unknown={"a": {"b": [1]}})
    for again in (pickle.loads(pickle.dumps(info)), copy.deepcopy(info)):  # noqa: S301
        assert again == info
        assert bootinfo.as_json(again) == bootinfo.as_json(info)
    assert hash(info) == hash(copy.deepcopy(info))


def test_every_defect_is_told_at_once_with_its_path() -> None:
    document = json.dumps(
        {
            "elements": [
                {"grub_id": "0", "image_name": 1, "os_id": "a", "image_uuid": "", "boot_name": None},
                "nothing",
                {**json.loads(SAMPLE)["elements"][1], "libironic_disk": {"kernel": 5}},
                {**json.loads(SAMPLE)["elements"][1], "libironic_disk": []},
            ],
            "current_element": True,
            "libironic_disk": {"version": 2},
        }
    )
    assert problems_of(document) == (
        "elements[0].grub_id is no number from 0 on",
        "elements[0].image_name is no text",
        "elements[0].boot_name is no text",
        "elements[0].root_uuid is missing",
        "elements[1] is no object",
        "elements[2].libironic_disk.kernel is no text",
        "elements[3].libironic_disk is no object",
        "current_element is no number from 0 on",
        "multiboot_partition is missing",
        "libironic_disk.version is 2, and this library knows 1",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is no JSON"),
        ("[]", "the document is no object"),
        ("{'elements': []}", "it is no JSON"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": 1e999}', "1e999 is too large a number"),
        ('{"a": 1, "a": 2}', "a is there twice"),
        ('{"a":' * 101 + "0" + "}" * 101, "nested more than 100 levels deep"),
        ("[" * 100_000, "it is no JSON"),
        (sample(elements={}), "elements is no list"),
        (sample(libironic_disk={}), "libironic_disk.version is missing"),
        (sample(libironic_disk={"version": True}), "libironic_disk.version is no number"),
        (sample(libironic_disk={"version": 0}), "libironic_disk.version is 0"),
        (sample(current_element=-1), "current_element is no number from 0 on"),
        (sample(current_element=0.0), "current_element is no number from 0 on"),
    ],
)
def test_what_is_no_such_document_is_refused(text: str, problem: str) -> None:
    (found,) = problems_of(text)
    assert problem in found


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (info_of(replace(ELEMENT, grub_id=1)), "current_element is 0"),
        (BootInfo(elements=(), current_element=0, multiboot_partition="", unknown={"a": float("nan")}), "as JSON"),
        (BootInfo(elements=(), current_element=0, multiboot_partition="", version=9), "version is 9"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(info: BootInfo, words: str) -> None:
    with pytest.raises(DocumentInvalid, match=words):
        bootinfo.as_json(info)


def record() -> MenuRecord:
    def image(name: str) -> ImageRecord:
        return ImageRecord(
            name=name,
            image_name=f"image of {name}",
            image_uuid=f"uuid-of-{name}",
            root=Place(filesystem=FileSystem.EXT4, uuid=f"root-{name}"),
            parameters=KernelParameters(),
        )

    def entry(image: str, version: str) -> RecordedEntry:
        return RecordedEntry(
            image=image,
            entry=MenuEntry(
                id=f"{image}-{version}",
                title=f"{image} {version}",
                root_uuid=f"root-{image}",
                kernel=f"/boot/vmlinuz-{version}",
                initrd="",
                parameters=KernelParameters(words=("ro", "quiet")),
            ),
        )

    return MenuRecord(
        multiboot_uuid="3b360901",
        images=(image("centos"), image("ubuntu")),
        entries=(entry("centos", "new"), entry("centos", "old"), entry("ubuntu", "only")),
        default="ubuntu-only",
        timeout=1,
    )


def test_a_menu_gives_each_image_its_first_entry_and_the_menus_number() -> None:
    info = bootinfo.of(record())
    assert [(each.grub_id, each.os_id, each.entry_id) for each in info.elements] == [
        (0, "centos", "centos-new"),
        (2, "ubuntu", "ubuntu-only"),
    ]
    assert info.current is info.elements[1]
    assert (info.elements[1].parameters, info.elements[1].kernel) == ("ro quiet", "/boot/vmlinuz-only")
    assert bootinfo.parse(bootinfo.as_json(info)) == info


def test_where_an_older_kernel_is_the_default_the_document_names_its_image() -> None:
    info = bootinfo.of(record(), default="centos-old")
    assert info.current is info.elements[0]
    assert bootinfo.parse(bootinfo.as_json(info)) == info


def test_the_schema_has_the_keys_that_are_written() -> None:
    schema = json.loads(SCHEMA.read_text())
    document = json.loads(
        bootinfo.as_json(info_of(replace(ELEMENT, entry_id="a", kernel="b", initrd="c", parameters="d")))
    )
    one = schema["$defs"]["element"]
    assert set(schema["properties"]) == set(document)
    assert set(schema["properties"]["libironic_disk"]["properties"]) == set(document["libironic_disk"])
    assert set(one["properties"]) == set(document["elements"][0])
    assert set(one["properties"]["libironic_disk"]["properties"]) == set(document["elements"][0]["libironic_disk"])
    assert set(schema["required"]) == set(json.loads(SAMPLE))
    assert set(one["required"]) == set(json.loads(SAMPLE)["elements"][0])
    assert schema["properties"]["libironic_disk"]["properties"]["version"]["const"] == bootinfo.VERSION
