"""docs/multi-image-schema.json and the reader know the same keys and the same words."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from libironic_disk.errors import DescriptionInvalid
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.multiboot import document as reader
from libironic_disk.pure.multiboot.description import DiskIdKind, PartitionsPolicy

SCHEMA: dict[str, Any] = json.loads((Path(__file__).parents[4] / "docs/multi-image-schema.json").read_text())
PARTS = SCHEMA["$defs"]


@pytest.mark.parametrize("example", SCHEMA["examples"])
def test_an_example_of_the_schema_is_read(example: dict[str, object]) -> None:
    assert reader.read(example) == reader.read(json.dumps(example).encode())


@pytest.mark.parametrize(
    ("part", "keys"),
    [
        (SCHEMA, reader.TOP_KEYS + reader.TOP_UNUSED),
        (SCHEMA["properties"]["deploy_data"], reader.DATA_KEYS),
        (PARTS["image"], reader.IMAGE_KEYS),
        (PARTS["disk"], reader.DISK_KEYS + reader.DISK_UNUSED),
        (PARTS["disk_id"], reader.ID_KEYS),
        (PARTS["group"], reader.GROUP_KEYS + reader.GROUP_UNUSED),
        (PARTS["volume"], reader.VOLUME_KEYS + reader.VOLUME_UNUSED),
    ],
    ids=["document", "deploy_data", "image", "disk", "id", "group", "volume"],
)
def test_the_schema_has_the_keys_that_are_read(part: dict[str, Any], keys: tuple[str, ...]) -> None:
    assert sorted(part["properties"]) == sorted(keys)
    assert set(part.get("required", ())) <= set(keys)


def test_the_schema_has_the_words_that_are_read() -> None:
    assert SCHEMA["properties"]["partitions_policy"]["enum"] == list(PartitionsPolicy)
    assert PARTS["disk_id"]["properties"]["type"]["enum"] == list(DiskIdKind)
    assert set(FileSystem) <= set(PARTS["volume"]["properties"]["file_system"]["enum"])


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("image", ("images", 0)),
        ("disk", ("partitions", 0)),
        ("disk_id", ("partitions", 0, "id")),
        ("group", ("partitions", 1)),
        ("volume", ("partitions", 1, "volumes", 0)),
        ("pv", ("partitions", 0, "volumes", 0)),
    ],
)
def test_what_the_schema_requires_is_missed_by_the_reader(name: str, path: tuple[str | int, ...]) -> None:
    for key in PARTS[name]["required"]:
        example: Any = deepcopy(SCHEMA["examples"][1])
        holder = example
        for step in path:
            holder = holder[step]
        del holder[key]
        with pytest.raises(DescriptionInvalid):
            reader.read(example)
