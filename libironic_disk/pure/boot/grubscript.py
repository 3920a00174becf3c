"""Words and commands of GRUB's script language, which for quotes and variables is a shell's; nothing of it is run.

The texts come from images. The time that it takes is linear in their length, and so is the memory: a few lines of
``set a=$a$a`` would fill any.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

_TOKEN: Final = re.compile(
    r"""
      (?P<blank>(?:[^\S\n]|\\\n)++)
    | (?P<single>'[^']*+'?)
    | (?P<double>"(?:[^"\\]|\\.)*+"?)
    | \\(?P<escaped>.)
    | \$(?:\{(?P<braced>\w++)\}|(?P<variable>\w++))
    | (?P<end>[\n;{}&|<>])
    | (?P<plain>[^\s'"\\$;{}&|<>]++|[\\$])
    """,
    re.DOTALL | re.VERBOSE,
)
_IN_DOUBLE_QUOTES: Final = re.compile(r'\\(?:\n|(?P<escaped>["\\$]))|\$(?:\{(?P<braced>\w+)\}|(?P<variable>\w+))')
_COMMENT: Final = re.compile(r"[^\n]*")
_LONGEST_VALUE: Final = 1024
_ROOM: Final = 1 << 20
"""Characters that variables may add to one text, as opposed to a menu's own: real ones add some hundreds a line."""


class Variables:
    """The variables of one text; when they have added a million characters to it, they stay as they are written."""

    __slots__ = ("_room", "_values")

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)
        self._room = _ROOM

    def set(self, name: str, value: str) -> None:
        """Give a variable another value, unless that is too long to be a real one."""
        if len(value) <= _LONGEST_VALUE:
            self._values[name] = value

    def value(self, match: re.Match[str]) -> str:
        """Return what a variable stands for, and the variable itself where nobody knows."""
        name = match["braced"] or match["variable"]
        found = self._values.get(name)
        if found is None or len(found) > self._room:
            return match[0]
        self._room -= len(found)
        return found

    def expanded(self, text: str) -> str:
        """Put values in the place of the variables in a text, and take the backslashes off, as in double quotes."""
        return _IN_DOUBLE_QUOTES.sub(
            lambda match: self.value(match) if match["braced"] or match["variable"] else match["escaped"] or "", text
        )


class _Words:
    """The words of the command that is being read; a pair of quotes with nothing in it is a word too."""

    __slots__ = ("_done", "_pieces")

    def __init__(self) -> None:
        self._done: list[str] = []
        self._pieces: list[str] = []

    @property
    def inside(self) -> bool:
        """Whether what comes next belongs to a word that has begun."""
        return bool(self._pieces)

    def add(self, text: str) -> None:
        """Add to the word."""
        self._pieces.append(text)

    def add_split(self, text: str) -> None:
        """Add the value of a variable outside of quotes, whose spaces end words."""
        for number, piece in enumerate(re.split(r"\s+", text)):
            if number:
                self.end()
            if piece:
                self.add(piece)

    def end(self) -> None:
        """End the word if one has begun."""
        if self._pieces:
            self._done.append("".join(self._pieces))
            self._pieces = []

    def take(self) -> tuple[str, ...]:
        """End the command, and return its words."""
        self.end()
        words, self._done = tuple(self._done), []
        return words


def commands(text: str, variables: Variables) -> Iterator[tuple[str, ...]]:
    """Yield the commands of a script in their order, and each curly bracket as one.

    A variable has the value that the caller gave it after the command before. An operator such as ``&&`` only ends a
    command. Quotes that aren't closed reach to the end of the text.
    """
    words = _Words()
    position = 0
    while token := _TOKEN.match(text, position):
        position = token.end()
        kind = token.lastgroup
        if kind == "end":
            if command := words.take():
                yield command
            if token[0] in "{}":
                yield (token[0],)
        elif kind == "plain" and token[0].startswith("#") and not words.inside:
            if rest := _COMMENT.match(text, position):
                position = rest.end()
        else:
            _add(words, token, variables)
    if command := words.take():
        yield command


def _add(words: _Words, token: re.Match[str], variables: Variables) -> None:
    match token.lastgroup:
        case "blank":
            # A backslash before the end of a line joins it with the next, in the middle of a word too.
            if token[0].replace("\\\n", ""):
                words.end()
        case "single":
            words.add(token[0].strip("'"))
        case "double":
            words.add(variables.expanded(token[0][1:].removesuffix('"')))
        case "escaped":
            words.add(token["escaped"])
        case "braced" | "variable":
            words.add_split(variables.value(token))
        case _:
            words.add(token[0])
