"""The menu made anew from what the images have now, as after a kernel update inside one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from libironic_disk.errors import BootImpossible, DiskError
from libironic_disk.machine.boot import image_entries
from libironic_disk.machine.boot.image_entries import ImageEntries
from libironic_disk.machine.boot.multiboot_directory import Switchboard
from libironic_disk.pure.boot.menurecord import ImageRecord, MenuRecord


def menu(board: Switchboard, by_uuid: Mapping[str, str]) -> tuple[MenuRecord, tuple[str, ...]]:
    """Return the menu as it is to be, and which images of it can't be read, each with the reason.

    Args:
        board: what the multiboot partition says now.
        by_uuid: devices by the UUIDs of the file systems on them.

    Raises:
        BootImpossible: the default has no kernel any more.
    """
    unread: list[str] = []
    found = [_read_again(image, board.record, by_uuid, unread) for image in board.record.images]
    entries = tuple(entry for each in found for entry in each.entries)
    # What GRUB takes for the default if its block is lost.
    default = board.state.default
    if default not in {each.entry.id for each in entries}:
        reason = f"{board.record.image_of(board.state.default)}, the default, has no kernel for {default} any more"
        raise BootImpossible(device="the machine", reason=f"{reason}; set another default first")
    record = replace(
        board.record,
        images=tuple(each.image for each in found),
        entries=entries,
        default=default,
        left_out=tuple(f"{each.image.name}: {each.reason}" for each in found if each.reason),
    )
    return record, tuple(unread)


def _read_again(image: ImageRecord, record: MenuRecord, by_uuid: Mapping[str, str], unread: list[str]) -> ImageEntries:
    """Return what an image can start now; of one that isn't there, or can't be read, what it could before."""
    before = ImageEntries(image=image, entries=record.entries_of(image.name))
    if any(place.uuid not in by_uuid for place in image.places):
        return before
    try:
        return image_entries.read(image, by_uuid)
    except DiskError as error:
        unread.append(f"{image.name}: {error}")
        return before
