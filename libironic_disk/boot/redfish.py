"""Virtual media by Redfish (DMTF DSP0266), through sushy; the extra ``redfish`` installs it, and only this needs it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final, Protocol, TypeVar

import sushy
from sushy import exceptions
from sushy.connector import Connector
from sushy.resources.manager.virtual_media import VirtualMedia as Medium
from sushy.resources.system.system import System

from libironic_disk.boot.media import MediaKind, Slot
from libironic_disk.errors import SlotRefused, VirtualMediaFailed
from libironic_disk.pure.netboot.prepared import BootDevice
from libironic_disk.pure.roles import Firmware

_T = TypeVar("_T")

_SOURCES: Final = {
    BootDevice.DISK: sushy.BOOT_SOURCE_TARGET_HDD,
    BootDevice.PXE: sushy.BOOT_SOURCE_TARGET_PXE,
    BootDevice.UEFI_HTTP: sushy.BOOT_SOURCE_TARGET_UEFI_HTTP,
    BootDevice.CDROM: sushy.BOOT_SOURCE_TARGET_CD,
}
_MODES: Final = {Firmware.BIOS: sushy.BOOT_SOURCE_MODE_BIOS, Firmware.UEFI: sushy.BOOT_SOURCE_MODE_UEFI}
_KINDS: Final = {kind.value: kind for kind in MediaKind}
# What a slot answers that can't do it at all.
_CANNOT: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RedfishNode:
    """Where a machine's controller is.

    Attributes:
        address: ``https://192.0.2.7``.
        system: path of the machine in it, such as ``/redfish/v1/Systems/1``; None if it has just one.
        username: of an operator's account.
        password: its password; no ``repr`` shows it.
        verify: whether the certificate is checked, or the file of those that may have signed it.
    """

    address: str
    system: str | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    verify: bool | Path = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a controller may take, in seconds.

    Attributes:
        connect: for the connection.
        answer: for one answer. It may fetch the whole ISO before it answers.
        attempts: how often it is asked when it answers with an error of its own (5xx).
        pause: between these, and between looks whether it has done something.
        settle: until a slot is empty or the machine is off.
    """

    connect: float = 10.0
    answer: float = 120.0
    attempts: int = 3
    pause: float = 3.0
    settle: float = 60.0


class _Request(Protocol):
    method: str


class _Answer(Protocol):
    status_code: int
    url: str
    request: _Request


class _Answered(threading.local):
    """What a controller answered to this thread last, looks apart."""

    last: _Answer | None = None

    def note(self, answer: _Answer) -> None:
        if answer.request.method != "GET":
            self.last = answer


