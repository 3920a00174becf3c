"""boot-info.json written over an older one: whoever reads it at any moment reads the old document or the new one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from libironic_disk import bootinfo
from libironic_disk.bootinfo import BootElement, BootInfo
from libironic_disk.events import Cancellation, EventSink
from tests.support.faults.scenes import folder
from tests.support.faults.work import Of, Scene, State, Try


def _info(name: str) -> BootInfo:
    element = BootElement(grub_id=0, image_name=name, os_id=name, image_uuid="", boot_name=name, root_uuid="x" * 36)
    return BootInfo(elements=(element,), current_element=0, multiboot_partition="y" * 36)


OLD, NEW = _info("old"), _info("new")


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteTry:
    """The new document over the old one."""

    file: Path
    scene: Scene

    def call(self, sink: EventSink, cancel: Cancellation) -> bool:
        """Write it."""
        bootinfo.write(NEW, self.file)
        return True

    def found(self, result: object | None) -> State:
        """Look at the file as whoever has only a JSON parser does, and as this library does."""
        if result is not None:
            # What one left that was killed, too, is gone.
            assert list(self.file.parent.iterdir()) == [self.file]
        (element,) = json.loads(self.file.read_text())["elements"]
        info = bootinfo.read(self.file)
        assert self.file.stat().st_mode & 0o777 == 0o644
        assert info in (OLD, NEW)
        assert element["image_name"] == info.elements[0].image_name
        return State.NEW if info == NEW else State.OLD


@contextmanager
def _begin() -> Iterator[Try]:
    with folder() as where:
        temporary, place = where / "tmp", where / "place"
        temporary.mkdir()
        place.mkdir()
        file = place / "boot-info.json"
        bootinfo.write(OLD, file)
        yield WriteTry(file=file, scene=Scene(folders=(place,), temporary=temporary))


def written() -> Of:
    """The new document written over the old one."""
    return Of(name="write boot-info.json", begin=_begin)
