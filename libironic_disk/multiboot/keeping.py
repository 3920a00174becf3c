"""One system of several is written anew while the others stay as they are.

While its root is being written nothing leads there: its entries leave the menu first, and come back when it is whole.
If something fails in between, the machine boots the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from libironic_disk import filesystems
from libironic_disk.errors import SwitchRefused
from libironic_disk.events import Cancellation, EventSink, Phase, phase
from libironic_disk.machine.boot import multiboot_directory
from libironic_disk.machine.boot.multiboot_directory import Switchboard
from libironic_disk.multiboot.planning import MultibootPlan, uuid_of
from libironic_disk.pure.boot.menurecord import MenuRecord
from libironic_disk.pure.multiboot.arranging import Placed


def switchboard(multiboot: str, images: frozenset[str]) -> Switchboard:
    """Look at what boots, and refuse to write images anew that do; the disk is locked already.

    Raises:
        SwitchRefused: one of them is the default, is on trial, or is to be booted once.
        DeviceBusy, DeviceFailed, MultibootDamaged, PathFailed: the multiboot partition can't be read.
    """
    with multiboot_directory.opened(multiboot) as tree:
        board = multiboot_directory.read(tree)
    in_use = {board.state.default, board.state.once, board.state.trial} - {""}
    known = {each.entry.id: each.image for each in board.record.entries}
    if taken := sorted(entry for entry in in_use if known.get(entry) in images):
        reason = "it is the default, on trial, or booted next; choose another one first"
        raise SwitchRefused(wanted=f"writing {', '.join(taken)} anew", reason=reason)
    return board


def hide(multiboot: str, board: Switchboard, images: frozenset[str]) -> None:
    """Take the entries of some images out of the menu, which none of them is needed in; the disk is locked already.

    Raises:
        DeviceBusy, DeviceFailed, MultibootDamaged, PathFailed: the multiboot partition can't be read or written.
    """
    if not images:
        return
    record = replace(
        board.record,
        entries=tuple(each for each in board.record.entries if each.image not in images),
        default=board.state.default,
    )
    multiboot_directory.replace_menu(multiboot, board, record)


def show(multiboot: str, record: MenuRecord) -> MenuRecord:
    """Put a new menu in force; what was chosen stays chosen. Return the menu as it is now; the disk is locked already.

    Raises:
        SwitchRefused: what is chosen is not in it any more.
        DeviceBusy, DeviceFailed, MultibootDamaged, PathFailed: the multiboot partition can't be read or written.
    """
    with multiboot_directory.opened(multiboot) as tree:
        board = multiboot_directory.read(tree)
    now = replace(record, default=board.state.default)
    multiboot_directory.replace_menu(multiboot, board, now)
    return now


def make_filesystems(wanted: MultibootPlan, nodes: Mapping[Placed, str], sink: EventSink, cancel: Cancellation) -> None:
    """Make the file systems of volumes that keep nothing; each has the UUID that it had, which fstabs know.

    Raises:
        ProgramError: a program failed.
        DeviceFailed: something else than what was made is found.
        Cancelled: the caller wished so.
    """
    for placed in wanted.arrangement.placed:
        uuid = uuid_of(wanted.storage, placed)
        if placed.volume.keep_data or not uuid or placed.volume.filesystem is None:
            continue
        with phase(sink, Phase.FORMAT, f"{placed.volume.filesystem} on {placed.key}"):
            filesystems.make(placed.volume.filesystem, nodes[placed], label="", uuid=uuid, cancel=cancel)
