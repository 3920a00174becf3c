"""Change an ISO 9660 image without copying it: the changed one is a rope of the old one and a few new bytes.

New contents that fit into the sectors of the old ones go there. All others go where the image grows
(:mod:`~libironic_disk.pure.iso.growing`), and whatever has their address, or that of what moves, is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from libironic_disk.errors import IsoInvalid, IsoUnsupported
from libironic_disk.pure.iso import mediachecksum
from libironic_disk.pure.iso.filechanges import FileChanges
from libironic_disk.pure.iso.growing import Growth
from libironic_disk.pure.iso.image import IsoImage
from libironic_disk.pure.iso.movedtables import table_edits
from libironic_disk.pure.iso.volumes import LABEL_SIZE
from libironic_disk.pure.ropes import Base, Range, Rope, Zeros


class MediaChecksum(StrEnum):
    """What becomes of an implanted checksum (isomd5sum's), which would be wrong after any change."""

    REMOVED = "removed"
    """It is taken out; nothing then claims to know what the medium should be."""
    RENEWED = "renewed"
    """It is made anew, or for the first time, for which every byte of the result has to be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IsoEdit:
    """What to change.

    Attributes:
        files: whole new contents by path; missing files and directories are made.
        boot_images: new contents, of the same size, by the place in :attr:`IsoImage.boot_images`; meant for those that
            are no file of the tree.
        volume_id: the new label, at most 32 characters of printable ASCII; None keeps the old one.
        media_checksum: what becomes of an implanted checksum. Without any other change it is only renewed.
    """

    files: Mapping[str, Rope] = field(default_factory=dict)
    boot_images: Mapping[int, Rope] = field(default_factory=dict)
    volume_id: str | None = None
    media_checksum: MediaChecksum = MediaChecksum.REMOVED


_PRINTABLE: Final = frozenset(map(chr, range(0x20, 0x7F)))


def edited(image: IsoImage, base: Base, edit: IsoEdit) -> Rope:
    """Return the changed image.

    Args:
        image: what was read from the base.
        base: the image's bytes; behind them there may be others, which contents can have ranges of.
        edit: what to change.

    Raises:
        IsoInvalid: the image is damaged where it has to be changed.
        IsoUnsupported: the change would break what can't be repaired, or asks for what can't be.
        SourceFailed: the base can't be read.
    """
    label = _label(image, edit)
    renewed = edit.media_checksum is MediaChecksum.RENEWED
    whole = Rope.of(Range(0, image.size))
    if not edit.files and not edit.boot_images and label is None:
        return _renewed(image, base, whole, image.primary.end) if renewed else whole
    changes = FileChanges(image, base)
    changes.put(edit.files, edit.boot_images)
    edits = changes.finish()
    edits |= dict(_descriptor_edits(image, label, changes.growth))
    rope = _assembled(image, changes, edits)
    if renewed:
        end = image.primary.end
        return _renewed(image, base, rope, changes.growth.volume_end(end) if changes.growth is not None else end)
    return rope


def _label(image: IsoImage, edit: IsoEdit) -> str | None:
    """Return the label if it becomes another one."""
    label = edit.volume_id
    if label is None or label == image.volume_id:
        return None
    if len(label) > LABEL_SIZE or not set(label) <= _PRINTABLE or label != label.strip():
        reason = f"{label!r} can't be its volume id: at most {LABEL_SIZE} characters of printable ASCII can"
        raise IsoUnsupported(iso=image.name, reason=reason)
    return label


def _descriptor_edits(image: IsoImage, label: str | None, growth: Growth | None) -> dict[int, bytes]:
    edits = []
    for volume in (volume for each in image.descriptors for volume in each.volumes):
        if label is not None:
            edits.append(volume.label_edit(label))
        if growth is not None:
            edits.append(volume.end_edit(growth.volume_end(volume.end)))
        if mediachecksum.has_checksum(volume):
            edits.append(mediachecksum.removal(volume))
    return dict(edits)


def _assembled(image: IsoImage, changes: FileChanges, edits: dict[int, bytes | Rope]) -> Rope:
    growth = changes.growth
    try:
        if growth is None:
            return Rope.of(Range(0, image.size)).overlaid(edits)
        place = growth.place.at
        grown = Rope.of(
            Range(0, min(place, image.size)),
            Zeros(max(0, place - image.size)),
            changes.space.rope(growth.added),
            Range(place, max(0, image.size - place)),
        )
        moved = {growth.moved(offset): content for offset, content in edits.items()}
        tables = table_edits(image.hybrid, growth, changes.files_moved)
        return Rope.of(grown, Zeros(growth.size - grown.size)).overlaid({**moved, **tables})
    except ValueError as error:
        # Of an image that nobody damaged no two things have a byte in common.
        problem = "directories, tables or files of it are in the same place"
        raise IsoInvalid(iso=image.name, problems=(problem,)) from error


def _renewed(image: IsoImage, base: Base, rope: Rope, end: int) -> Rope:
    found = image.media_checksum
    at, text = mediachecksum.renewal(
        rope, base, at=image.primary.at, size=end, supported=found is not None and found.supported
    )
    return rope.overlaid({at: text})
