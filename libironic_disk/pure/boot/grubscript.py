"""Words and commands of GRUB's script language, which for quotes and variables is a shell's; nothing of it is run.

The texts come from images. The time that it takes is linear in their length, and so is the memory: a few lines of
``set a=$a$a`` would fill any.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(
    r"""
      (?P<blank>(?:[ \t\r]|\\\n|\\\r\n)+)
    | (?P<single>'[^']*+'?)
    | \$?(?P<double>"(?:[^"\\]|\\.)*+"?)
    | \\(?P<escaped>.)
    | \$(?:\{(?P<braced>\w++|[?#*@])\}|(?P<variable>\w++|[?#*@]))
    | (?P<end>[\n;{}&|<>])
    | (?P<plain>[^ \t\r\n'"\\$;{}&|<>]++|[\\$])
    """,
    re.ASCII | re.DOTALL | re.VERBOSE,
)
_IN_DOUBLE_QUOTES: Final = re.compile(
    r'\\(?:\n|(?P<escaped>["\\$]))|\$(?:\{(?P<braced>\w+|[?#*@])\}|(?P<variable>\w+|[?#*@]))', re.ASCII
)
_SPACES: Final = re.compile(r"[ \t\r\n]+")
_JOINED: Final = re.compile(r"\\\r?\n")
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
        name = name_of_variable(match)
        found = self._values.get(name)
        if found is None or len(found) > self._room:
            return match[0]
        self._room -= len(found)
        return found

    def expanded(self, text: str) -> str:
        """Put values in the place of the variables in a text, and take the backslashes off, as in double quotes."""
        return _IN_DOUBLE_QUOTES.sub(
            lambda match: self.value(match) if name_of_variable(match) else match["escaped"] or "", text
        )


class SourceWord(NamedTuple):
    """A piece of a command without a blank outside of quotes, and where it is in the text.

    Attributes:
        start: where it begins.
        end: where it ends.
        words: what it stands for; several, or none, where it has a variable outside of quotes.
        variables: the names of those in it.
    """

    start: int
    end: int
    words: tuple[str, ...]
    variables: tuple[str, ...]


class _Words:
    """The words of the command that is being read; a pair of quotes with nothing in it is a word too."""

    __slots__ = ("_done", "_end", "_parts", "_pieces", "_start", "_variables")

    def __init__(self) -> None:
        self._done: list[SourceWord] = []
        self._parts: list[str] = []
        self._pieces: list[str] = []
        self._variables: list[str] = []
        self._start = self._end = -1

    @property
    def inside(self) -> bool:
        """Whether what comes next belongs to a word that has begun."""
        return bool(self._pieces)

    def add(self, token: re.Match[str], text: str) -> None:
        """Add a token that stands for ``text`` to the word."""
        if self._start < 0:
            self._start = token.start()
        self._end = token.end()
        self._pieces.append(text)

    def add_quoted(self, token: re.Match[str], variables: Variables) -> None:
        """Add a token in double quotes to the word."""
        inside = token["double"][1:].removesuffix('"')
        if "$" in inside:
            self._variables += filter(None, map(name_of_variable, _IN_DOUBLE_QUOTES.finditer(inside)))
        self.add(token, variables.expanded(inside))

    def add_variable(self, token: re.Match[str], variables: Variables) -> None:
        """Add a variable outside of quotes."""
        if self._start < 0:
            self._start = token.start()
        self._end = token.end()
        self._variables.append(name_of_variable(token))
        self._split(variables.value(token))

    def _split(self, text: str) -> None:
        """Add the value of a variable outside of quotes, whose spaces end words."""
        for number, piece in enumerate(_SPACES.split(text)):
            if number:
                self._end_part()
            if piece:
                self._pieces.append(piece)

    def _end_part(self) -> None:
        if self._pieces:
            self._parts.append("".join(self._pieces))
            self._pieces = []

    def end(self) -> None:
        """End the word if one has begun."""
        if self._start < 0:
            return
        self._end_part()
        self._done.append(SourceWord(self._start, self._end, tuple(self._parts), tuple(self._variables)))
        self._parts, self._variables = [], []
        self._start = -1

    def take(self) -> tuple[SourceWord, ...]:
        """End the command, and return its words."""
        self.end()
        if not self._done:
            return ()
        words, self._done = tuple(self._done), []
        return words


def name_of_variable(match: re.Match[str]) -> str:
    """Return the name of the variable that a token is, or nothing."""
    return match["braced"] or match["variable"] or ""


def commands(text: str, variables: Variables) -> Iterator[tuple[str, ...]]:
    """Yield the commands of a script in their order, and each curly bracket as one.

    A variable has the value that the caller gave it after the command before. An operator such as ``&&`` only ends a
    command. Quotes that aren't closed reach to the end of the text.
    """
    for command in source_commands(text, variables):
        # Most have one word, or one for each piece: a script of brackets alone is read in half the time so.
        words = command[0].words if len(command) == 1 else tuple([word for source in command for word in source.words])
        if words:
            yield words


def source_commands(text: str, variables: Variables) -> Iterator[tuple[SourceWord, ...]]:
    """Yield the same commands, and where each of their words is in the text."""
    words = _Words()
    position = 0
    while token := _TOKEN.match(text, position):
        position = token.end()
        kind = token.lastgroup
        if kind == "end":
            if command := words.take():
                yield command
            if token[0] in "{}":
                yield (SourceWord(token.start(), token.end(), (token[0],), ()),)
        elif kind == "blank":
            # A backslash before the end of a line joins it with the next, in the middle of a word too.
            if "\\" not in token[0] or _JOINED.sub("", token[0]):
                words.end()
        elif kind == "plain" and token[0].startswith("#") and not words.inside:
            if rest := _COMMENT.match(text, position):
                position = rest.end()
        else:
            _add(words, token, variables)
    if command := words.take():
        yield command


def _add(words: _Words, token: re.Match[str], variables: Variables) -> None:
    match token.lastgroup:
        case "plain":
            words.add(token, token[0])
        case "single":
            words.add(token, token[0].strip("'"))
        case "double":
            words.add_quoted(token, variables)
        case "escaped":
            words.add(token, token["escaped"])
        case _:
            words.add_variable(token, variables)
