"""GRUB's script for several systems: a part that never changes, and two menus of which it reads one.

``grub.cfg`` is written once. It reads the environment block, counts a trial down, and goes on with ``menu-a.cfg`` or
``menu-b.cfg``. A new menu is written where GRUB doesn't look, and one sector of the block makes it the one in force.
Whatever else lies half written on the disk at a power cut is read by nobody.

GRUB's own rules behind this: a default that names no entry boots the first one without a word, so an unknown one is
replaced here; ``fallback`` takes numbers alone (GRUB 2.06, normal/menu.c); ``load_env`` without names would let
the block set any variable.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from libironic_disk.pure.boot.grubcfg import (
    FIRST_LINE,
    GRUB_DIRECTORY,
    MenuEntry,
    SerialConsole,
    entry_lines,
    terminal_lines,
)
from libironic_disk.pure.boot.loadersyntax import grub_quoted
from libironic_disk.pure.boot.switching import (
    CONFIRMED,
    DEFAULT,
    FAILED,
    GENERATION,
    LEFT,
    MAX_TRIES,
    NAMES,
    ONCE,
    TRIAL,
    Generation,
)

CONFIG: Final = f"{GRUB_DIRECTORY}/grub.cfg"
ENVIRONMENT: Final = f"{GRUB_DIRECTORY}/grubenv"
ENTRY_PARAMETER: Final = "multiboot.entry"
"""The kernel parameter by which a running system knows which entry started it."""
MAX_ID: Final = 64
"""Characters of an entry's id: four of them, and what is around them, have to lie in one sector."""
PANIC_SECONDS: Final = 10

_EXTRA: Final = "multiboot_extra"
_SLUG: Final = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiMenu:
    """The entries of all systems; ``default`` is the id of the one that boots where the environment block says nothing.

    Raises:
        ValueError: the ids aren't unique, are too long, or the default is none of them.
    """

    entries: tuple[MenuEntry, ...]
    default: str
    timeout: int = 5

    def __post_init__(self) -> None:
        ids = [entry.id for entry in self.entries]
        if self.default not in ids or len(set(ids)) != len(ids):
            raise ValueError(f"menu ids must be unique and include the default {self.default!r}: {ids}")
        if too_long := [each for each in ids if len(each) > MAX_ID]:
            raise ValueError(f"menu ids have {MAX_ID} characters or fewer: {too_long}")

    def index(self, entry: str) -> int:
        """Return GRUB's number of an entry."""
        return [each.id for each in self.entries].index(entry)


def menu_path(generation: Generation) -> str:
    """Return where a menu lies on the multiboot partition."""
    return f"{GRUB_DIRECTORY}/menu-{generation}.cfg"


def entry_id(name: str, key: str, version: str = "") -> str:
    """Return an id that stays the same for as long as the image does, whichever kernels it gets.

    Args:
        name: of the image, for people.
        key: what tells it from all others, such as its UUID and its name.
        version: of the kernel, for all entries of an image but its first, which boots its newest kernel.
    """
    slug = _SLUG.sub("-", name.lower()).strip("-")[:24].strip("-") or "system"
    first = f"{slug}-{_digest(key)}"
    if not version:
        return first
    made = f"{first}+{version}"
    return made if len(made) <= MAX_ID else f"{made[: MAX_ID - 9]}~{_digest(version)}"


