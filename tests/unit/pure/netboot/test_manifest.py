"""Manifests: written and read back, and what stays when a purpose is done with."""

from __future__ import annotations

import json

import pytest

from libironic_disk.errors import DocumentInvalid
from libironic_disk.pure.netboot.manifest import Manifest, Part, from_json, to_json
from libironic_disk.pure.netboot.names import Purpose
from tests.support.netboot import MAC, OTHER_MAC

MANIFEST = Manifest(
    node="node-1",
    macs=(MAC, OTHER_MAC),
    configs=("pxelinux.cfg/01-52-54-00-aa-bb-01",),
    purpose=Purpose.INSTANCE,
    parts={
        Purpose.RAMDISK: Part(directories=("nodes/node-1/ramdisk-1",), shared=("pxelinux.0",)),
        Purpose.INSTANCE: Part(shared=("pxelinux.0", "chain.c32")),
    },
)


def test_it_is_read_back_as_it_was_written() -> None:
    assert from_json(to_json(MANIFEST)) == MANIFEST
    assert from_json(to_json(Manifest(node="x"))) == Manifest(node="x")


def test_a_purpose_takes_its_configurations_with_it() -> None:
    assert MANIFEST.without(Purpose.RAMDISK).configs == MANIFEST.configs
    left = MANIFEST.without(Purpose.INSTANCE)
    assert left.configs == ()
    assert set(left.parts) == {Purpose.RAMDISK}
    assert left.shared == {"pxelinux.0"}


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"node": 1},
        {"macs": ["nobody"]},
        {"macs": "52:54:00:aa:bb:01"},
        {"configs": [1]},
        {"purpose": "other"},
        {"parts": []},
        {"parts": {"ramdisk": {}}},
        {"parts": {"other": {"directories": [], "shared": []}}},
    ],
)
def test_what_is_no_manifest_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(DocumentInvalid):
        from_json(json.dumps(json.loads(to_json(MANIFEST)) | change).encode())


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_document_is_refused(text: bytes) -> None:
    with pytest.raises(DocumentInvalid):
        from_json(text)
