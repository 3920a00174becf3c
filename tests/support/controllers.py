"""Controllers of machines that don't keep to the book, played in this process."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from libironic_disk.boot.media import MediaKind, Slot
from libironic_disk.errors import SlotRefused, VirtualMediaFailed
from libironic_disk.pure.netboot.prepared import BootDevice
from libironic_disk.pure.roles import Firmware

CD = Slot(id="cd", kinds=frozenset({MediaKind.CD, MediaKind.DVD}), inserted=False)
DVD = Slot(id="dvd", kinds=frozenset({MediaKind.DVD}), inserted=False)
SECOND_CD = Slot(id="cd2", kinds=frozenset({MediaKind.CD}), inserted=False)
STICK = Slot(id="stick", kinds=frozenset({MediaKind.USB_STICK}), inserted=False)
FLOPPY = Slot(id="floppy", kinds=frozenset({MediaKind.FLOPPY, MediaKind.USB_STICK}), inserted=False)
URL_OF_OTHERS = "http://198.51.100.1/left-there.iso"


def stale(slot: Slot) -> Slot:
    """Return a slot that was left with somebody else's medium."""
    return replace(slot, inserted=True, url=URL_OF_OTHERS)


@dataclass(kw_only=True)
class Controller:
    """A client of one machine's controller, and the controller; ``calls`` is what changed something, in order.

    Attributes:
        present: its slots, and what is in them.
        refuses: slots that show themselves and take nothing.
        ignores: slots that say yes and show nothing.
        stuck: slots that don't give back what is in them.
        lying: slots that don't either, and say that they did.
        nameless: whether it doesn't say what is inserted.
        looks: how often it has to be looked at until it shows what was inserted.
        fails: methods that fail.
        whenever: called before everything that changes something.
    """

    present: tuple[Slot, ...] = (CD, FLOPPY)
    refuses: Collection[str] = ()
    ignores: Collection[str] = ()
    stuck: Collection[str] = ()
    lying: Collection[str] = ()
    nameless: bool = False
    looks: int = 0
    fails: Collection[str] = ()
    whenever: Callable[[str], None] = lambda call: None
    calls: list[str] = field(default_factory=list)
    is_on: bool = True
    device: tuple[BootDevice, bool] | None = None
    _left: int = 0

    def slots(self, node: str) -> tuple[Slot, ...]:
        self._check(node, "slots")
        if self._left:
            self._left -= 1
            return tuple(replace(slot, inserted=False, url=None) for slot in self.present)
        return tuple(replace(slot, url=None) for slot in self.present) if self.nameless else self.present

    def insert(self, node: str, slot: str, url: str) -> None:
        self._note(node, "insert", slot, url)
        found = self.slot(slot)
        if slot in self.refuses:
            raise SlotRefused(node=node, operation="insert a medium", reason="HTTP 405", slot=slot)
        # Where one is in already, some controllers answer yes and do nothing.
        if slot not in self.ignores and not found.inserted:
            self._put(replace(found, inserted=True, url=url))
            self._left = self.looks

    def eject(self, node: str, slot: str) -> None:
        self._note(node, "eject", slot)
        if slot in self.stuck:
            raise VirtualMediaFailed(node=node, operation="eject a medium", reason="HTTP 500", slot=slot)
        if slot not in self.lying:
            self._put(replace(self.slot(slot), inserted=False, url=None))

    def set_boot_device(self, node: str, device: BootDevice, *, persistent: bool, firmware: Firmware) -> None:
        self._note(node, "set_boot_device", device, "always" if persistent else "once", firmware)
        self.device = (device, persistent)

    def power_off(self, node: str) -> None:
        self._note(node, "power_off")
        self.is_on = False

    def slot(self, name: str) -> Slot:
        """What is in a slot now."""
        (found,) = (slot for slot in self.present if slot.id == name)
        return found

    def inserted(self) -> dict[str, str | None]:
        """The URLs of what is in, by slot."""
        return {slot.id: slot.url for slot in self.present if slot.inserted}

    def taken(self) -> list[str]:
        """The calls since the last time."""
        calls, self.calls = self.calls, []
        return calls

    def _put(self, slot: Slot) -> None:
        self.present = tuple(slot if each.id == slot.id else each for each in self.present)

    def _note(self, node: str, method: str, *words: str) -> None:
        call = " ".join((method, *words))
        self.whenever(call)
        self._check(node, method)
        self.calls.append(call)

    def _check(self, node: str, method: str) -> None:
        if method in self.fails:
            raise VirtualMediaFailed(node=node, operation=method, reason="connection refused")
