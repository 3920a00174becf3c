"""Which of several systems on a machine boots: seen, chosen, tried and taken back.

Only the multiboot partition is needed, on a disk that is running or on a shelf. A system that is tried boots a counted
number of times; unless it is confirmed, GRUB itself goes back to the one before, with nothing installed in either::

    try_boot("/dev/sda3", "debian-13", tries=3)     # then reboot
    confirm("/dev/sda3")                            # from the new system, once it is found to be well

Whatever is asked for is one write of one sector: a power cut leaves the old choice or the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from libironic_disk import filesystems
from libironic_disk.errors import DeviceFailed, DiskError, PathFailed, SwitchRefused
from libironic_disk.events import Cancellation
from libironic_disk.machine.boot import image_entries, multiboot_directory, rereading
from libironic_disk.machine.boot.multiboot_directory import Switchboard
from libironic_disk.machine.disks import claims
from libironic_disk.pure.boot.menurecord import ImageRecord, MenuRecord, RecordedEntry
from libironic_disk.pure.boot.multimenu import ENTRY_PARAMETER
from libironic_disk.pure.boot.multimenu import confirm_command as confirm_command
from libironic_disk.pure.boot.switching import MAX_TRIES, SwitchState
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.pure.multiboot import bootinfo
from libironic_disk.pure.multiboot.bootinfo import BootInfo

__all__ = [
    "MAX_TRIES",
    "BootEntry",
    "MultibootState",
    "SwitchState",
    "boot_info",
    "boot_once",
    "confirm",
    "confirm_command",
    "get_state",
    "list_entries",
    "refresh",
    "rollback",
    "set_default",
    "try_boot",
    "verify",
]

LOCK_TIMEOUT: Final = 30.0
"""Seconds for which the lock of the disk is waited for, unless the caller says otherwise."""

COMMAND_LINE: Final = Path("/proc/cmdline")
"""By whose ``multiboot.entry=`` a running system knows which entry started it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootEntry:
    """One line of GRUB's menu; ``grub_id`` is its number there, ``image`` the name of the image that it starts."""

    id: str
    grub_id: int
    title: str
    image: str
    image_name: str
    image_uuid: str
    root_uuid: str
    kernel: str
    initrd: str
    parameters: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MultibootState:
    """What boots, by the ids of entries.

    Attributes:
        switch: what GRUB was told.
        boots_next: what it will start next.
        booted: what this machine is running, where that is one of these systems; else empty.
        damage: what on the multiboot partition isn't as it was written.
        unread: of :func:`refresh`, the images that it could not read, each with the reason; their entries stayed.
    """

    switch: SwitchState
    boots_next: str
    booted: str = ""
    damage: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def list_entries(multiboot: str, *, lock_timeout: float = LOCK_TIMEOUT) -> tuple[BootEntry, ...]:
    """Return GRUB's menu, in its order.

    Args:
        multiboot: the node of the multiboot partition, which must not be mounted.
        lock_timeout: seconds to wait for another user's lock on its disk, as of a deployment.

    Raises:
        DeviceLocked: somebody else kept the lock.
        DeviceBusy, DeviceFailed, NotABlockDevice: it is mounted, can't be read, or isn't there.
        PathFailed: a file on it can't be read.
        MultibootDamaged: there is no menu on it.
    """
    return _entries(_look(multiboot, lock_timeout).record)


def boot_info(multiboot: str, *, lock_timeout: float = LOCK_TIMEOUT) -> BootInfo:
    """Return what boot-info.json says of the machine now.

    Raises:
        DeviceError, PathFailed, MultibootDamaged: as for :func:`list_entries`.
    """
    board = _look(multiboot, lock_timeout)
    return bootinfo.of(board.record, default=board.state.default)


def get_state(
    multiboot: str, *, command_line: Path = COMMAND_LINE, lock_timeout: float = LOCK_TIMEOUT
) -> MultibootState:
    """Return what boots next, and what runs now.

    Raises:
        DeviceError, MultibootDamaged: as for :func:`list_entries`.
        PathFailed: a file on it can't be read, or what the kernel says of its start.
    """
    return _state(_look(multiboot, lock_timeout), _started(command_line))


def set_default(
    multiboot: str, key: str | int, *, expect: str | int | None = None, lock_timeout: float = LOCK_TIMEOUT
) -> MultibootState:
    """Have a system boot from now on; what was to be tried or booted once is forgotten.

    Args:
        multiboot: the node of the multiboot partition.
        key: an entry's id, its number in the menu, or an image's UUID or name.
        expect: what the caller takes for the default now; if it is another, nothing is changed.
        lock_timeout: as for :func:`list_entries`.

    Raises:
        EntryUnknown: no system is called so, or several are; nothing was changed.
        SwitchRefused: the default isn't what was expected; nothing was changed.
        DeviceError, MultibootDamaged: as for :func:`list_entries`.
        PathFailed: a file on it can't be read or written, or what the kernel says of its start can't be read.
    """

    def chosen(board: Switchboard) -> SwitchState:
        if expect is not None and (expected := _resolve(board.record, expect)) != board.state.default:
            reason = f"the default is {board.state.default}, and not {expected} as was expected"
            raise SwitchRefused(wanted=f"the default {key}", reason=reason)
        return board.state.set_default(_resolve(board.record, key))

    return _change(multiboot, chosen, lock_timeout)


