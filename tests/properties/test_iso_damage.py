"""Ropes are the bytes that they stand for; damaged images are read and changed, or refused in words."""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from lab.isolayouts import IsoLayout
from libironic_disk.errors import IsoInvalid, IsoUnsupported
from libironic_disk.pure.iso.changing import IsoEdit, edited
from libironic_disk.pure.iso.image import read_image
from libironic_disk.pure.ropes import Piece, Range, Rope, Zeros
from tests.support import isos
from tests.support.isos import Memory

SECTOR = 2048


@st.composite
def pieces(draw: st.DrawFn) -> Rope:
    some: list[Piece] = draw(
        st.lists(
            st.one_of(
                st.binary(max_size=20),
                st.builds(Zeros, st.integers(0, 20)),
                st.builds(lambda at, size: Range(at, min(size, 256 - at)), st.integers(0, 255), st.integers(0, 40)),
            ),
            max_size=8,
        )
    )
    return Rope.of(*some)


BASE = Memory(bytes(range(256)))


@given(pieces(), pieces(), st.data())
def test_ropes_are_what_their_bytes_are(one: Rope, two: Rope, data: st.DataObject) -> None:
    whole = one.read_at(BASE, 0, one.size) + two.read_at(BASE, 0, two.size)
    both = one + two
    assert both.read_at(BASE, 0, both.size) == whole
    assert all(
        type(a) is not type(b) or isinstance(a, Range) for a, b in zip(both.pieces, both.pieces[1:], strict=False)
    )
    at = data.draw(st.integers(0, both.size))
    size = data.draw(st.integers(0, both.size - at))
    assert both.slice(at, size).read_at(BASE, 0, size) == whole[at : at + size] == both.read_at(BASE, at, size)
    edit = data.draw(pieces())
    if at + edit.size <= both.size:
        laid = both.overlaid({at: edit})
        expected = whole[:at] + edit.read_at(BASE, 0, edit.size) + whole[at + edit.size :]
        assert laid.read_at(BASE, 0, laid.size) == expected


def test_damaged_images_are_read_or_refused_in_words() -> None:
    """Random damage, most of it where numbers are that lead somewhere."""
    luck = random.Random(7)
    bases = [isos.layout(kind) for kind in IsoLayout if kind is not IsoLayout.GRUB_MKRESCUE]
    structures = {base: places_of(base) for base in bases}
    outcomes = Counter(outcome_of(damaged(luck, base, structures[base])) for base in luck.choices(bases, k=1500))
    assert min(outcomes[outcome] for outcome in ("changed", "read", "refused")) > 20, outcomes


def damaged(luck: random.Random, base: Memory, places: list[tuple[int, int]]) -> Memory:
    data = bytearray(base.data)
    for _ in range(luck.randint(1, 4)):
        at, size = luck.choice(places)
        where = at + luck.randrange(size)
        length = luck.choice((1, 1, 2, 4, 8))
        data[where : where + length] = luck.choice((luck.randbytes(length), b"\xff" * length, bytes(length)))
    return Memory(bytes(data[: base.size]))


def outcome_of(base: Memory) -> str:
    """How far one gets with an image; any other error than these two ends the test."""
    started = time.monotonic()
    outcome = "refused"
    with suppress(IsoInvalid, IsoUnsupported):
        image = read_image(base)
        outcome = "read"
        files = {"/layout.txt": Rope.of(b"x" * 5000), "/boot/initrd.img": Rope.of(b"z"), "/new/file": Rope.of(b"y")}
        rope = edited(image, base, IsoEdit(files=files, volume_id="OTHER"))
        assert len(rope.read_at(base, 0, rope.size)) == rope.size
        outcome = "changed"
    assert time.monotonic() - started < 5
    return outcome


def places_of(base: Memory) -> list[tuple[int, int]]:
    """Where an image has its descriptors, directories, catalog and tables, and how many bytes of them."""
    image = read_image(base)
    found = [(each.origin + 16 * SECTOR, each.end - each.origin - 16 * SECTOR) for each in image.descriptors]
    found += [
        (tree.offset_of(each.record), min(each.record.size, 600)) for tree in image.trees for each in tree.directories
    ]
    found += [(0, 512), (512, 512), (1024, 600)]
    if image.catalog is not None:
        found.append((image.catalog.offset, image.catalog.size))
    return found
