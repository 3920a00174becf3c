"""Virtual media: what a machine's controller shows the machine as a drive with a medium in it, as a protocol.

The words are Redfish's (schema VirtualMedia). Another controller's client needs the five methods of
:class:`VirtualMedia`; which slot is taken for what, and in which order things are done, is not its business.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from libironic_disk.pure.netboot.prepared import BootDevice
from libironic_disk.pure.roles import Firmware


class MediaKind(StrEnum):
    """As what a slot's medium is shown to the machine; the words are Redfish's MediaTypes."""

    CD = "CD"
    DVD = "DVD"
    USB_STICK = "USBStick"
    FLOPPY = "Floppy"


BOOTABLE: Final = (MediaKind.CD, MediaKind.DVD)
"""What an ISO is booted from, the best first. Some controllers call their only drive a DVD."""

SECOND: Final = (MediaKind.USB_STICK, MediaKind.FLOPPY)
"""What a config drive is put into, the best first. What is offered as a floppy is often a disk of any size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A drive of a controller.

    Attributes:
        id: names it among the machine's slots.
        kinds: as what it can show a medium.
        inserted: whether the controller says that a medium is in it. Some say so when there is none.
        url: what the medium is, if the controller tells.
        group: slots of different groups may be one drive that is seen twice.
    """

    id: str
    kinds: frozenset[MediaKind]
    inserted: bool
    url: str | None = None
    group: str = ""


class VirtualMedia(Protocol):
    """A client of controllers. ``node`` is :attr:`BootTask.node`; the client knows where its controller is.

    Every method may raise VirtualMediaFailed, with what the controller answered.
    """

    def slots(self, node: str) -> tuple[Slot, ...]:
        """Return the slots that media can be put into, those to be tried first at the front."""

    def insert(self, node: str, slot: str, url: str) -> None:
        """Put in what a URL leads to, write-protected. The slot is empty, or was ejected.

        Raises:
            SlotRefused: this slot can't; another may.
        """

    def eject(self, node: str, slot: str) -> None:
        """Take out what is in a slot. That it is empty is no error."""

    def set_boot_device(self, node: str, device: BootDevice, *, persistent: bool, firmware: Firmware) -> None:
        """Set what the machine boots from: at its next start, or at each."""

    def power_off(self, node: str) -> None:
        """Turn the machine off, without asking what runs on it, and return when it is off."""


def of_kinds(slots: tuple[Slot, ...], kinds: tuple[MediaKind, ...]) -> tuple[Slot, ...]:
    """Return the slots that can show a medium as one of these, in the order of the slots within that of the groups.

    Within a group the kinds decide, the best first; groups stay in the order in which the controller has them.
    """
    groups = list(dict.fromkeys(slot.group for slot in slots))
    found = [slot for slot in slots if slot.kinds.intersection(kinds)]

    def rank(slot: Slot) -> tuple[int, int]:
        return groups.index(slot.group), min(kinds.index(kind) for kind in slot.kinds if kind in kinds)

    return tuple(sorted(found, key=rank))


def second_slots(slots: tuple[Slot, ...], first: Slot, kinds: tuple[MediaKind, ...]) -> tuple[Slot, ...]:
    """Return the slots for a second medium while ``first`` holds the first, those of the first kinds at the front."""
    others = tuple(slot for slot in slots if slot.group == first.group and slot.id != first.id)
    return of_kinds(others, kinds)