def boot_once(multiboot: str, key: str | int, *, lock_timeout: float = LOCK_TIMEOUT) -> MultibootState:
    """Have a system boot the next time only; if its kernel can't be loaded, the default boots at once.

    Raises:
        EntryUnknown, DeviceError, MultibootDamaged, PathFailed: as for :func:`set_default`.
    """
    return _change(multiboot, lambda board: board.state.boot_once(_resolve(board.record, key)), lock_timeout)


def try_boot(multiboot: str, key: str | int, *, tries: int = 3, lock_timeout: float = LOCK_TIMEOUT) -> MultibootState:
    """Have a system boot at the next ``tries`` boots, and the default again after them unless it was confirmed.

    A kernel that panics restarts the machine after ten seconds while it is tried. One that hangs needs a watchdog, or
    somebody who turns the power off and on: that counts as a try too.

    Raises:
        SwitchRefused: it is the default, or these are more than nine tries.
        EntryUnknown, DeviceError, MultibootDamaged, PathFailed: as for :func:`set_default`.
    """
    return _change(multiboot, lambda board: board.state.try_boot(_resolve(board.record, key), tries), lock_timeout)


def confirm(multiboot: str, *, command_line: Path = COMMAND_LINE, lock_timeout: float = LOCK_TIMEOUT) -> MultibootState:
    """Make the system that is on trial the default.

    Raises:
        SwitchRefused: none is on trial, or this machine is running another one of these systems.
        DeviceError, MultibootDamaged, PathFailed: as for :func:`set_default`.
    """
    started = _started(command_line)

    def confirmed(board: Switchboard) -> SwitchState:
        booted = _booted(board.record, started)
        if board.state.trial and booted and booted != board.state.trial:
            raise SwitchRefused(wanted=f"confirming {board.state.trial}", reason=f"{booted} is running and not it")
        return board.state.confirm()

    return _change(multiboot, confirmed, lock_timeout, started)


def rollback(multiboot: str, *, lock_timeout: float = LOCK_TIMEOUT) -> MultibootState:
    """End a trial, and forget what was to be booted once: the default boots next.

    Raises:
        SwitchRefused: there is nothing to take back.
        DeviceError, MultibootDamaged, PathFailed: as for :func:`set_default`.
    """
    return _change(multiboot, lambda board: board.state.rollback(), lock_timeout)


def refresh(multiboot: str, nodes: Sequence[str], *, lock_timeout: float = LOCK_TIMEOUT) -> MultibootState:
    """Read the images' kernels again and put a new menu in force, as after a kernel update inside an image.

    Args:
        multiboot: the node of the multiboot partition.
        nodes: where to look for the images: partitions and logical volumes. An image that isn't on any of them keeps
            its entries, as does one that can't be read: a system that is damaged, or hostile, must not keep the others
            from their menu. ``unread`` of the result names the latter.
        lock_timeout: as for :func:`list_entries`.

    Raises:
        BootImpossible: an image has no kernel any more, and it is the default.
        DeviceError, MultibootDamaged, PathFailed: as for :func:`set_default`.
    """
    started = _started(COMMAND_LINE)
    with claims.disk_locked(multiboot, timeout=lock_timeout):
        board = _read(multiboot)
        record, unread = rereading.menu(board, _by_uuid(nodes))
        multiboot_directory.replace_menu(multiboot, board, record)
        return replace(_state(_read(multiboot), started), unread=unread)


def verify(
    multiboot: str, nodes: Sequence[str], *, cancel: Cancellation | None = None, lock_timeout: float = LOCK_TIMEOUT
) -> tuple[str, ...]:
    """Return what would keep a system of the menu from booting, and what of the menu is stale; empty if all is well.

    Every kernel and initial RAM disk is read by GRUB's own code, and compared with what the kernel reads. Not so where
    a file system is mounted: what the kernel has in its journal is not yet in the place where GRUB looks.

    Raises:
        DeviceError, PathFailed, MultibootDamaged: as for :func:`list_entries`.
        ToolMissing: GRUB's code isn't installed.
        Cancelled: the caller wished so.
    """
    switch = cancel or Cancellation()
    # To the end: what is mounted to be read would be in the way of a deployment that begins meanwhile.
    with claims.disk_locked(multiboot, timeout=lock_timeout, cancel=switch):
        return tuple(_problems(_read(multiboot), nodes, switch))


