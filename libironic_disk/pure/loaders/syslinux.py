"""Configuration files of SYSLINUX, ISOLINUX, PXELINUX and EXTLINUX.

As their core and their menus read them (SYSLINUX 6: com32/elflink/ldlinux/readconfig.c, com32/menu/readconfig.c): a
line begins with a keyword of any case. An ``append`` before the first label is for all labels without one of their own;
``append -`` stands for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from libironic_disk.errors import LoaderConfigRefused
from libironic_disk.pure.loaders.config import (
    MOST_ENTRIES,
    ConfigKind,
    KernelLine,
    Reference,
    is_kernel,
    reference,
    shown,
)
from libironic_disk.pure.loaders.editing import Editable, Piece, Reading, kernel_pieces, parameters_of

_LINE: Final = re.compile(r"^([^\S\n]*)([^\s]*)([^\n]*)", re.ASCII | re.MULTILINE)
_WORD: Final = re.compile(r"[^\x00-\x20]+")
_OTHER_PROGRAMS: Final = frozenset({"localboot", "boot", "bss", "pxe", "fdimage", "comboot", "com32", "config"})
_NO_COMMANDS: Final = frozenset({"quit", "goto", "exit", "separator", "disable", "disabled"})
_MENUS: Final = frozenset({"menu.c32", "vesamenu.c32", "menu", "vesamenu"})


class _Command(NamedTuple):
    """A line: its keyword, and where what follows that begins and ends."""

    indent: str
    keyword: str
    argument: str
    after: int
    end: int
    line_end: str


@dataclass(slots=True, kw_only=True)
class _Label:
    """A label that is being read; ``type`` is the keyword that says what it starts."""

    name: str
    place: _Command
    title: str = ""
    type: str = "kernel"
    kernel: _Command | None = None
    append: _Command | None = None
    initrd: str = ""
    is_command: bool = True


@dataclass(slots=True, kw_only=True)
class _File:
    labels: list[_Label] = field(default_factory=list)
    append: _Command | None = None
    default: _Command | None = None
    references: list[Reference] = field(default_factory=list)


def read(text: str, prefix: str) -> Reading:
    """Return the labels that start a Linux kernel, and the files that are included, or are menus of their own.

    Raises:
        LoaderConfigRefused: there are more labels than in any menu.
    """
    found = _File()
    for command in _commands(text):
        _take(found, command, prefix)
    if len(found.labels) > MOST_ENTRIES:
        reason = f"it has {len(found.labels)} labels, and menus have up to {MOST_ENTRIES}"
        raise LoaderConfigRefused(kind=ConfigKind.SYSLINUX, entry="", reason=reason)
    lines = [editable for label in found.labels if (editable := _editable(text, found, label)) is not None]
    for label in found.labels:
        _refer_to_menu(found, label, prefix)
    if not found.labels and not found.references and (editable := _implicit(text, found)) is not None:
        lines.append(editable)
    return Reading(text=text, lines=tuple(lines), references=tuple(dict.fromkeys(found.references)))


def _commands(text: str) -> Iterator[_Command]:
    """Yield the lines that have a keyword, without the text of help."""
    inside = False
    for match in _LINE.finditer(text):
        keyword = match[2].lower()
        if inside or keyword in {"", "text"}:
            inside = keyword != "endtext" if inside else keyword == "text"
            continue
        # A line ends where a carriage return is, too.
        rest, carriage_return, _ = match[3].partition("\r")
        rest = rest.rstrip(" \t")
        line_end = "\r\n" if carriage_return else "\n"
        yield _Command(match[1], keyword, rest.strip(" \t"), match.end(2), match.end(2) + len(rest), line_end)


def _take(found: _File, command: _Command, prefix: str) -> None:
    keyword, argument = command.keyword, command.argument
    label = found.labels[-1] if found.labels else None
    if keyword == "menu":
        keyword, _, argument = argument.partition(" ")
        _take_menu(found, label, keyword.lower(), argument.strip(), prefix)
    elif keyword == "label":
        found.labels.append(_Label(name=_first(argument), place=command))
    elif keyword == "include":
        found.references.append(reference(ConfigKind.SYSLINUX, _first(argument), prefix))
    elif keyword == "append" and label is None:
        found.append = command
    elif keyword in {"default", "ui"}:
        if found.default is None or keyword == "ui" or found.default.keyword != "ui":
            found.default = command
        program, _, menu = argument.partition(" ")
        if program.rpartition("/")[2].lower() in _MENUS:
            found.references += [reference(ConfigKind.SYSLINUX, path, prefix) for path in menu.split()]
    elif label is not None:
        _take_of_label(label, command)


def _take_menu(found: _File, label: _Label | None, keyword: str, argument: str, prefix: str) -> None:
    if keyword == "include":
        found.references.append(reference(ConfigKind.SYSLINUX, _first(argument), prefix))
    elif label is not None and keyword == "label":
        label.title = argument.replace("^", "")
    elif label is not None and keyword in _NO_COMMANDS:
        label.is_command = False


def _take_of_label(label: _Label, command: _Command) -> None:
    match command.keyword:
        case "append":
            label.append = command
        case "initrd":
            label.initrd = command.argument
        case "kernel" | "linux":
            label.type, label.kernel = command.keyword, command
        case other if other in _OTHER_PROGRAMS:
            label.type, label.kernel = other, command


def _refer_to_menu(found: _File, label: _Label, prefix: str) -> None:
    """Find the menus that a label leads to: it starts a menu's program with their names, or is of the type config."""
    if label.kernel is None:
        return
    program, *arguments = label.kernel.argument.split()[:64] or [""]
    if label.type == "config":
        found.references.append(reference(ConfigKind.SYSLINUX, program, prefix))
    elif label.type in {"kernel", "com32"} and program.rpartition("/")[2].lower() in _MENUS:
        names = arguments + (label.append.argument.split()[:64] if label.append else [])
        # A tilde stands for the file that is being read.
        found.references += [reference(ConfigKind.SYSLINUX, name, prefix) for name in names if name not in {"-", "~"}]