class RedfishVirtualMedia:
    """The slots of machines whose controllers speak Redfish.

    Those of the Systems come before those of the Managers: newer controllers have both, and some then refuse the
    latter. Sessions are kept; any thread may call.

    Args:
        nodes: where the controllers are, by the names of the machines. It is looked into at each call.
        timing: how long they may take.
    """

    def __init__(self, nodes: Mapping[str, RedfishNode], *, timing: Timing | None = None) -> None:
        self._nodes = nodes
        self._timing = timing or Timing()
        self._systems: dict[RedfishNode, System] = {}
        self._answered = _Answered()
        self._lock = threading.Lock()

    def slots(self, node: str) -> tuple[Slot, ...]:
        """Return the slots, as they are now."""
        with self._asking(node, "show its slots"):
            return tuple(_slot(group, medium) for group, medium in self._media(node))

    def insert(self, node: str, slot: str, url: str) -> None:
        """Insert what a URL leads to, write-protected.

        Raises:
            SlotRefused: the slot has no such action, or the controller says that it can't.
            VirtualMediaFailed: it can't be reached, refuses us, or has failed too often.
        """
        with self._asking(node, "insert a medium", slot):
            medium = self._medium(node, slot)
            self._repeated(lambda: medium.insert_media(url, inserted=True, write_protected=True))

    def eject(self, node: str, slot: str) -> None:
        """Take the medium out, and wait until the controller shows that; at most :attr:`Timing.settle` seconds.

        It raises what :meth:`insert` raises.
        """
        with self._asking(node, "eject a medium", slot):
            medium = self._medium(node, slot)
            self._repeated(lambda: self._eject(medium))
            # Some show one for ever that is out. Whether ours is, who inserts the next one sees, or who cleans up.
            self._wait(lambda: not _refreshed(medium).inserted)

    def set_boot_device(self, node: str, device: BootDevice, *, persistent: bool, firmware: Firmware) -> None:
        """Set the boot source override; where the controller lets nobody set the mode, without it."""
        how = sushy.BOOT_SOURCE_ENABLED_CONTINUOUS if persistent else sushy.BOOT_SOURCE_ENABLED_ONCE
        with self._asking(node, f"set the boot device to {device}"):
            system = _refreshed(self._system(node))
            target = _source(system, device)

            def with_mode() -> None:
                system.set_system_boot_options(target=target, enabled=how, mode=_MODES[firmware])

            try:
                self._repeated(with_mode)
            except exceptions.BadRequestError:
                self._repeated(lambda: _refreshed(system).set_system_boot_options(target=target, enabled=how))

    def power_off(self, node: str) -> None:
        """Cut the power if it is on, and wait until it is off.

        Raises:
            VirtualMediaFailed: it stays on.
        """
        with self._asking(node, "turn the machine off"):
            system = self._system(node)
            if _is_off(system):
                return
            self._repeated(lambda: system.reset_system(sushy.RESET_FORCE_OFF))
            if not self._wait(lambda: _is_off(system)):
                reason = f"it is still on after {self._timing.settle:g} s"
                raise VirtualMediaFailed(node=node, operation="turn the machine off", reason=reason)

    def _system(self, node: str) -> System:
        try:
            where = self._nodes[node]
        except KeyError as error:
            reason = "nobody said where its controller is"
            raise VirtualMediaFailed(node=node, operation="answer", reason=reason) from error
        with self._lock:
            system = self._systems.get(where)
        if system is None:
            system = self._connected(where)
            with self._lock:
                self._systems[where] = system
        return system

    def _connected(self, where: RedfishNode) -> System:
        timing = self._timing
        connector = Connector(
            where.address,
            verify=str(where.verify) if isinstance(where.verify, Path) else where.verify,
            response_callback=self._answered.note,
            server_side_retries=timing.attempts,
            server_side_retries_delay=timing.pause,
            connect_timeout=timing.connect,
            default_request_timeout=timing.answer,
        )
        root = sushy.Sushy(where.address, username=where.username, password=where.password, connector=connector)
        return root.get_system(where.system)

    def _media(self, node: str) -> Iterator[tuple[str, Medium]]:
        """Give the media of the system and then of its managers, each with the path of its collection."""
        system = self._system(node)
        for owner in (system, *_managers(system)):
            try:
                collection = owner.virtual_media
                members = collection.get_members()
            except (exceptions.MissingAttributeError, exceptions.ResourceNotFoundError):
                continue
            for medium in members:
                yield collection.path, _refreshed(medium)

    def _medium(self, node: str, slot: str) -> Medium:
        for _, medium in self._media(node):
            if medium.path == slot:
                return medium
        raise SlotRefused(node=node, operation="find a slot", reason="there is none of this name", slot=slot)

    def _eject(self, medium: Medium) -> None:
        """Ask for it, and raise what was refused: sushy keeps an error of the controller's own (5xx) to itself.

        Of an empty slot a refusal means nothing.
        """
        self._answered.last = None
        medium.eject_media()
        answer = self._answered.last
        if answer is not None and answer.status_code >= HTTPStatus.BAD_REQUEST and _refreshed(medium).inserted:
            exceptions.raise_for_response(answer.request.method, answer.url, answer)

    def _repeated(self, ask: Callable[[], _T]) -> _T:
        """Ask again while the controller answers with an error of its own, as many do when they are busy."""
        for _ in range(self._timing.attempts - 1):
            try:
                return ask()
            except exceptions.ServerSideError:
                time.sleep(self._timing.pause)
        return ask()

    def _wait(self, done: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + self._timing.settle
        while not done():
            if time.monotonic() >= deadline:
                return False
            time.sleep(self._timing.pause)
        return True

    @contextmanager
    def _asking(self, node: str, operation: str, slot: str = "") -> Iterator[None]:
        """Turn whatever sushy raises into an error of ours, with the controller's own words."""
        try:
            yield
        except exceptions.SushyError as error:
            kind = SlotRefused if slot and _cannot(error) else VirtualMediaFailed
            raise kind(node=node, operation=operation, reason=_words(error), slot=slot) from error
        # sushy takes a controller at its word, and stumbles over answers that aren't what the schema says.
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            reason = f"its answer can't be understood ({error!r})"
            raise VirtualMediaFailed(node=node, operation=operation, reason=reason, slot=slot) from error


def _managers(system: System) -> tuple[sushy.resources.manager.manager.Manager, ...]:
    try:
        return tuple(system.managers)
    except (exceptions.MissingAttributeError, exceptions.ResourceNotFoundError):
        return ()


def _slot(group: str, medium: Medium) -> Slot:
    kinds = frozenset(_KINDS[kind.value] for kind in medium.media_types or () if kind and kind.value in _KINDS)
    return Slot(id=medium.path, kinds=kinds, inserted=bool(medium.inserted), url=medium.image or None, group=group)


def _refreshed(resource: _T) -> _T:
    """Ask the controller for a resource again, and return it."""
    resource.refresh(force=True)  # type: ignore[attr-defined]
    return resource


def _is_off(system: System) -> bool:
    return bool(_refreshed(system).power_state == sushy.SYSTEM_POWER_STATE_OFF)


def _source(system: System, device: BootDevice) -> sushy.resources.system.constants.BootSource:
    """Return what the controller calls a device; one maker's only name for a virtual CD is that of a USB one."""
    wanted, other = _SOURCES[device], sushy.resources.system.constants.BootSource.USB_CD
    allowed = system.get_allowed_system_boot_source_values()
    return other if device is BootDevice.CDROM and wanted not in allowed and other in allowed else wanted


def _cannot(error: exceptions.SushyError) -> bool:
    if isinstance(error, exceptions.HTTPError):
        return error.status_code in _CANNOT
    return isinstance(error, exceptions.MissingActionError | exceptions.InvalidParameterValueError)


def _words(error: exceptions.SushyError) -> str:
    detail = error.detail if isinstance(error, exceptions.HTTPError) else None
    return f"HTTP {error.status_code}: {detail}" if detail else str(error)
