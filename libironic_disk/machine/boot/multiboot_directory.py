"""The files on the multiboot partition: GRUB's modules, two menus with their records, and the environment block.

What says which menu and which system it is, lies in one sector, written in place. All else is written where nobody
reads, and is on the disk before that sector is.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from libironic_disk.errors import DeviceBusy, MultibootDamaged, PathFailed, SwitchRefused
from libironic_disk.machine.boot import grub_directory
from libironic_disk.machine.boot.grub_image import Platform
from libironic_disk.machine.disks import claims
from libironic_disk.machine.trees.mounts import mounted
from libironic_disk.machine.trees.rootfs import RootDir
from libironic_disk.pure.boot import grubenv, menurecord, multimenu, switching
from libironic_disk.pure.boot.grubcfg import GRUB_DIRECTORY, SerialConsole
from libironic_disk.pure.boot.menurecord import MenuRecord
from libironic_disk.pure.boot.multimenu import CONFIG, ENVIRONMENT
from libironic_disk.pure.boot.switching import Generation, SwitchState
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.units import MIB

FILESYSTEM: Final = FileSystem.EXT4
NEEDED: Final = (CONFIG, ENVIRONMENT, *(multimenu.menu_path(each) for each in Generation))
"""What GRUB itself reads before it shows the menu."""

_RECORD_LIMIT: Final = 4 * MIB
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV})


@dataclass(frozen=True, slots=True, kw_only=True)
class Switchboard:
    """What the multiboot partition says: the state, the menu in force, and other variables that GRUB keeps there.

    ``damage`` says what of it could not be read, and was taken for what GRUB would take it for.
    """

    state: SwitchState
    record: MenuRecord
    others: Mapping[str, str]
    damage: tuple[str, ...] = ()


@contextmanager
def opened(node: str, *, read_only: bool = True) -> Iterator[RootDir]:
    """Give the files of the multiboot partition on ``node``, which nobody else may have mounted.

    Raises:
        DeviceBusy: it is in use.
        DeviceFailed: it can't be opened, or holds no file system that GRUB could keep its state on.
    """
    if claims.is_claimed(node):
        raise DeviceBusy(device=node, users=("a mount or another program: unmount it first",))
    with mounted(node, FILESYSTEM, read_only=read_only) as descriptor:
        yield RootDir(descriptor, tree=node)


def prepare(
    tree: RootDir, platforms: Iterable[Platform], record: MenuRecord, *, serial: SerialConsole | None
) -> SwitchState:
    """Write everything onto a new partition, and return the state that it is in.

    Raises:
        PathFailed: a file can't be written: the partition is full.
    """
    for platform in platforms:
        grub_directory.write_modules(tree, platform)
    tree.make_dirs(GRUB_DIRECTORY)
    for generation in Generation:
        write_menu(tree, generation, record)
    tree.write_file(CONFIG, multimenu.render_config(serial=serial).encode())
    state = SwitchState(default=record.default)
    tree.write_file(ENVIRONMENT, grubenv.render(switching.to_variables(state, {}), path=ENVIRONMENT))
    return state


def read(tree: RootDir) -> Switchboard:
    """Read the state and the menu that GRUB would read.

    Raises:
        MultibootDamaged: there is no menu to be read.
        PathFailed: the kernel can't read a file that is there. Whatever GRUB would find in it, nothing is not it.
    """
    damage: list[str] = []
    variables: dict[str, str] = {}
    try:
        variables = grubenv.parse(_read_file(tree, ENVIRONMENT), path=ENVIRONMENT)
    except MultibootDamaged as error:
        damage.append(str(error))
    state = switching.from_variables(variables)
    generation = state.generation if tree.exists(multimenu.menu_path(state.generation)) else state.generation.other
    record = _read_record(tree, generation)
    if state.default not in record.ids:
        if state.default:
            damage.append(f"the default {state.default} is in the menu no more")
        state = replace(state, default=record.default)
    others = {name: value for name, value in variables.items() if name not in switching.NAMES}
    return Switchboard(state=replace(state, generation=generation), record=record, others=others, damage=tuple(damage))


def write_state(tree: RootDir, state: SwitchState, others: Mapping[str, str]) -> None:
    """Write the state in place, the first sector of GRUB's block alone, and read it back.

    A block that is no block any more is replaced by a new one as a whole.

    Raises:
        MultibootDamaged: it has no room, or reads back otherwise.
        PathFailed: it can't be written.
    """
    block = grubenv.render(switching.to_variables(state, others), path=ENVIRONMENT)
    before = b""
    try:
        before = _read_file(tree, ENVIRONMENT)
        grubenv.parse(before, path=ENVIRONMENT)
    except MultibootDamaged:
        tree.write_file(ENVIRONMENT, block)
    else:
        same = before[grubenv.SECTOR :] == block[grubenv.SECTOR :]
        tree.overwrite(ENVIRONMENT, block[: grubenv.SECTOR] if same else block)
    if tree.read_file(ENVIRONMENT, limit=grubenv.SIZE) != block:
        raise MultibootDamaged(path=ENVIRONMENT, reason="it reads back otherwise than it was written")


def write_menu(tree: RootDir, generation: Generation, record: MenuRecord) -> None:
    """Write a menu and its record; in force it is only when :func:`write_state` says so.

    Raises:
        PathFailed: it can't be written.
    """
    tree.write_file(_record_path(generation), menurecord.as_json(record).encode())
    tree.write_file(multimenu.menu_path(generation), multimenu.render_menu(record.menu).encode())


def replace_menu(node: str, board: Switchboard, record: MenuRecord) -> None:
    """Put a new menu in force: written where GRUB isn't looking, chosen by one sector, and then written twice.

    Each step is a mount of its own: GRUB reads no journal, and the end of a mount leaves nothing in it. What was chosen
    meanwhile, as by a system that confirms itself, stays chosen; an entry that is gone is forgotten.

    Args:
        node: the multiboot partition, unmounted, whose disk is locked.
        board: what :func:`read` returned.
        record: the new menu.

    Raises:
        SwitchRefused: the default isn't in it.
        DeviceBusy, DeviceFailed, MultibootDamaged, PathFailed: it can't be written. The old menu is in force still, or
            the new one already.
    """
    idle = board.state.generation.other
    with opened(node, read_only=False) as tree:
        tree.remove_unfinished(GRUB_DIRECTORY)
        write_menu(tree, idle, record)
    with opened(node, read_only=False) as tree:
        now = read(tree)
        state = now.state
        if state.default not in record.ids:
            raise SwitchRefused(wanted=f"a menu without its default {state.default}", reason="choose another one first")
        for gone in now.record.ids - record.ids:
            state = state.forget(gone)
        write_state(tree, replace(state, generation=idle), now.others)
    with opened(node, read_only=False) as tree:
        # For a block that is lost: whichever menu GRUB then takes, it is this one.
        write_menu(tree, idle.other, record)


def _read_record(tree: RootDir, generation: Generation) -> MenuRecord:
    path = _record_path(generation)
    return menurecord.parse(_read_file(tree, path).decode(errors="replace"), path=path)


def _read_file(tree: RootDir, path: str) -> bytes:
    """Return the contents of a file of ours.

    Raises:
        MultibootDamaged: it is missing, or something else than this library wrote.
        PathFailed: the kernel can't read it now.
    """
    try:
        return tree.read_file(path, limit=_RECORD_LIMIT)
    except PathFailed as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno not in _NOT_THERE:
            raise
        raise MultibootDamaged(path=path, reason=error.reason) from error


def _record_path(generation: Generation) -> str:
    return f"{GRUB_DIRECTORY}/menu-{generation}.json"
