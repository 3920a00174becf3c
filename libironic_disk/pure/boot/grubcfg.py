"""GRUB's configuration as text: the menu, and the few lines inside the core image that find it.

Every word that comes from outside is put in single quotes, inside which GRUB's script language knows no special
character (GRUB manual, section "Quoting").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from libironic_disk.pure.boot import loadersyntax
from libironic_disk.pure.boot.kernelparams import KernelParameters
from libironic_disk.pure.boot.loadersyntax import LoaderSyntax, grub_quoted

GRUB_DIRECTORY: Final = "/boot/grub"
FIRST_LINE: Final = "# libironic_disk wrote this menu when the machine was deployed."
"""By which a menu of ours is known from one that came with the image."""

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:~-]{0,199}")
_UUID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_VOLUME: Final = re.compile(r"(lvm|mduuid)/[A-Za-z0-9+_.-]+")
_KEPT_IN_TITLES: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialConsole:
    """A serial port that GRUB talks to beside the screen: ``unit`` 0 is ttyS0; ``speed`` in bits per second."""

    unit: int = 0
    speed: int = 115200


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuEntry:
    """One system to boot.

    ``id`` stays the same from one rendering to the next. ``kernel`` and ``initrd`` are paths from the root of the file
    system ``root_uuid``; an empty ``initrd`` means none. ``parameters`` is the whole command line. ``volume`` is GRUB's
    name of the logical volume or mirror that the file system is on, empty for a partition.
    """

    id: str
    title: str
    root_uuid: str
    kernel: str
    initrd: str
    parameters: KernelParameters
    volume: str = ""

    def __post_init__(self) -> None:
        if self.volume and not _VOLUME.fullmatch(self.volume):
            raise ValueError(f"{self.volume!r} is no name of a volume")
        if not _ID.fullmatch(self.id):
            raise ValueError(f"{self.id!r} is no menu entry id: letters, digits and ._+:~- make one")
        if not _UUID.fullmatch(self.root_uuid):
            raise ValueError(f"{self.root_uuid!r} is no file system UUID")
        loadersyntax.check(self.parameters, LoaderSyntax.GRUB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """A whole menu: ``default`` is the id of the entry that boots after ``timeout`` seconds."""

    entries: tuple[MenuEntry, ...]
    default: str
    timeout: int = 5
    serial: SerialConsole | None = None

    def __post_init__(self) -> None:
        ids = [entry.id for entry in self.entries]
        # GRUB boots its first entry, silently, when the default names none.
        if self.default not in ids or len(set(ids)) != len(ids):
            raise ValueError(f"menu ids must be unique and include the default {self.default!r}: {ids}")


def title(text: str) -> str:
    """Return what can be shown of a text from outside: one line, no control characters, of bounded length."""
    shown = "".join(c if c.isprintable() else " " for c in text).strip()
    # Where it is cut there may be blanks again, and whoever shows it once more would call it something else.
    return shown[:_KEPT_IN_TITLES].rstrip()


def early_config(root_uuid: str, *, volume: str = "") -> str:
    """Return the lines for the core image that find the file system with GRUB's directory.

    By UUID, because the disk's number isn't known until the firmware has counted its disks. They are read before
    GRUB's full script language is there: no quotes, no blocks.

    Args:
        root_uuid: the file system's.
        volume: GRUB's name of the logical volume or mirror that it is on. To look there first is no mere hint: a drive
            that fails while GRUB 2.06 looks for volumes, as an empty floppy drive does, makes it miss them all.
    """
    if not _UUID.fullmatch(root_uuid):
        raise ValueError(f"{root_uuid!r} is no file system UUID")
    if volume and not _VOLUME.fullmatch(volume):
        raise ValueError(f"{volume!r} is no name of a volume")
    hint = f"--hint={volume} " if volume else ""
    return f"search --no-floppy --fs-uuid --set=root {hint}{root_uuid}\nset prefix=($root){GRUB_DIRECTORY}\n"


def render(menu: Menu) -> str:
    """Return the text of a ``grub.cfg``."""
    return "\n".join(_lines(menu)) + "\n"


def _lines(menu: Menu) -> Iterator[str]:
    yield FIRST_LINE
    yield from terminal_lines(menu.serial)
    yield f"set default={grub_quoted(menu.default)}"
    yield f"set timeout={menu.timeout}"
    for entry in menu.entries:
        yield ""
        yield from entry_lines(entry)


def terminal_lines(serial: SerialConsole | None) -> Iterator[str]:
    """Yield the commands by which GRUB talks to a serial port too."""
    if serial is None:
        return
    yield f"serial --unit={serial.unit} --speed={serial.speed}"
    # Without that port both commands fail as a whole, and the menu stays on the screen.
    yield "terminal_input console serial"
    yield "terminal_output console serial"


def entry_lines(entry: MenuEntry, *, variable: str = "") -> Iterator[str]:
    """Yield one entry; what ``variable`` holds when it is booted goes to the kernel too, split at spaces."""
    yield f"menuentry {grub_quoted(title(entry.title))} --id {grub_quoted(entry.id)} {{"
    hint = ""
    if entry.volume:
        # GRUB loads these on its own only where its core holds them, and not every core does.
        yield f"  insmod {'lvm' if entry.volume.startswith('lvm/') else 'mdraid1x'}"
        hint = f"--hint={entry.volume} "
    yield f"  search --no-floppy --fs-uuid --set=root {hint}{entry.root_uuid}"
    parameters = loadersyntax.rendered(entry.parameters, LoaderSyntax.GRUB)
    extra = f"${{{variable}}}" if variable else ""
    yield "  " + " ".join(piece for piece in ("linux", grub_quoted(entry.kernel), parameters, extra) if piece)
    if entry.initrd:
        yield f"  initrd {grub_quoted(entry.initrd)}"
    yield "}"
