"""Any boot-info.json comes back as it was, and no text does more harm than to be refused."""

from __future__ import annotations

import json
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from libironic_disk.errors import DocumentInvalid, EntryUnknown
from libironic_disk.pure.multiboot import bootinfo
from libironic_disk.pure.multiboot.bootinfo import BootElement, BootInfo
from libironic_disk.pure.multiboot.resolving import resolve

# Surrogates too: JSON has them, and Python reads them.
TEXTS = st.text(st.characters(), max_size=6)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)
SPECIFIED = ("elements", "current_element", "multiboot_partition", "libironic_disk")
IN_ELEMENTS = ("grub_id", "image_name", "os_id", "image_uuid", "boot_name", "root_uuid", "libironic_disk")


@st.composite
def elements(draw: st.DrawFn, grub_id: int) -> BootElement:
    texts = {name: draw(TEXTS) for name in IN_ELEMENTS[1:-1]}
    ours = {name: draw(TEXTS) for name in ("kernel", "initrd", "parameters")}
    entry_id = draw(st.sampled_from(["", f"id-{grub_id}"]))
    unknown = draw(st.dictionaries(TEXTS.filter(lambda name: name not in IN_ELEMENTS), VALUES, max_size=2))
    return BootElement(grub_id=grub_id, entry_id=entry_id, **texts, **ours, unknown=unknown)


@st.composite
def infos(draw: st.DrawFn) -> BootInfo:
    numbers = draw(st.lists(st.integers(0, 50), min_size=1, max_size=3, unique=True))
    return BootInfo(
        elements=tuple(draw(elements(number)) for number in numbers),
        current_element=draw(st.sampled_from(numbers)),
        multiboot_partition=draw(TEXTS),
        unknown=draw(st.dictionaries(TEXTS.filter(lambda name: name not in SPECIFIED), VALUES, max_size=2)),
    )


@given(infos())
def test_any_value_is_read_as_it_was_written(info: BootInfo) -> None:
    text = bootinfo.as_json(info)
    again = bootinfo.parse(text)
    assert again == info
    assert bootinfo.as_json(again) == text
    assert text.isascii()


@given(infos(), st.data())
def test_a_name_leads_to_a_system_that_is_called_so_or_to_none(info: BootInfo, data: st.DataObject) -> None:
    one = data.draw(st.sampled_from(info.elements))
    names: list[str | int] = [one.entry_id, one.image_uuid, one.image_name, one.os_id, one.grub_id]
    key = data.draw(st.sampled_from(names))
    with suppress(EntryUnknown):
        found = resolve(info.elements, key)
        assert key in (found.entry_id, found.image_uuid, found.image_name, found.os_id, found.grub_id)
    assert resolve(info.elements, one.grub_id) is one


@settings(max_examples=300)
@given(st.text(max_size=60) | VALUES.map(json.dumps))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(DocumentInvalid):
        bootinfo.parse(text)


@settings(max_examples=300)
@given(infos(), st.data())
def test_a_document_with_a_wrong_value_is_read_or_refused(info: BootInfo, data: st.DataObject) -> None:
    document = json.loads(bootinfo.as_json(info))
    place = data.draw(st.sampled_from([document, document["libironic_disk"], *document["elements"]]))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(VALUES)
    with suppress(DocumentInvalid):
        again = bootinfo.parse(json.dumps(document))
        assert json.loads(bootinfo.as_json(again)) is not None
