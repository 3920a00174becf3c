"""Values of a document with the paths they have in it, where every defect is collected and none stops the reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar, cast

_Word = TypeVar("_Word", bound=StrEnum)

_SHOWN: Final = 60
_LARGEST_SHOWN: Final = 10**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a document has wrong, and what else is worth saying about it."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """An object of a document. Where a value is wrong, that is noted in ``findings``, and a default stands for it.

    Of something that should have been an object and isn't, nothing more is said: ``readable`` is False.
    """

    values: Mapping[str, object]
    path: str
    findings: Findings
    readable: bool = True

    @classmethod
    def of(
        cls, value: object, path: str, findings: Findings, *, known: Sequence[str], unused: Sequence[str] = ()
    ) -> Fields:
        """Take an object; keys that aren't known, or have no effect, are noted."""
        where = path or "the document"
        if not isinstance(value, Mapping):
            findings.problems.append(f"{where}: {said(value)} where an object is wanted")
            return cls(values={}, path=path, findings=findings, readable=False)
        named = {name: each for name, each in value.items() if isinstance(name, str)}
        if unknown := sorted(name for name in named if name not in (*known, *unused)):
            findings.notes.append(f"{where}: nothing here knows {', '.join(map(said, unknown))}")
        if idle := [name for name in unused if name in named]:
            findings.notes.append(f"{where}: {', '.join(idle)} has no effect here")
        return cls(values=named, path=path, findings=findings)

    def at(self, name: str) -> str:
        """Return the path of a key."""
        return f"{self.path}.{name}" if self.path else name

    def refuse(self, name: str, reason: str) -> None:
        """Note a defect of a key's value."""
        if self.readable:
            self.findings.problems.append(f"{self.at(name)}: {reason}")

    def text(self, name: str, *, default: str | None = None) -> str:
        """Return a text; one without a default has to be there, and not be empty."""
        value = self.values.get(name, default)
        if not isinstance(value, str):
            self._miss(name, "a text")
            return default or ""
        if default is None and not value.strip():
            self.refuse(name, "it is empty")
            return ""
        return value

    def number_as_text(self, name: str, *, default: str | None = None) -> str:
        """Return a text; a whole number is as good, since sizes are often written so."""
        value = self.values.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST_SHOWN:
            return str(value)
        return self.text(name, default=default)

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a truth value; 0 and 1 are, as in Bareon's schema."""
        value = self.values.get(name, default)
        if isinstance(value, int) and value in (0, 1):
            return bool(value)
        self._miss(name, "true or false")
        return default

    def items(self, name: str) -> list[object]:
        """Return a list that has to be there."""
        value = self.values.get(name)
        if isinstance(value, list | tuple):
            return list(value)
        self._miss(name, "a list")
        return []

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self.values.get(name)
        # A text would otherwise be taken for the list of its letters.
        if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
            return tuple(cast("Sequence[str]", value))
        self._miss(name, "a list of texts")
        return ()

    def word(
        self, kind: type[_Word], name: str, *, default: _Word, reasons: Mapping[str, str], required: bool = False
    ) -> _Word:
        """Return a member of an enumeration; ``reasons`` say why words that others know are none here."""
        value = self.values.get(name, None if required else default)
        for word in kind:
            if isinstance(value, str) and value == word:
                return word
        if isinstance(value, str) and value in reasons:
            self.refuse(name, f"{said(value)} is refused: {reasons[value]}")
        else:
            self._miss(name, f"one of {', '.join(kind)}")
        return default

    def _miss(self, name: str, wanted: str) -> None:
        found = f"{said(self.values[name])} where {wanted} is wanted" if name in self.values else f"{wanted} is missing"
        self.refuse(name, found)


def said(value: object) -> str:
    """Return a value for a message: short, on one line, and in characters that every terminal takes."""
    if isinstance(value, str):
        # repr() writes a lone surrogate, which JSON can hold and UTF-8 can't, as an escape.
        return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}..."
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return f"the number {value}" if abs(value) < _LARGEST_SHOWN else "a very large number"
    return "an object" if isinstance(value, Mapping) else "a list"
