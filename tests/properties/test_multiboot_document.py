"""Any JSON is a description or is refused with its defects; nothing else ever comes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libironic_disk.errors import DescriptionInvalid
from libironic_disk.pure.multiboot.arranging import arrange
from libironic_disk.pure.multiboot.document import IMAGE_KEYS, TOP_KEYS, VOLUME_KEYS, read
from libironic_disk.pure.roles import Firmware
from tests.unit.pure.multiboot.documents import of_the_specification, on_volumes

PATH = re.compile(r"(the document|images|partitions|disks|deploy_data|partitions_policy)[^ ]*(, [^ ]+)*: ")

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-2, 5000)
    | st.sampled_from(["/", "x", "", "disk", "50%", "remaining", "a b/ü", "0.001%"])
)
keys = st.sampled_from([*TOP_KEYS, *IMAGE_KEYS, *VOLUME_KEYS, "id", "value", "volumes"])
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5), max_leaves=12
)


@given(st.dictionaries(keys, values))
def test_any_object(document: dict[str, Any]) -> None:
    try:
        read(document)
    except DescriptionInvalid as error:
        problems = error.problems
    else:
        problems = ("",)
    assert problems


def places(document: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [path, *(place for key, value in items for place in places(value, (*path, key)))]


@given(st.sampled_from([of_the_specification, on_volumes]), st.data())
def test_a_valid_document_with_one_value_changed(make: Callable[[], Any], data: st.DataObject) -> None:
    document = make()
    path = data.draw(st.sampled_from([place for place in places(document) if place]))
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = data.draw(values)
    try:
        described = read(document)
    except DescriptionInvalid as error:
        assert error.problems  # noqa: PT017
        return
    arrange(described, firmwares=frozenset(Firmware)).storage.check()


texts = st.text(st.characters(codec=None), max_size=30) | st.sampled_from(
    ["http://[", "\ud800", "\0", "a\nb", "9" * 99]
)


@given(st.sampled_from([of_the_specification, on_volumes]), st.data())
def test_every_defect_has_its_path_and_can_be_written_anywhere(make: Callable[[], Any], data: st.DataObject) -> None:
    document = make()
    for _ in range(data.draw(st.integers(0, 3))):
        path = data.draw(st.sampled_from(places(document)[1:]))
        holder = document
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = data.draw(texts | st.floats() | st.integers() | values)
    # JSON text can hold everything of it, lone surrogates and NaN included.
    for form in (document, json.dumps(document), json.dumps(document).encode("utf-16")):
        try:
            read(form)
        except DescriptionInvalid as error:
            str(error).encode()
            for problem in error.problems:
                assert PATH.match(problem), problem


@given(st.text() | st.binary() | st.integers(1, 2000).map(lambda depth: f'{{"images":{"[" * depth}{"]" * depth}}}'))
def test_any_text_and_any_bytes(document: str | bytes) -> None:
    with pytest.raises(DescriptionInvalid):
        read(document)
