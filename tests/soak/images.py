"""The images of a soak, each made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.units import MIB
from tests.soak.choosing import Chosen, Form, Kind
from tests.support import deployments, rooted_images, wholedisks
from tests.support.written import packed

SYSTEM = "soaked"
"""What the os-release of each partition image says."""


class Images:
    """Files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def raw(self, chosen: Chosen, sector_size: int) -> Path:
        """Return the image of a deployment as a raw file."""
        match chosen.kind:
            case Kind.WHOLE:
                name = f"whole-{chosen.label}-{sector_size}"
                return self._once(
                    name,
                    lambda path: wholedisks.make_disk(
                        path, 24 * MIB, sector_size=sector_size, label=chosen.label, seed=len(name)
                    ),
                )
            case Kind.GROWN:
                return self._once(
                    f"grown-{chosen.label}-{sector_size}",
                    lambda path: rooted_images.rooted_image(
                        path, FileSystem.EXT4, label=chosen.label, sector_size=sector_size
                    ),
                )
            case _:
                return self._once("system", lambda path: deployments.system_image(path, SYSTEM))

    def file(self, chosen: Chosen, sector_size: int) -> Path:
        """Return the image of a deployment in its form."""
        raw = self.raw(chosen, sector_size)
        match chosen.form:
            case Form.RAW:
                return raw
            case Form.QCOW2:
                return self._once(f"{raw.name}.qcow2", lambda path: _converted(raw, path))
            case Form.PACKED_QCOW2:
                return self._once(f"{raw.name}-c.qcow2", lambda path: _converted(raw, path, "-c"))
            case form:
                return self._once(f"{raw.name}.{form}", lambda path: packed(raw, form))

    def _once(self, name: str, make: Callable[[Path], Path]) -> Path:
        path = self._folder / name
        if not path.exists():
            made = make(path)
            if made != path:
                made.rename(path)
        return path


def _converted(raw: Path, path: Path, *options: str) -> Path:
    made = wholedisks.as_qcow2(raw, *options)
    made.rename(path)
    return path
