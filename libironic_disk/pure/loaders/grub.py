"""Configuration files of GRUB 2: the kernels that they start, wherever that is written.

Nothing is run, and no condition is judged: each ``linux`` command is a line, in an entry, a function or neither. The
names of commands are those of GRUB 2.06 and of the distributions' own (``linuxefi``, ``blscfg``).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from libironic_disk.errors import LoaderConfigRefused
from libironic_disk.pure.boot import grubscript
from libironic_disk.pure.boot.grubscript import SourceWord, Variables
from libironic_disk.pure.boot.kernelparams import printable
from libironic_disk.pure.loaders.config import (
    MOST_ENTRIES,
    ConfigKind,
    KernelLine,
    Reference,
    is_kernel,
    reference,
    shown,
)
from libironic_disk.pure.loaders.editing import KERNEL_WORD, Editable, Piece, Reading, parameters_of

_LINUX: Final = frozenset({"linux", "linux16", "linuxefi"})
_INITRD: Final = frozenset({"initrd", "initrd16", "initrdefi"})
_CONFIGS: Final = frozenset({"source", ".", "configfile", "normal"})
_SYSLINUX_CONFIGS: Final = frozenset({"syslinux_configfile", "syslinux_source"})
# A command may follow these on their line; and these begin and end what is done on a condition.
_BEFORE_COMMANDS: Final = frozenset({"then", "else", "do", "if", "elif", "while", "until", "!"})
_OPENING: Final = frozenset({"if", "for", "while", "until"})
_CLOSING: Final = frozenset({"fi", "done"})
_OPTIONS_WITH_VALUE: Final = frozenset({"--class", "--users", "--hotkey", "--source", "--id"})
_UNKNOWN: Final = re.compile(r"\$(?:\{\w+\}|\w+)", re.ASCII)
_ROOT: Final = re.compile(r"\(\$(?:\{root\}|root)\)(?=/)")
_ASSIGNMENT: Final = re.compile(r"(\w+)=(.*)", re.ASCII | re.DOTALL)
_SET_BY_OPTION: Final = re.compile(r"--set=(?:\d+:)?(\w+)", re.ASCII)
_ESCAPED: Final = re.compile(r"""[\\'"]""")
_ENTRIES: Final = "/loader/entries"


@dataclass(slots=True, kw_only=True)
class _Kernel:
    """A kernel that was found: its command's words, how many of these belong to its name, and what it may depend on."""

    title: str
    kernel: str
    sources: Sequence[SourceWord]
    doubtful: Sequence[frozenset[str]]
    initrds: list[str] = field(default_factory=list)


class _Assignments:
    """What a text says of its variables, to tell those whose value is known for sure."""

    __slots__ = ("_local", "_unsure", "_values")

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._unsure = {"prefix"}
        self._local: set[str] = set()

    def add(self, name: str, value: str, *, on_condition: bool) -> None:
        if on_condition or self._values.setdefault(name, value) != value:
            self._unsure.add(name)
        if on_condition:
            self._local.discard(name)
        else:
            self._local.add(name)

    def doubt(self, name: str) -> None:
        self._unsure.add(name)
        self._local.discard(name)

    def end_entry(self) -> None:
        self._local.clear()

    def not_local(self, names: Sequence[str]) -> frozenset[str]:
        """Return those that this entry doesn't set itself before it uses them."""
        return frozenset(names) - self._local

    def doubtful(self, names: frozenset[str]) -> str:
        return min((name for name in names if name in self._unsure), default="")

    def unknown(self, names: Sequence[str]) -> str:
        return next((name for name in names if name not in self._values), "")


class _Reader:
    __slots__ = (
        "_assignments",
        "_conditions",
        "_kernels",
        "_pending",
        "_titles",
        "_variables",
        "references",
    )

    def __init__(self, prefix: str) -> None:
        self._variables = Variables({"prefix": prefix} if prefix else {})
        self._assignments = _Assignments()
        self._kernels: list[_Kernel] = []
        self._titles = [""]
        self._pending = ""
        self._conditions = 0
        self.references: list[Reference] = []

    def read(self, text: str) -> Iterator[Editable]:
        for command in grubscript.source_commands(text, self._variables):
            self._take(self._without_conditions(command))
        for kernel in self._kernels:
            yield self._editable(kernel)

    def _without_conditions(self, command: Sequence[SourceWord]) -> Sequence[SourceWord]:
        for number, source in enumerate(command):
            word = source.words[0] if len(source.words) == 1 else ""
            self._conditions += word in _OPENING
            if word not in _BEFORE_COMMANDS:
                return command[number:]
        return ()

    def _take(self, command: Sequence[SourceWord]) -> None:
        words = tuple(word for source in command for word in source.words)
        if not words:
            return
        name, arguments = _UNKNOWN.sub("", words[0]), words[1:]
        if name in {"{", "}"} and not arguments:
            self._take_bracket(name)
        elif name in {"menuentry", "submenu", "hiddenentry"}:
            self._pending = _title(arguments) if name != "submenu" else ""
        elif name in _CLOSING:
            self._conditions = max(self._conditions - 1, 0)
        elif name in _LINUX or words[0] in {"$linux", "${linux}"}:
            self._take_kernel(command)
        elif name in _INITRD or words[0] in {"$initrd", "${initrd}"}:
            if self._kernels:
                self._kernels[-1].initrds += [path for path in arguments if not _UNKNOWN.fullmatch(path)]
        else:
            self._take_assignments(name, arguments)
            self._take_reference(name, arguments)

    def _take_bracket(self, bracket: str) -> None:
        # What is done in a function or an entry is done later than what surrounds it.
        self._assignments.end_entry()
        if bracket == "{":
            self._titles.append(self._pending or self._titles[-1])
            self._pending = ""
        elif len(self._titles) > 1:
            self._titles.pop()

    def _take_assignments(self, name: str, arguments: Sequence[str]) -> None:
        if name == "for" and arguments:
            self._assignments.doubt(arguments[0])
        for argument in arguments:
            if match := _SET_BY_OPTION.fullmatch(argument):
                self._assignments.doubt(match[1])
        assignment = arguments[0] if name == "set" and arguments else name
        match = _ASSIGNMENT.fullmatch(assignment)
        # Where the loader's files are is for the caller to know.
        if match and match[1] != "root":
            self._variables.set(match[1], match[2])
            self._assignments.add(match[1], match[2], on_condition=self._conditions > 0)

    def _take_reference(self, name: str, arguments: Sequence[str]) -> None:
        kind = ConfigKind.GRUB
        if name == "blscfg":
            kind, arguments = ConfigKind.LOADER_ENTRY, arguments or (_ENTRIES,)
        elif name in _SYSLINUX_CONFIGS:
            kind, arguments = ConfigKind.SYSLINUX, arguments[-1:]
        elif name not in _CONFIGS:
            return
        for argument in arguments[:1]:
            path = _ROOT.sub("", argument, count=1)
            self.references.append(reference(kind, path, "/" if path.startswith("/") else ""))

    def _take_kernel(self, command: Sequence[SourceWord]) -> None:
        first = next((number for number, source in enumerate(command) if number and source.words), 0)
        if not first or not is_kernel(kernel := command[first].words[0]):
            return
        if len(self._kernels) == MOST_ENTRIES:
            reason = f"it starts more than {MOST_ENTRIES} kernels"
            raise LoaderConfigRefused(kind=ConfigKind.GRUB, entry="", reason=reason)
        sources = command[first:]
        doubtful = [self._assignments.not_local(source.variables) for source in sources]
        self._kernels.append(_Kernel(title=self._titles[-1], kernel=kernel, sources=sources, doubtful=doubtful))

    def _editable(self, kernel: _Kernel) -> Editable:
        head = kernel.sources[0]
        pieces = list(self._pieces(kernel))
        if len(head.words) > 1:
            words = printable(head.words[1:]).words
            reason = "some parameters are in the same variable as the kernel's name"
            pieces.insert(0, Piece(lead=head.end, start=head.end, end=head.end, words=words, obstacle=reason))
        line = KernelLine(
            title=shown(kernel.title),
            kernel=kernel.kernel,
            initrds=tuple(kernel.initrds),
            parameters=parameters_of(pieces),
        )
        return Editable(line=line, pieces=tuple(pieces), anchor=head.end)

    def _pieces(self, kernel: _Kernel) -> Iterator[Piece]:
        """Yield the parameters; where the kernel takes several of GRUB's words for one, these are one piece."""
        sources = kernel.sources
        end = sources[0].end
        for first, last, words in _groups(sources):
            group = sources[first : last + 1]
            names = [name for source in group for name in source.variables]
            doubt = self._assignments.doubtful(frozenset().union(*kernel.doubtful[first : last + 1]))
            # One that is unknown can be taken away with its only word, but not written in another way.
            doubt = doubt or (self._assignments.unknown(names) if len(words) > 1 else "")
            obstacle = f"what ${doubt} stands for isn't certain from this file" if doubt else ""
            yield Piece(lead=end, start=group[0].start, end=group[-1].end, words=words, obstacle=obstacle)
            end = group[-1].end


def read(text: str, prefix: str) -> Reading:
    """Return the kernels that a script starts, and the files that it leads to.

    Args:
        text: of the file.
        prefix: GRUB's directory; nothing if it isn't known.

    Raises:
        LoaderConfigRefused: there are more kernels than in any menu.
    """
    reader = _Reader(prefix)
    lines = tuple(reader.read(text))
    return Reading(text=text, lines=lines, references=tuple(dict.fromkeys(reader.references)))


def _title(arguments: Sequence[str]) -> str:
    """Return the title of an entry, which may come after options."""
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("--"):
            return argument
        if argument in _OPTIONS_WITH_VALUE:
            next(rest, None)
    return ""


def _groups(sources: Sequence[SourceWord]) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Yield the numbers of the first and the last word of GRUB's, and the kernel's words that they are together."""
    owners = [number for number, source in enumerate(sources) if number for _ in source.words]
    chunks = [_handed_on(word) for source in sources[1:] for word in source.words]
    starts = list(accumulate((len(chunk) + 1 for chunk in chunks), initial=0))
    first = last = 0
    words: list[str] = []
    for match in KERNEL_WORD.finditer(" ".join(chunks)):
        begins = owners[bisect_right(starts, match.start()) - 1]
        if begins > last:
            if words:
                yield first, last, tuple(words)
            first, words = begins, []
        last = max(last, owners[bisect_right(starts, match.end() - 1) - 1])
        words += printable((match[0].replace('"', ""),)).words
    if words:
        yield first, last, tuple(words)


def _handed_on(word: str) -> str:
    """Return a word as ``linux`` puts it on the kernel's command line (grub-core/lib/cmdline.c)."""
    escaped = _ESCAPED.sub(r"\\\g<0>", word)
    return f'"{escaped}"' if " " in word else escaped
