from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import MultibootDamaged
from libironic_disk.pure.boot import menurecord
from libironic_disk.pure.boot.grubcfg import MenuEntry
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.menurecord import ImageRecord, MenuRecord, Place, RecordedEntry
from libironic_disk.pure.disks.layout import FileSystem

UUID = "b7a9b1a4-6c45-4a94-a2b6-1f4c1e0d9d3f"
PLACE = Place(filesystem=FileSystem.BTRFS, uuid=UUID, partuuid="p", subvolume="@")
IMAGE = ImageRecord(
    name='großes "Debian"',
    image_name="debian",
    image_uuid="",
    root=PLACE,
    boot=replace(PLACE, filesystem=FileSystem.EXT4, volume="lvm/vg-boot"),
    parameters=KernelParameters.parse('a="b c"'),
)
ENTRY = MenuEntry(
    id="debian-1",
    title="t'",
    root_uuid=UUID,
    kernel="/vmlinuz",
    initrd="/initrd",
    parameters=IMAGE.parameters,
    volume="lvm/vg-boot",
)
RECORD = MenuRecord(
    multiboot_uuid="m",
    images=(IMAGE,),
    entries=(RecordedEntry(image=IMAGE.name, entry=ENTRY),),
    default="debian-1",
    timeout=3,
    left_out=("tools: there is no kernel",),
)


def test_a_record_is_read_as_it_was_written() -> None:
    assert menurecord.parse(menurecord.as_json(RECORD), path="x") == RECORD
    assert RECORD.image_of("debian-1") == IMAGE.name
    assert RECORD.image(IMAGE.name) is IMAGE


def documents() -> st.SearchStrategy[object]:
    leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))


@given(st.sampled_from([*json.loads(menurecord.as_json(RECORD))]), documents())
def test_a_field_of_any_kind_is_read_or_refused(field: str, value: object) -> None:
    document = json.loads(menurecord.as_json(RECORD)) | {field: value}
    with suppress(MultibootDamaged):
        assert menurecord.parse(json.dumps(document), path="x").entries == RECORD.entries or field == "entries"


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"version": 2}', "[" * 100_000])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(MultibootDamaged, match="no record of a menu"):
        menurecord.parse(text, path="x")


def test_an_entry_of_an_unknown_image_is_refused() -> None:
    text = menurecord.as_json(replace(RECORD, entries=(RecordedEntry(image="nobody's", entry=ENTRY),)))
    with pytest.raises(MultibootDamaged, match="images that it doesn't know: nobody's"):
        menurecord.parse(text, path="x")


@pytest.mark.parametrize("text", ["/boot/vmlinuz\0x", "/boot/\ud800"])
def test_a_path_that_no_program_could_be_given_is_refused(text: str) -> None:
    document = json.loads(menurecord.as_json(RECORD))
    document["entries"][0]["kernel"] = text
    with pytest.raises(MultibootDamaged, match="no record of a menu"):
        menurecord.parse(json.dumps(document), path="x")
