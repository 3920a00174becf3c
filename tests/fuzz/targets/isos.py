"""ISO 9660 images: whatever is given, little of it is read, and no file lies outside or has a path that climbs.

Of an image that is read, every file's contents can be read, and a name that is found by its path is that file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from lab.isolayouts import IsoLayout, Names, make
from libironic_disk.errors import IsoInvalid, IsoUnsupported
from libironic_disk.pure.iso.image import read_image
from libironic_disk.units import MIB
from tests.fuzz.plain import Packed
from tests.support import configdrives

_MOST_READ = 8 * MIB
_MOST_READS = 20_000
_KEPT = 512


class _Bytes:
    """An image in memory, and how much of it was read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.reads = 0
        self.read = 0

    @property
    def size(self) -> int:
        return len(self._data)

    def read_at(self, offset: int, size: int) -> bytes:
        assert offset >= 0
        assert size >= 0
        found = self._data[offset : offset + size]
        self.reads += 1
        self.read += len(found)
        return found


class _Isos(Packed):
    refusals = (IsoInvalid, IsoUnsupported)
    seconds = (2.0, 2e-6)
    memory = 32 * MIB
    words = (
        *(b"CD001", b"EL TORITO SPECIFICATION", b"NM", b"SL", b"CL", b"PL", b"CE", b"RE", b"PX", b"ZF", b"ST", b"SP"),
        *(
            b"../",
            b"..",
            b"\0",
            b"/",
            b"\x55\xaa",
            b"EFI PART",
            b"\xef",
            b"\x88",
            b"NSR02",
            b"%/E",
            b"\xff" * 8,
            bytes(8),
        ),
    )

    def images(self, random: Random) -> Iterator[bytes]:
        tree = {"a/b/c": b"x", "Long name.txt": b"y" * 3000}
        yield configdrives.iso(tree, "-R", "-J")
        yield configdrives.iso(tree, "--norock")
        yield configdrives.iso(tree, "-R", links={"link": "../../etc/shadow"})
        with tempfile.TemporaryDirectory() as folder:
            for layout in IsoLayout:
                yield _hollow(make(layout, Path(folder, "iso"), names=Names.BOTH).read_bytes())

    def examine(self, data: bytes) -> str:
        base = _Bytes(data)
        image = read_image(base)
        assert base.reads < _MOST_READS
        assert base.read < _MOST_READ + 2 * len(data)
        files = list(image.files())
        for file in files:
            assert file.path.startswith("/")
            assert not {"", ".", ".."} & {*file.path.split("/")[1:]}, file.path
            assert "\0" not in file.path
            assert all(0 <= each.offset <= each.offset + each.size <= len(data) for each in file.extents)
        for file in files[:50]:
            assert image.find(file.path) == file
            if not (file.is_dir or file.is_symlink or file.compressed):
                content = image.content(file.path)
                assert content.size == file.size
                assert len(content.read_at(base, 0, min(content.size, 4096))) == min(content.size, 4096)
        for boot in image.boot_images:
            assert 0 <= boot.offset <= boot.offset + boot.size <= image.size
        return f"{min(len(files), 5)} files, {len(image.boot_images)} boot images"


def _hollow(data: bytes) -> bytes:
    """Return an image whose large files have zeros in them but for their first bytes, so that it packs well."""
    hollow = bytearray(data)
    image = read_image(_Bytes(data))
    spans = [(file.offset, file.size) for file in image.files() if not file.is_dir]
    for offset, size in [*spans, *((boot.offset, boot.size) for boot in image.boot_images)]:
        if size > 2 * _KEPT:
            hollow[offset + _KEPT : offset + size] = bytes(len(hollow[offset + _KEPT : offset + size]))
    return bytes(hollow)


TARGET = _Isos()