def _editable(text: str, found: _File, label: _Label) -> Editable | None:
    if label.type in _OTHER_PROGRAMS or not label.is_command:
        return None
    kernel = _first(label.kernel.argument) if label.kernel else label.name
    if not kernel or not is_kernel(kernel):
        return None
    place = label.kernel or label.place
    own = tuple(_after_first(text, label.kernel)) if label.kernel else ()
    append = label.append or found.append
    pieces = own + (tuple(_append_pieces(text, append)) if append else ())
    anchor, opening, shared = place.end, f"{place.line_end}{place.indent or '  '}append", None
    if label.append:
        anchor, opening = label.append.after, ""
    elif found.append:
        shared = len(own)
    elif own:
        anchor, opening = own[0].lead, ""
    return Editable(
        line=_line(label.title or label.name, kernel, label.initrd, pieces),
        pieces=pieces,
        anchor=anchor,
        opening=opening,
        shared=shared,
    )


def _implicit(text: str, found: _File) -> Editable | None:
    """Return the kernel that ``default`` names where there are no labels."""
    default = found.default
    if default is None or not is_kernel(kernel := _first(default.argument)) or not kernel or default.keyword == "ui":
        return None
    own = tuple(_after_first(text, default))
    pieces = (*(_append_pieces(text, found.append) if found.append else ()), *own)
    anchor = found.append.after if found.append else _first_end(text, default)
    return Editable(line=_line(kernel, kernel, "", pieces), pieces=pieces, anchor=anchor)


def _line(title: str, kernel: str, initrd: str, pieces: tuple[Piece, ...]) -> KernelLine:
    parameters = parameters_of(pieces)
    named = [word.removeprefix("initrd=") for word in parameters.words if word.startswith("initrd=")]
    initrds = tuple(path for value in (*named, initrd) for path in value.split(",") if path)
    return KernelLine(title=shown(title), kernel=kernel, initrds=initrds, parameters=parameters)


def _append_pieces(text: str, append: _Command) -> Iterator[Piece]:
    if append.argument == "-":
        yield Piece(lead=append.after, start=append.end - 1, end=append.end, words=(), placeholder=True)
    else:
        yield from kernel_pieces(text, append.after, append.end)


def _after_first(text: str, command: _Command) -> Iterator[Piece]:
    """Yield what follows the first word on a line: with a kernel's name, its first parameters."""
    return kernel_pieces(text, _first_end(text, command), command.end)


def _first_end(text: str, command: _Command) -> int:
    word = _WORD.search(text, command.after, command.end)
    return word.end() if word else command.end


def _first(argument: str) -> str:
    word = _WORD.search(argument)
    return word[0] if word else ""
