"""Answers of management controllers: whatever they are, what comes out is an error of ours, and no slot that isn't one.

An input is what a service has under each path. It is asked over HTTP on the loopback, by sushy, as a controller is.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from random import Random

from libironic_disk.boot.redfish import RedfishNode, RedfishVirtualMedia, Timing
from libironic_disk.errors import VirtualMediaFailed
from libironic_disk.pure.netboot.prepared import BootDevice
from libironic_disk.pure.roles import Firmware
from libironic_disk.units import MIB
from tests.fuzz.json_inputs import Json
from tests.fuzz.mutations import words_of
from tests.support.redfish import Service, service

_SYSTEM, _MANAGER = "/redfish/v1/Systems/1", "/redfish/v1/Managers/1"
_ISO = "http://192.0.2.1/a.iso"
_QUICK = Timing(connect=5, answer=5, attempts=1, pause=0, settle=0)
_WORDS = words_of(
    b"@odata.id|Members|MediaTypes|Inserted|Image|Actions|target|Boot|PowerState|Links|ManagedBy|VirtualMedia",
    b"#VirtualMedia.InsertMedia|#ComputerSystem.Reset|CD|DVD|On|Off|Cd|UsbStick|../|//",
)
_KINDS = (["CD", "DVD"], ["USBStick"], ["CD"], None)


class _Redfish(Json):
    refusals = (VirtualMediaFailed,)
    words = (*Json.words, *_WORDS)
    seconds = (6.0, 1e-4)
    memory = 64 * MIB

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._service: Service | None = None

    def seeds(self, random: Random) -> Iterator[bytes]:
        while True:
            made = Service("")
            for owner in random.sample((_SYSTEM, _MANAGER), random.randint(1, 2)):
                kinds = random.choices(_KINDS, k=random.randint(1, 2))
                made.media(owner, {str(at): each for at, each in enumerate(kinds)}, actions=random.random() < 0.9)
            yield json.dumps(made.pages).encode()

    def examine(self, data: bytes) -> str:
        try:
            pages = json.loads(data)
        except (ValueError, RecursionError):
            return "no JSON"
        if not isinstance(pages, dict):
            return "no service"
        found = self._serving()
        found.pages = pages
        media = RedfishVirtualMedia({"a": RedfishNode(address=found.url)}, timing=_QUICK)
        slots = media.slots("a")
        # sushy hands on what it is given, whatever a type says.
        assert all(type(slot.id) is str and type(slot.inserted) is bool for slot in slots)
        for slot in slots[:2]:
            _ended(lambda: media.insert("a", slot.id, _ISO))  # noqa: B023
            _ended(lambda: media.eject("a", slot.id))  # noqa: B023
        _ended(lambda: media.set_boot_device("a", BootDevice.CDROM, persistent=False, firmware=Firmware.UEFI))
        _ended(lambda: media.power_off("a"))
        return f"{min(len(slots), 3)} slots"

    def _serving(self) -> Service:
        """Begin to serve in the process that asks: each target's is a copy of another, without its threads."""
        if self._service is None:
            logging.getLogger("sushy").setLevel(logging.CRITICAL)
            self._service = self._stack.enter_context(service())
            for path in (f"{_SYSTEM}/Actions/Reset", f"PATCH {_SYSTEM}"):
                self._service.actions[path] = lambda asked: 204
        return self._service


def _ended(step: Callable[[], object]) -> None:
    try:
        step()
    except VirtualMediaFailed as error:
        assert str(error)


TARGET = _Redfish()