def confirm_command(multiboot_uuid: str) -> str:
    """Return a line for the shell of a system on trial by which it stays; it needs nothing but POSIX tools and mount.

    Run as root, by hand or by whatever watches over the system. One character of GRUB's environment block changes, in
    its first sector and only there: GRUB does the rest at the next boot. In any other system the line changes nothing.
    Its exit status is 0 only if the system is confirmed.

    Args:
        multiboot_uuid: the UUID of the multiboot partition's file system.
    """
    mark = f"sed -n 's/.*{ENTRY_PARAMETER}=\\([^ ]*\\).*/\\1/p' /proc/cmdline"
    change = f"/^{TRIAL}=$e\\$/{{n;s/^{LEFT}=./{LEFT}={CONFIRMED}/;}}"
    # dd writes one sector and no more: a sed that adds a line end would make the block longer, and none for GRUB.
    return (
        f"m=$(mktemp -d) && mount $(findfs UUID={multiboot_uuid}) $m && e=$({mark})"
        f' && sed "{change}" $m{ENVIRONMENT} | dd of=$m{ENVIRONMENT} bs=512 count=1 conv=notrunc,fsync'
        f" && grep -q ^{LEFT}={CONFIRMED} $m{ENVIRONMENT}; s=$?; umount $m; rmdir $m; (exit $s)"
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def render_config(*, serial: SerialConsole | None = None) -> str:
    """Return ``grub.cfg``, the part that decides which system and which menu it is."""
    return "\n".join(_config(serial)) + "\n"


def _config(serial: SerialConsole | None) -> Iterator[str]:
    yield FIRST_LINE
    yield from terminal_lines(serial)
    yield "if [ -s $prefix/grubenv ]; then"
    yield f"  load_env --file $prefix/grubenv {' '.join(NAMES)}"
    yield "fi"
    yield f'set chosen="${{{DEFAULT}}}"'
    yield f"set {_EXTRA}="
    yield f'if [ -n "${{{ONCE}}}" ]; then'
    yield f'  set wanted="${{{ONCE}}}"'
    yield f"  set {ONCE}="
    # A disk that GRUB can't write to would boot it for ever: then it isn't booted once either.
    yield from _if_saved((ONCE,), 'set chosen="${wanted}"')
    yield f'elif [ -n "${{{TRIAL}}}" ]; then'
    yield from _trial()
    yield "fi"
    yield f'if [ "${{{GENERATION}}}" = "{Generation.B}" -a -f $prefix/menu-b.cfg ]; then'
    yield "  source $prefix/menu-b.cfg"
    yield "elif [ -f $prefix/menu-a.cfg ]; then"
    yield "  source $prefix/menu-a.cfg"
    yield "else"
    yield "  source $prefix/menu-b.cfg"
    yield "fi"


def _trial() -> Iterator[str]:
    yield f'  if [ "${{{LEFT}}}" = "{CONFIRMED}" ]; then'
    yield f'    set {DEFAULT}="${{{TRIAL}}}"'
    yield f'    set chosen="${{{TRIAL}}}"'
    yield f"    set {TRIAL}="
    yield f"    set {LEFT}="
    yield f"    save_env --file $prefix/grubenv {DEFAULT} {TRIAL} {LEFT}"
    yield "  else"
    yield "    set left="
    for tries in range(1, MAX_TRIES + 1):
        yield f'    if [ "${{{LEFT}}}" = "{tries}" ]; then set left={tries - 1}; fi'
    yield '    if [ -n "${left}" ]; then'
    yield f'      set {LEFT}="${{left}}"'
    yield from _if_saved((LEFT,), f'set chosen="${{{TRIAL}}}"', indent="      ")
    yield "    else"
    yield f'      set {FAILED}="${{{TRIAL}}}"'
    yield f"      set {TRIAL}="
    yield f"      set {LEFT}="
    yield f"      save_env --file $prefix/grubenv {TRIAL} {LEFT} {FAILED}"
    yield "    fi"
    yield "  fi"


def _if_saved(names: tuple[str, ...], then: str, *, indent: str = "  ") -> Iterator[str]:
    yield f"{indent}if save_env --file $prefix/grubenv {' '.join(names)}; then"
    yield f"{indent}  {then}"
    # A kernel that panics, and an initial RAM disk of Debian's that doesn't find its root, start the machine anew.
    yield f'{indent}  set {_EXTRA}="panic={PANIC_SECONDS}"'
    yield f"{indent}fi"


def _alike(one: MenuEntry, other: MenuEntry) -> bool:
    """Whether two entries start the same image: their ids differ in the kernel's version alone."""
    return one.id.partition("+")[0] == other.id.partition("+")[0]


def render_menu(menu: MultiMenu) -> str:
    """Return ``menu-a.cfg`` or ``menu-b.cfg``: the entries, and which of them is started."""
    return "\n".join(_menu(menu)) + "\n"


def _menu(menu: MultiMenu) -> Iterator[str]:
    yield FIRST_LINE
    yield "set known="
    yield "set found="
    for number, entry in enumerate(menu.entries):
        yield f'if [ "${{{DEFAULT}}}" = {grub_quoted(entry.id)} ]; then set known={number}; fi'
        yield f'if [ "${{chosen}}" = {grub_quoted(entry.id)} ]; then set found={number}; fi'
    yield 'if [ -z "${known}" ]; then'
    yield f"  set {DEFAULT}={grub_quoted(menu.default)}"
    yield f"  set known={menu.index(menu.default)}"
    yield "fi"
    yield f'if [ -z "${{found}}" ]; then set chosen="${{{DEFAULT}}}"; fi'
    yield 'set default="${chosen}"'
    # A kernel that its system has removed: another kernel of the same system is still what was asked for.
    yield "set fallback="
    for entry in menu.entries:
        others = " ".join(
            str(menu.index(each.id)) for each in menu.entries if each is not entry and _alike(each, entry)
        )
        if others:
            yield f'if [ "${{chosen}}" = {grub_quoted(entry.id)} ]; then set fallback="{others}"; fi'
    yield f'if [ "${{chosen}}" != "${{{DEFAULT}}}" ]; then'
    # Of a system that is on trial. Where the default itself can't be loaded, another system is not what was asked for.
    yield '  set fallback="${fallback} ${known}"'
    yield "fi"
    yield f"set timeout={menu.timeout}"
    for entry in menu.entries:
        yield ""
        yield from entry_lines(entry, variable=_EXTRA)
