"""What a distribution's own boot configuration says of its kernels, read as text.

Nothing of it is run: of GRUB's script language there are words, quotes, blocks, ``set`` and variables here, and a
condition is not judged. That finds the entries of every menu that grub-mkconfig writes, and of loader entries (Boot
Loader Specification, type 1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from libironic_disk.pure.boot import grubscript
from libironic_disk.pure.boot.grubscript import Variables

_UNKNOWN: Final = re.compile(r"\$(?:\{\w+\}|\w+)")
_LINUX: Final = frozenset({"linux", "linux16", "linuxefi"})
_INITRD: Final = frozenset({"initrd", "initrd16", "initrdefi"})
_DEFAULTS: Final = ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT")
_OF_THE_OLD_PLACE: Final = frozenset({"root", "ro", "rw", "BOOT_IMAGE", "initrd", "resume", "resume_offset", "boot"})
_LONGEST: Final = 16_384
"""Characters of a setting; kernels keep far less of a command line."""
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEntry:
    """One entry of a menu; the paths are as its author wrote them, seen from the file system that holds them."""

    title: str
    kernel: str
    initrds: tuple[str, ...]
    parameters: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class _Open:
    """An entry that is being read, and how many brackets deep in it."""

    title: str
    depth: int = 0
    kernel: str = ""
    initrds: list[str] = field(default_factory=list)
    parameters: tuple[str, ...] = ()

    def take(self, command: str, arguments: tuple[str, ...]) -> None:
        if command in _LINUX and arguments and not self.kernel:
            self.kernel, self.parameters = arguments[0], arguments[1:]
        elif command in _INITRD and self.kernel:
            self.initrds += _known(arguments)

    def closed(self) -> Iterator[ImageEntry]:
        if self.kernel:
            yield ImageEntry(
                title=self.title, kernel=self.kernel, initrds=tuple(self.initrds), parameters=self.parameters
            )


def from_grub_cfg(text: str, environment: Mapping[str, str] = _NOTHING) -> tuple[ImageEntry, ...]:
    """Return the entries of a ``grub.cfg`` that start a kernel, in their order; those in submenus too.

    Args:
        text: of the file.
        environment: GRUB's variables, as in the image's own environment block.
    """
    return tuple(_grub_entries(text, Variables(environment)))


def _grub_entries(text: str, variables: Variables) -> Iterator[ImageEntry]:
    entry: _Open | None = None
    for command, *rest in grubscript.commands(text, variables):
        arguments = tuple(rest)
        if command in {"menuentry", "submenu"}:
            # An entry ends where the next begins, whatever its brackets say: none takes another one's kernel.
            if entry is not None:
                yield from entry.closed()
            entry = _Open(title=arguments[0] if arguments else "") if command == "menuentry" else None
        elif command == "set" and arguments and "=" in arguments[0]:
            name, _, value = arguments[0].partition("=")
            variables.set(name, value)
        elif entry is not None:
            entry.depth += {"{": 1, "}": -1}.get(command, 0)
            entry.take(command, arguments)
            if command == "}" and entry.depth <= 0:
                yield from entry.closed()
                entry = None
    if entry is not None:
        yield from entry.closed()


def _known(paths: Sequence[str]) -> Iterator[str]:
    """Leave out the variables of which nothing is known; they are empty, as ``$tuned_initrd`` mostly is."""
    return (path for path in paths if not _UNKNOWN.fullmatch(path))


def from_loader_entry(text: str, environment: Mapping[str, str] = _NOTHING) -> ImageEntry | None:
    """Return what a file in ``loader/entries`` says; None where it starts no kernel.

    Args:
        text: of the file.
        environment: what ``$kernelopts`` and the like stand for.
    """
    fields: dict[str, list[str]] = {}
    for line in text.split("\n"):
        key, *value = line.split(None, 1)[:2] or ("",)
        if value and not key.startswith("#"):
            fields.setdefault(key.lower(), []).append(value[0].strip())
    if "linux" not in fields:
        return None
    variables = Variables(environment)
    initrds = variables.expanded(" ".join(fields.get("initrd", ())))
    return ImageEntry(
        title=" ".join(fields.get("title", fields.get("version", ()))),
        kernel=fields["linux"][0],
        initrds=tuple(_known(initrds.split())),
        parameters=split_parameters(variables.expanded(" ".join(fields.get("options", ())))),
    )


def kernel_parameters_of(default_grub: str) -> tuple[str, ...]:
    """Return the parameters that ``/etc/default/grub`` has for every kernel, and for the usual entry of one.

    A value may be put together from the one before, in the ways that shells have for it.
    """
    values = dict.fromkeys(_DEFAULTS, "")
    variables = Variables(values)
    for command in grubscript.commands(default_grub, variables):
        for word in command[1:] if command[0] == "export" else command[:1]:
            name, separator, value = word.partition("=")
            before = values.get(name.removesuffix("+"), "") if name.endswith("+") else ""
            name = name.removesuffix("+")
            if separator and name in values and len(before) + len(value) <= _LONGEST:
                values[name] = before + value
                variables.set(name, values[name])
    return split_parameters(" ".join(values.values()))


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
