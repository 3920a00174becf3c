"""The checksum that isomd5sum implants into an image, and by which an installer checks its medium.

It is text in the field for applications of the primary volume descriptor: the MD5 of the image but for its last
sectors, and pieces of the MD5s of its beginnings, so that a check can stop early. That field counts as blanks. What is
written here is what implantisomd5 1.2.3 writes, and what checkisomd5 accepts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from libironic_disk.pure.iso.volumes import (
    APPLICATION_USE_AT,
    APPLICATION_USE_SIZE,
    SECTOR,
    DescriptorSet,
    Volume,
    VolumeKind,
)
from libironic_disk.pure.ropes import Base, Rope

_SKIPPED: Final = 15
"""Sectors at the end that don't count: what a drive may fail to read of a disc."""
_FRAGMENTS: Final = 20
_READ: Final = 32 * 1024
"""How much isomd5sum reads at a time; on that depends which beginnings it takes the sums of."""
_BLANK: Final = b" " * APPLICATION_USE_SIZE
_FOUND: Final = re.compile(rb"ISO MD5SUM = ([0-9a-f]{32});")
_SUPPORTED: Final = b"RHLISOSTATUS=1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImplantedChecksum:
    """What is there: the MD5 in hexadecimal, and whether the medium is marked as one that needn't be checked."""

    md5: str
    supported: bool


def read_checksum(descriptors: DescriptorSet) -> ImplantedChecksum | None:
    """Return the checksum that the primary volume descriptor has, None for none."""
    field = _field(_primary(descriptors))
    found = _FOUND.search(field)
    if found is None:
        return None
    return ImplantedChecksum(md5=found[1].decode("ascii"), supported=_SUPPORTED in field)


def removal(volume: Volume) -> tuple[int, bytes]:
    """Return where which bytes go so that a descriptor has no checksum."""
    return volume.at + APPLICATION_USE_AT, _BLANK


def has_checksum(volume: Volume) -> bool:
    """Return whether there is a checksum in a descriptor."""
    return _FOUND.search(_field(volume)) is not None


def renewal(rope: Rope, base: Base, *, at: int, size: int, supported: bool) -> tuple[int, bytes]:
    """Return where which bytes go so that an image has the right checksum; every byte of it is read.

    Args:
        rope: the image.
        base: what it has ranges of.
        at: where its primary volume descriptor is.
        size: of the volume, by that descriptor.
        supported: whether to mark it as of a supported medium.

    Raises:
        SourceFailed: it can't be read.
    """
    place = at + APPLICATION_USE_AT
    blank = rope.overlaid({place: _BLANK})
    total = min(size, rope.size) - _SKIPPED * SECTOR
    digest = hashlib.md5(usedforsecurity=False)
    fragment, reached, sums = max(total // (_FRAGMENTS + 1), 1), 0, ""
    for offset, data in _reads(blank.slice(0, max(total, 0)), base):
        digest.update(data)
        number = offset // fragment
        if number != reached and number <= _FRAGMENTS:
            reached = number
            # Of each of three bytes the first digit that is printed, which isn't its high half if that is 0.
            sums += "".join(f"{byte:x}"[0] for byte in digest.digest()[:3])
    text = (
        f"ISO MD5SUM = {digest.hexdigest()};SKIPSECTORS = {_SKIPPED};RHLISOSTATUS={int(supported)};"
        f"FRAGMENT SUMS = {sums};FRAGMENT COUNT = {_FRAGMENTS};"
        "THIS IS NOT THE SAME AS RUNNING MD5SUM ON THIS ISO!!"
    )
    return place, text.encode("ascii").ljust(APPLICATION_USE_SIZE)


def _reads(rope: Rope, base: Base) -> Iterator[tuple[int, bytes]]:
    start = 0
    for chunk in rope.chunks(base):
        view = memoryview(chunk)
        for at in range(0, len(view), _READ):
            yield start + at, bytes(view[at : at + _READ])
        start += len(chunk)


def _primary(descriptors: DescriptorSet) -> Volume:
    return next(each for each in descriptors.volumes if each.kind is VolumeKind.PRIMARY)


def _field(volume: Volume) -> bytes:
    return volume.data[APPLICATION_USE_AT : APPLICATION_USE_AT + APPLICATION_USE_SIZE]