def _problems(board: Switchboard, nodes: Sequence[str], cancel: Cancellation) -> Iterator[str]:
    by_uuid = _by_uuid(nodes)
    yield from board.damage
    for image in board.record.images:
        if missing := [place.uuid for place in image.places if place.uuid not in by_uuid]:
            yield f"{image.name}: no file system with the UUID {' or '.join(missing)} was found"
            continue
        entries = board.record.entries_of(image.name)
        yield from _stale(image, entries, by_uuid)
        yield from image_entries.unreadable(image, entries, by_uuid, cancel)


def _stale(image: ImageRecord, entries: Sequence[RecordedEntry], by_uuid: Mapping[str, str]) -> Iterator[str]:
    try:
        now = image_entries.read(image, by_uuid)
    except DiskError as error:
        yield f"{image.name}: {error}"
        return
    if not now.entries:
        yield f"{image.name}: {now.reason}"
        return
    if tuple(entries) != now.entries:
        newest, listed = now.entries[0].entry.kernel, entries[0].entry.kernel if entries else "nothing"
        yield f"{image.name}: the menu starts {listed}, and its kernels or their parameters changed ({newest}); refresh"


def _look(multiboot: str, lock_timeout: float) -> Switchboard:
    with claims.disk_locked(multiboot, timeout=lock_timeout):
        return _read(multiboot)


def _read(multiboot: str) -> Switchboard:
    with multiboot_directory.opened(multiboot) as tree:
        return multiboot_directory.read(tree)


def _change(
    multiboot: str, change: Callable[[Switchboard], SwitchState], lock_timeout: float, started: str | None = None
) -> MultibootState:
    """Read the state, write what ``change`` makes of it, and keep everybody else off meanwhile.

    All that is read for the answer is read before: what fails behind the write would seem to have changed nothing.
    """
    if started is None:
        started = _started(COMMAND_LINE)
    with (
        claims.disk_locked(multiboot, timeout=lock_timeout),
        multiboot_directory.opened(multiboot, read_only=False) as tree,
    ):
        board = multiboot_directory.read(tree)
        state = change(board)
        multiboot_directory.write_state(tree, state, board.others)
        return _state(replace(board, state=state, damage=()), started)


def _state(board: Switchboard, started: str) -> MultibootState:
    return MultibootState(
        switch=board.state,
        boots_next=board.state.boots_next,
        booted=_booted(board.record, started),
        damage=board.damage,
    )


def _started(command_line: Path) -> str:
    """Return which entry this machine was started by, as its kernel says; empty for none.

    Raises:
        PathFailed: it can't be read. That is no answer: a system that isn't the one on trial could confirm that one.
    """
    try:
        words = command_line.read_text(errors="replace").split()
    except FileNotFoundError:
        return ""
    except OSError as error:
        reason = error.strerror or str(error)
        raise PathFailed(tree="this machine", path=str(command_line), reason=reason) from error
    marks = [word.partition("=")[2] for word in words if word.startswith(f"{ENTRY_PARAMETER}=")]
    return marks[-1] if marks else ""


def _booted(record: MenuRecord, started: str) -> str:
    return started if started in record.ids else ""


def _by_uuid(nodes: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in nodes:
        probed = filesystems.read(node)
        if probed is None or probed.kind not in set(FileSystem) or not probed.uuid:
            continue
        if probed.uuid in found:
            reason = f"it holds the same file system as {found[probed.uuid]}, {probed.uuid}: no UUID tells them apart"
            raise DeviceFailed(device=node, action="looking at", reason=reason)
        found[probed.uuid] = node
    return found


def _entries(record: MenuRecord) -> tuple[BootEntry, ...]:
    return tuple(_entry(number, each, record.image(each.image)) for number, each in enumerate(record.entries))


def _entry(number: int, each: RecordedEntry, image: ImageRecord) -> BootEntry:
    return BootEntry(
        id=each.entry.id,
        grub_id=number,
        title=each.entry.title,
        image=image.name,
        image_name=image.image_name,
        image_uuid=image.image_uuid,
        root_uuid=image.root.uuid,
        kernel=each.entry.kernel,
        initrd=each.entry.initrd,
        parameters=str(each.entry.parameters),
    )


def _resolve(record: MenuRecord, key: str | int) -> str:
    """Return the id of the entry that is called so; an image's name or UUID stands for its first entry."""
    ids = [each.entry.id for each in record.entries]
    if isinstance(key, int) and 0 <= key < len(ids):
        return ids[key]
    return key if isinstance(key, str) and key in ids else bootinfo.of(record).element(key).entry_id
