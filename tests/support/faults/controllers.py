"""Faults of a controller of machines: one of its answers goes wrong, or all from one on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

from libironic_disk.errors import VirtualMediaFailed
from tests.support import redfish
from tests.support.faults.fault import Counter, Fault, Put
from tests.support.faults.work import Scene
from tests.support.redfish import Json, Service, Trouble

SYSTEM, MANAGER = "/redfish/v1/Systems/1", "/redfish/v1/Managers/1"
CD, STICK = f"{SYSTEM}/VirtualMedia/Cd", f"{SYSTEM}/VirtualMedia/Stick"


@contextmanager
def machine(state: dict[str, Json] | None = None) -> Iterator[Service]:
    """Serve a machine that is on, with a drive for a CD and one for a stick; ``state`` is what it was before."""
    with redfish.service() as service:
        service.media(SYSTEM, {"Cd": ["CD", "DVD"], "Stick": ["USBStick"]})
        page = service.pages[SYSTEM]
        page["PowerState"] = "On"

        def set_boot(asked: Json) -> int:
            boot, wanted = page["Boot"], asked["Boot"]
            assert isinstance(boot, dict)
            assert isinstance(wanted, dict)
            page["Boot"] = boot | wanted
            return 204

        def reset(asked: Json) -> int:
            page["PowerState"] = "Off"
            return 204

        service.actions[f"PATCH {SYSTEM}"] = set_boot
        service.actions[f"{SYSTEM}/Actions/Reset"] = reset
        for path, content in (state or {}).items():
            service.pages[path].clear()
            service.pages[path].update(deepcopy(content))
        yield service


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineScene(Scene):
    """A scene with a machine that has a controller."""

    service: Service


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerFault:
    """A fault of one of the controller's answers."""

    trouble: Trouble
    stays: bool = False
    kills: bool = False

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"the controller {self.trouble}{' from then on' if self.stays else ''}"

    def put(self, scene: Scene, step: int) -> Put:
        """Put it in."""
        assert isinstance(scene, MachineScene)
        counter = Counter()

        def trouble() -> Trouble | None:
            return self.trouble if counter.here(step, stays=self.stays) else None

        def count(_: object) -> int:
            scene.service.trouble = lambda: None
            return counter.seen

        scene.service.trouble = trouble
        return Put(count=count)

    def is_right(self, error: BaseException) -> bool:
        """Whether it is an error of the controller, and says which machine it is."""
        return isinstance(error, VirtualMediaFailed) and "node-1" in str(error)


CONTROLLER_FAULTS: tuple[Fault, ...] = (
    *(ControllerFault(trouble=trouble) for trouble in Trouble),
    ControllerFault(trouble=Trouble.HANGS_UP, stays=True),
    ControllerFault(trouble=Trouble.FAILS, stays=True),
)
