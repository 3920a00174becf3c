"""Kernel parameters: an ordered value, checked once, that every boot loader's configuration is rendered from.

The kernel splits its command line at white space outside double quotes and knows no escape (lib/cmdline.c, next_arg): a
parameter can hold a space, and can't hold a double quote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from libironic_disk.errors import KernelParametersInvalid

SEPARATORS: Final = frozenset({"--", "---"})
"""What stands between the parameters of this start and others: the kernel hands what follows ``--`` to init, and
Debian's and Ubuntu's installers give what follows ``---`` to the system that they install."""

_PIECE: Final = re.compile(r'(?:[^\s"]|"[^"]*")+')


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelParameters:
    """What the kernel gets on its command line, one parameter a word, unquoted.

    Raises:
        KernelParametersInvalid: a word is empty, or has a double quote or a character that isn't printable.
    """

    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for word in self.words:
            _check(word)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read parameters written as on a command line: ``quiet console=ttyS0 dyndbg="file foo +p"``.

        Raises:
            KernelParametersInvalid: as the class does, and for a quote that isn't closed.
        """
        rest = _PIECE.sub("", text)
        if '"' in rest:
            raise KernelParametersInvalid(parameter=text, reason="a double quote is not closed")
        if any(not character.isprintable() for character in text):
            raise KernelParametersInvalid(parameter=text, reason="it has a control character")
        return cls(words=tuple(piece.replace('"', "") for piece in _PIECE.findall(text)))

    def __add__(self, other: KernelParameters) -> KernelParameters:
        """Return these parameters followed by the others; for most parameters the kernel takes the last."""
        return KernelParameters(words=self.words + other.words)

    def __str__(self) -> str:
        """Return the command line in the kernel's own syntax."""
        return " ".join(quoted_for_kernel(word) for word in self.words)

    def __contains__(self, name: str) -> bool:
        """Whether a parameter of this name is there, with a value or without."""
        return any(name_of(word) == name for word in self.words)


class EditedWord(NamedTuple):
    """A word after a change, and its number among the words before; None if it wasn't among them."""

    word: str
    origin: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterChange:
    """What is to become of a kernel's parameters; made twice, it does no more than once.

    Attributes:
        append: put before the first separator, or at the end; not where they are the last ones already.
        replace: each stands for all of its name, where the first of these was; appended where there was none.
        delete: names, which go with any value or none, and whole words ``name=value``; before and after separators.
            What is replaced isn't deleted.

    Raises:
        KernelParametersInvalid: a separator is to be appended or put in the place of something.
    """

    append: KernelParameters = KernelParameters()
    replace: KernelParameters = KernelParameters()
    delete: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for word in self.append.words + self.replace.words:
            # What is appended goes before the first separator: the next time, that would be another place.
            if word in SEPARATORS:
                raise KernelParametersInvalid(parameter=word, reason="a separator can't be put among parameters")

    def __bool__(self) -> bool:
        """Whether it asks for anything."""
        return bool(self.append.words or self.replace.words or self.delete)

    def applied(self, parameters: KernelParameters) -> KernelParameters:
        """Return the parameters after the change."""
        return KernelParameters(words=tuple(edited.word for edited in self.edited(parameters.words)))

    def edited(self, words: Sequence[str]) -> list[EditedWord]:
        """Return the words after the change, each with where it comes from; those that stay keep their order."""
        known = [EditedWord(word, number) for number, word in enumerate(words)]
        known = [word for word in known if not (word.word in SEPARATORS and word.word in self.delete)]
        separator = next((at for at, word in enumerate(known) if word.word in SEPARATORS), len(known))
        before, after = known[:separator], known[separator:]
        appended = [EditedWord(word, None) for word in self.append.words]
        # Taken off before anything is deleted: else a change that deletes a name and appends it would be made anew.
        if appended and [word.word for word in before[-len(appended) :]] == list(self.append.words):
            before, appended = before[: -len(appended)], before[-len(appended) :]
        return self._changed(before, after, appended)

    def _changed(
        self, before: list[EditedWord], after: list[EditedWord], appended: list[EditedWord]
    ) -> list[EditedWord]:
        wanted: dict[str, list[str]] = {}
        for word in self.replace.words:
            wanted.setdefault(name_of(word), []).append(word)
        names = set(wanted)
        doomed = frozenset(self.delete)
        changed: list[list[EditedWord]] = []
        for part in (before, after):
            replaced = _replaced(part, wanted, names)
            changed.append([word for word in replaced if not _is_doomed(word.word, doomed, names)])
        missing = [EditedWord(word, None) for words in wanted.values() for word in words]
        return changed[0] + missing + appended + changed[1]


def _replaced(part: Sequence[EditedWord], wanted: dict[str, list[str]], names: set[str]) -> Iterator[EditedWord]:
    """Put what is ``wanted`` where the first of its name is, and take it from there; leave out the others."""
    for at, word in enumerate(part):
        name = name_of(word.word)
        if name not in names:
            yield word
        for number, new in enumerate(wanted.pop(name, ())):
            same = at + number < len(part) and part[at + number].word == new
            yield part[at + number] if same else EditedWord(new, None)


def _is_doomed(word: str, doomed: frozenset[str], replaced: set[str]) -> bool:
    name = name_of(word)
    return name not in replaced and (name in doomed or word in doomed)


def name_of(word: str) -> str:
    """Return the name of the parameter that a word sets."""
    return word.partition("=")[0]


def quoted_for_kernel(word: str) -> str:
    """Return a word as the kernel's command line has it: in double quotes where it would be split."""
    # lib/ctype.c takes the byte A0 for a space, as Latin 1 has it; in UTF-8 it is the second half of an "à".
    return f'"{word}"' if b" " in (raw := word.encode()) or b"\xa0" in raw else word


def printable(words: Iterable[str]) -> KernelParameters:
    """Return words of somebody else's command line, with a sign in the place of what no parameter of ours can have."""
    return KernelParameters(words=tuple(word for word in map(_shown, words) if word.strip()))


def _shown(word: str) -> str:
    return "".join(character if character.isprintable() and character != '"' else "\ufffd" for character in word)


def _check(word: str) -> None:
    if not word.strip():
        raise KernelParametersInvalid(parameter=word, reason="it is empty")
    # Newlines above all: they would end the line of a boot loader's configuration and begin one of the writer's choice.
    if not word.isprintable():
        raise KernelParametersInvalid(parameter=word, reason="it has a control character")
    if '"' in word:
        raise KernelParametersInvalid(parameter=word, reason="the kernel can't read a double quote inside a parameter")
