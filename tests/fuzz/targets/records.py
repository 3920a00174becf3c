"""What the library wrote, or another version of it: a machine's manifest, and the record of its media.

A crash may have cut them off, and other versions have other keys. A manifest is refused or written again as the same; a
record says nothing rather than what isn't so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random

from libironic_disk.errors import DocumentInvalid
from libironic_disk.machine.media.records import parsed
from libironic_disk.pure.netboot.manifest import Manifest, Part, from_json, to_json
from libironic_disk.pure.netboot.names import Purpose
from tests.fuzz.json_inputs import Json
from tests.support.netboot import MAC, OTHER_MAC

_KEYS = ("version", "node", "macs", "configs", "purpose", "parts", "directories", "shared", "ramdisk", "content")


class _Records(Json):
    refusals = (DocumentInvalid,)
    words = (*Json.words, *(f'"{key}":'.encode() for key in _KEYS), b'"52:54:00:aa:bb:01"', b"../", b'"version": 2')

    def seeds(self, random: Random) -> Iterator[bytes]:
        while True:
            parts = {
                purpose: Part(directories=(f"nodes/a/{purpose}-1",), shared=("pxelinux.0",))
                for purpose in Purpose
                if random.random() < 0.7
            }
            macs = (MAC, OTHER_MAC)[: random.randrange(3)]
            configs = tuple(f"pxelinux.cfg/{mac.with_type}" for mac in macs)
            purpose = random.choice([None, *Purpose])
            yield to_json(Manifest(node="a", macs=macs, configs=configs, purpose=purpose, parts=parts))
            yield json.dumps({"ramdisk": random.randrange(1 << 40), "content": "ab" * 32}).encode()

    def examine(self, data: bytes) -> str:
        rooms, content = parsed(data)
        assert all(not isinstance(room, bool) and room >= 0 for room in rooms.values())
        if rooms or content:
            assert parsed(json.dumps({**rooms, "content": content}).encode()) == (rooms, content)
        manifest = from_json(data)
        assert from_json(to_json(manifest)) == manifest
        for purpose in Purpose:
            assert purpose not in manifest.without(purpose).parts
        return f"{len(manifest.parts)} parts"


TARGET = _Records()
