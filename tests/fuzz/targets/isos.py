"""ISO 9660 images: whatever is given, little of it is read, and no file lies outside or has a path that climbs.

Of an image that is read, every file's contents can be read, and a name that is found by its path is that file. What is
changed is read again: what was put into it is there, and all other files are what they were.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from lab.isolayouts import IsoLayout, Names, make
from libironic_disk.errors import IsoInvalid, IsoUnsupported
from libironic_disk.pure.iso.changing import IsoEdit, MediaChecksum, edited
from libironic_disk.pure.iso.image import IsoImage, read_image
from libironic_disk.pure.iso.model import IsoFile
from libironic_disk.pure.ropes import Rope
from libironic_disk.units import MIB
from tests.fuzz.plain import Packed
from tests.support import configdrives

_MOST_READ = 8 * MIB
_MOST_READS = 20_000
_KEPT = 64
_MOST_ADDED = 4 * MIB
_NEW = ("/new.cfg", "/boot/grub/new.cfg", "/a/b/c/d/A name that is too long for all but Rock Ridge's.txt")
_SIZES = (0, 1, 2047, 2048, 2049, 70_000)


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
                # Of GRUB's own only the part for UEFI is small enough.
                more = ("--directory=/usr/lib/grub/x86_64-efi", "--install-modules=iso9660 normal")
                yield _hollow(
                    make(
                        layout,
                        Path(folder, "iso"),
                        names=Names.BOTH,
                        more=more if layout is IsoLayout.GRUB_MKRESCUE else (),
                    ).read_bytes()
                )

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
        found = f"{min(len(files), 5)} files, {len(image.boot_images)} boot images"
        return f"{found}, {_change(data, image, files)}"


def _change(data: bytes, image: IsoImage, files: list[IsoFile]) -> str:
    """Change an image in a way that the input decides, and say what became of it."""
    base, edit = _Bytes(data), _edit_of(data, files)
    try:
        rope = edited(image, base, edit)
    except (IsoInvalid, IsoUnsupported) as error:
        assert str(error)
        return "refused"
    assert rope.size <= len(data) + _MOST_ADDED
    changed = rope.read_at(base, 0, rope.size)
    assert len(changed) == rope.size
    after = _Bytes(changed)
    again = read_image(after)
    assert again.volume_id == edit.volume_id
    for path, content in edit.files.items():
        now = again.content(path)
        assert now.size == content.size
        wanted, found = content.read_at(base, 0, content.size), now.read_at(after, 0, now.size)
        assert found == wanted or (_boots(path, image) and _bare(found) == _bare(wanted)), path
    for file in files:
        if not (file.is_dir or file.is_symlink or file.compressed or _follows(file, image, edit)):
            now = again.content(file.path)
            assert now.read_at(after, 0, now.size) == image.content(file.path).read_at(base, 0, file.size), file.path
    assert len(list(again.files())) <= len(files) + 8
    return "changed" if rope.size == len(data) else "grown"


def _boots(path: str, image: IsoImage) -> bool:
    file = image.find(path)
    return file is not None and file.offset in {boot.offset for boot in image.boot_images}


def _bare(loader: bytes) -> bytes:
    """Return a boot loader without what is in it about its own place."""
    return loader[:8] + loader[64:2548] + loader[2556:]


def _edit_of(data: bytes, files: list[IsoFile]) -> IsoEdit:
    digest = hashlib.sha1(data, usedforsecurity=False).digest()
    contents: dict[str, Rope] = {}
    if digest[0] & 3:
        contents[_NEW[digest[1] % len(_NEW)]] = Rope.of(bytes([digest[2]]) * _SIZES[digest[3] % len(_SIZES)])
    plain = [file for file in files if not file.is_dir and not file.is_symlink]
    if plain and digest[0] & 12:
        size = _SIZES[digest[5] % len(_SIZES)]
        contents[plain[digest[4] % len(plain)].path] = Rope.of(bytes([digest[6]]) * size)
    checksum = MediaChecksum.REMOVED if digest[0] & 240 else MediaChecksum.RENEWED
    return IsoEdit(files=contents, volume_id=f"FUZZ {digest[7]}", media_checksum=checksum)


def _follows(file: IsoFile, image: IsoImage, edit: IsoEdit) -> bool:
    """Whether a file changes because others do: the boot catalog and the loaders that know where they are."""
    known = {boot.offset for boot in image.boot_images} | {image.catalog.offset if image.catalog is not None else -1}
    return file.path in edit.files or file.offset in known


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
