"""boot-info.json, and the record that is kept beside a menu: what is read is written again and read as the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from random import Random

from libironic_disk.errors import DocumentInvalid, EntryUnknown, MultibootDamaged
from libironic_disk.pure.boot import grubcfg, menurecord
from libironic_disk.pure.multiboot import bootinfo
from tests.fuzz.json_inputs import Json
from tests.fuzz.plain import drawn
from tests.properties.test_bootinfo import infos
from tests.unit.pure.boot.test_menurecord import RECORD


class _BootInfo(Json):
    refusals = (DocumentInvalid, MultibootDamaged)
    words = (
        *Json.words,
        *(f'"{name}"'.encode() for name in ("elements", "grub_id", "libironic_disk", "version", "id")),
    )

    def seeds(self, random: Random) -> Iterator[bytes]:
        yield menurecord.as_json(RECORD).encode()
        for info in drawn(infos(), random, 60):
            yield bootinfo.as_json(info).encode()

    def examine(self, data: bytes) -> str:
        text = data.decode(errors="replace")
        with suppress(MultibootDamaged):
            self._check_record(text)
            return "a menu's record"
        info = bootinfo.parse(text)
        again = bootinfo.as_json(info)
        assert bootinfo.parse(again) == info
        assert bootinfo.as_json(bootinfo.parse(again)) == again
        before, after = json.loads(text), json.loads(again)
        assert {name: after[name] for name in before if name != bootinfo.OUR_KEY} == {
            **{name: before[name] for name in before if name not in (bootinfo.OUR_KEY, "elements")},
            "elements": after["elements"],
        }
        for each in info.elements:
            with suppress(EntryUnknown):
                assert info.element(each.grub_id) == each
        return "boot info"

    def _check_record(self, text: str) -> None:
        record = menurecord.parse(text, path="menu.json")
        assert menurecord.parse(menurecord.as_json(record), path="menu.json") == record
        menu = grubcfg.render(
            grubcfg.Menu(entries=tuple(each.entry for each in record.entries), default=record.default)
        )
        assert menu.count("\nmenuentry ") >= len(record.entries)
        bootinfo.parse(bootinfo.as_json(bootinfo.of(record)))


TARGET = _BootInfo()
