"""What a distribution's own boot configuration says of its kernels, read as text.

Nothing of it is run: of GRUB's script language there are words, quotes, blocks, ``set`` and variables here, and a
condition is not judged. That finds the entries of every menu that grub-mkconfig writes, and of loader entries (Boot
Loader Specification, type 1).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

_WORD: Final = re.compile(r"""(?:[^\s'"\\;{}]|\\.|'[^']*'|"(?:[^"\\]|\\.)*"|\$\{\w+\})+""", re.DOTALL)
_PIECE: Final = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|([^'"\\]+)""", re.DOTALL)
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_LINUX: Final = frozenset({"linux", "linux16", "linuxefi"})
_INITRD: Final = frozenset({"initrd", "initrd16", "initrdefi"})
_LONGEST_LINE: Final = 16_384
# A variable made of variables doubles with each line.
_LONGEST_VALUE: Final = 1024
_MOST_VARIABLES: Final = 1000
_OF_THE_OLD_PLACE: Final = frozenset({"root", "ro", "rw", "BOOT_IMAGE", "initrd", "resume", "resume_offset", "boot"})
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEntry:
    """One entry of a menu; the paths are as its author wrote them, seen from the file system that holds them."""

    title: str
    kernel: str
    initrds: tuple[str, ...]
    parameters: tuple[str, ...]


def from_grub_cfg(text: str, environment: Mapping[str, str] = _NOTHING) -> tuple[ImageEntry, ...]:
    """Return the entries of a ``grub.cfg`` that start a kernel, in their order; those in submenus too.

    Args:
        text: of the file.
        environment: GRUB's variables, as in the image's own environment block.
    """
    return tuple(_grub_entries(text, dict(environment)))


def _grub_entries(text: str, variables: dict[str, str]) -> Iterator[ImageEntry]:
    title, kernel = "", ""
    initrds: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    inside = False
    for line in text.split("\n"):
        words = _words(line, variables)
        if not words:
            continue
        command, arguments = words[0], words[1:]
        if command in {"menuentry", "submenu"}:
            # An entry ends where the next begins, whatever its braces say: none takes another one's kernel.
            if inside and kernel:
                yield ImageEntry(title=title, kernel=kernel, initrds=initrds, parameters=parameters)
            inside = command == "menuentry"
            title, kernel, initrds, parameters = arguments[0] if arguments else "", "", (), ()
        elif inside and command in _LINUX and arguments and not kernel:
            kernel, parameters = arguments[0], tuple(arguments[1:])
        elif inside and command in _INITRD and kernel:
            initrds = (*initrds, *arguments)
        elif command == "set" and arguments and "=" in arguments[0]:
            name, _, value = arguments[0].partition("=")
            if len(value) <= _LONGEST_VALUE and len(variables) < _MOST_VARIABLES:
                variables[name] = value
        if inside and line.strip() == "}":
            if kernel:
                yield ImageEntry(title=title, kernel=kernel, initrds=initrds, parameters=parameters)
            inside, kernel = False, ""
    if inside and kernel:
        yield ImageEntry(title=title, kernel=kernel, initrds=initrds, parameters=parameters)


def _words(line: str, variables: Mapping[str, str]) -> list[str]:
    line = line.strip()
    if line.startswith("#") or len(line) > _LONGEST_LINE:
        return []
    return [word for match in _WORD.findall(line) for word in _expanded(match, variables)]


def _expanded(word: str, variables: Mapping[str, str]) -> list[str]:
    """Take the quotes off a word; what a variable outside of quotes holds is split at spaces, as GRUB does."""
    if "'" not in word and '"' not in word:
        text = _VARIABLE.sub(lambda match: variables.get(match[1] or match[2], match[0]), word)
        return re.sub(r"\\(.)", r"\1", text).split() if text != word else [re.sub(r"\\(.)", r"\1", word)]
    pieces = []
    for single, double, escaped, plain in _PIECE.findall(word):
        text = double or plain
        value = _VARIABLE.sub(lambda match: variables.get(match[1] or match[2], match[0]), text) if text else ""
        pieces.append(single or escaped or re.sub(r"\\([\"\\$])", r"\1", value))
    return ["".join(pieces)]


def from_loader_entry(text: str, environment: Mapping[str, str] = _NOTHING) -> ImageEntry | None:
    """Return what a file in ``loader/entries`` says; None where it starts no kernel.

    Args:
        text: of the file.
        environment: what ``$kernelopts`` and the like stand for.
    """
    fields: dict[str, list[str]] = {}
    for line in text.split("\n"):
        key, _, value = line.strip().partition(" ")
        if key and not key.startswith("#"):
            fields.setdefault(key.lower(), []).append(value.strip())
    kernels = [kernel for kernel in fields.get("linux", ()) if kernel]
    if not kernels:
        return None
    options = " ".join(fields.get("options", ()))
    expanded = _VARIABLE.sub(lambda match: environment.get(match[1] or match[2], match[0]), options)
    return ImageEntry(
        title=" ".join(fields.get("title", ())),
        kernel=kernels[0],
        initrds=tuple(word for value in fields.get("initrd", ()) for word in value.split()),
        parameters=split_parameters(expanded),
    )


def kernel_parameters_of(default_grub: str) -> tuple[str, ...]:
    """Return the parameters that ``/etc/default/grub`` has for every kernel, and for the usual entry of one."""
    values: dict[str, str] = {}
    for line in default_grub.split("\n"):
        name, separator, value = line.strip().partition("=")
        if separator and name in {"GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"}:
            try:
                values[name] = " ".join(shlex.split(value, comments=True))
            except ValueError:
                continue
    words = (values.get("GRUB_CMDLINE_LINUX", ""), values.get("GRUB_CMDLINE_LINUX_DEFAULT", ""))
    return split_parameters(" ".join(words))


def split_parameters(text: str) -> tuple[str, ...]:
    """Split a kernel command line at spaces outside of double quotes, and take the quotes off (lib/cmdline.c)."""
    return tuple(piece.replace('"', "") for piece in re.findall(r'(?:[^\s"]|"[^"]*")+', text))


def own_parameters(words: Sequence[str]) -> tuple[str, ...]:
    """Return the parameters of a kernel that are still right on another disk.

    Where its root is, was decided anew; so was what a swap area to wake up from would be. A variable that nobody
    knows, and what no boot loader could pass on, are left out.
    """
    return tuple(word for word in words if _is_own(word))


def _is_own(word: str) -> bool:
    name = word.partition("=")[0]
    return (
        bool(word.strip())
        and word.isprintable()
        and name not in _OF_THE_OLD_PLACE
        and not any(character in word for character in "$\"'\\")
        and word != "--"
    )
