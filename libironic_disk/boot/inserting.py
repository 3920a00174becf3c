"""Putting media into the slots of a controller, in the order and with the doubts that hardware has taught."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from libironic_disk.boot.media import Slot, VirtualMedia
from libironic_disk.errors import SlotRefused, VirtualMediaFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a controller may take until it shows what was put in: seconds in all, and between two looks."""

    seconds: float = 60.0
    pause: float = 1.0


def eject_all(media: VirtualMedia, node: str, slots: Iterable[Slot]) -> None:
    """Take out everything, also where the controller says that there is nothing: some say so of a medium that is there.

    Raises:
        VirtualMediaFailed: the controller refuses to take out a medium that it does show.
    """
    for slot in slots:
        try:
            media.eject(node, slot.id)
        except VirtualMediaFailed:
            if slot.inserted:
                raise


def require_out(media: VirtualMedia, node: str, ejected: Iterable[Slot]) -> None:
    """Check that media which were ejected aren't shown any more: what is inserted next would be the other proof.

    Raises:
        VirtualMediaFailed: one is.
    """
    urls = {slot.id: slot.url for slot in ejected}
    for slot in media.slots(node):
        if slot.inserted and slot.url and slot.url == urls.get(slot.id):
            reason = f"it answered that it did, and shows {slot.url} still"
            raise VirtualMediaFailed(node=node, operation="eject a medium", reason=reason, slot=slot.id)


def insert_first(media: VirtualMedia, node: str, slots: Iterable[Slot], url: str, patience: Patience) -> Slot:
    """Put a medium into the first of some empty slots that takes it and shows it afterwards; return that slot.

    Raises:
        VirtualMediaFailed: none does. The error is that of the last, and nothing is in any.
    """
    refused = VirtualMediaFailed(node=node, operation="insert a medium", reason="it has no slot for such a one")
    for slot in slots:
        try:
            media.insert(node, slot.id, url)
            if _shows(media, node, slot, url, patience):
                return slot
            reason = f"{patience.seconds:g} s later it doesn't show {url}"
            refused = VirtualMediaFailed(node=node, operation="insert a medium", reason=reason, slot=slot.id)
        except SlotRefused as error:
            refused = error
        eject_all(media, node, (slot,))
    raise refused


def holds(slot: Slot, url: str) -> bool:
    """Whether a slot shows the medium of a URL: some controllers show the file's name only, or nothing of it."""
    return slot.inserted and (not slot.url or slot.url == url or _file_of(slot.url) == _file_of(url))


def _shows(media: VirtualMedia, node: str, slot: Slot, url: str, patience: Patience) -> bool:
    deadline = time.monotonic() + patience.seconds
    while True:
        if any(holds(found, url) for found in media.slots(node) if found.id == slot.id):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(patience.pause)


def _file_of(url: str) -> str:
    try:
        return PurePosixPath(urlsplit(url).path).name
    except ValueError:  # a controller may show anything
        return PurePosixPath(url).name
