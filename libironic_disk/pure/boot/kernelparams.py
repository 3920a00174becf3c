"""Kernel parameters: an ordered value, checked once, that every boot loader's configuration is rendered from.

The kernel splits its command line at white space outside double quotes and knows no escape (lib/cmdline.c, next_arg): a
parameter can hold a space, and can't hold a double quote.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from libironic_disk.errors import KernelParametersInvalid

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
        return " ".join(f'"{word}"' if " " in word else word for word in self.words)

    def __contains__(self, name: str) -> bool:
        """Whether a parameter of this name is there, with a value or without."""
        return any(word.partition("=")[0] == name for word in self.words)


def _check(word: str) -> None:
    if not word.strip():
        raise KernelParametersInvalid(parameter=word, reason="it is empty")
    # Newlines above all: they would end the line of a boot loader's configuration and begin one of the writer's choice.
    if not word.isprintable():
        raise KernelParametersInvalid(parameter=word, reason="it has a control character")
    if '"' in word:
        raise KernelParametersInvalid(parameter=word, reason="the kernel can't read a double quote inside a parameter")
