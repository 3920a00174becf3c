"""JSON that somebody else wrote: read strictly, and kept so that nobody changes it by accident."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NoReturn, cast

from libironic_disk.errors import DocumentInvalid

JsonValue = str | int | float | bool | None | Sequence["JsonValue"] | Mapping[str, "JsonValue"]

_MAX_DEPTH: Final = 100


class JsonObject(Mapping[str, JsonValue]):
    """An object of JSON that can't be changed, all the way down; equal to any mapping with the same contents.

    ``types.MappingProxyType`` would do, were it possible to pickle it.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, JsonValue]) -> None:
        """Take the values as they are now: what happens to ``values`` later has no effect."""
        self._values = {name: freeze(value) for name, value in values.items()}

    def __getitem__(self, name: str) -> JsonValue:
        """Return one value."""
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """Yield the names in their order."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return how many names there are."""
        return len(self._values)

    def __repr__(self) -> str:
        """Return the contents as a dictionary's."""
        return repr(self._values)


def freeze(value: JsonValue) -> JsonValue:
    """Return the same value with tuples for lists and :class:`JsonObject` for dictionaries."""
    if isinstance(value, JsonObject):
        return value
    if isinstance(value, Mapping):
        return JsonObject(value)
    if isinstance(value, list | tuple):
        return tuple(freeze(each) for each in value)
    return value


def load(text: str, *, kind: str) -> object:
    """Return what a JSON text says.

    What the ``json`` module lets pass and no other reader has to: names that come twice, NaN and numbers without an
    end, is refused here, since it couldn't be written again.

    Args:
        text: the document.
        kind: of the document, for the error.

    Raises:
        DocumentInvalid: it isn't JSON, or is nested more than 100 levels deep.
    """
    problems: list[str] = []

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in pairs]
        problems.extend(f"{name} is there twice" for name in sorted({name for name in names if names.count(name) > 1}))
        return dict(pairs)

    def finite(number: str) -> float:
        if math.isinf(float(number)):
            problems.append(f"{number} is too large a number")
        return float(number)

    try:
        document: object = json.loads(text, object_pairs_hook=unique, parse_float=finite, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DocumentInvalid(kind=kind, problems=(f"it is no JSON ({error})",)) from error
    if _depth(document) > _MAX_DEPTH:
        problems.append(f"it is nested more than {_MAX_DEPTH} levels deep")
    if problems:
        raise DocumentInvalid(kind=kind, problems=tuple(problems))
    return document


def dump(document: Mapping[str, JsonValue], *, kind: str) -> str:
    """Return a document as text: ASCII alone, names in alphabetical order, the same bytes for the same values.

    Raises:
        DocumentInvalid: something in it has no form in JSON.
    """
    try:
        # Half a surrogate pair is a valid string in JSON, and has no form in UTF-8 other than its escape.
        text = json.dumps(document, indent=4, ensure_ascii=True, sort_keys=True, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise DocumentInvalid(kind=kind, problems=(f"it can't be written as JSON ({error})",)) from error
    return f"{text}\n"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _plain(value: object) -> dict[str, JsonValue]:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, JsonValue]", value))
    raise TypeError(f"{type(value).__name__} is no type of JSON")


def _depth(document: object) -> int:
    levels, level = 0, [document]
    while level := [each for each in level if isinstance(each, dict | list)]:
        levels += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return levels
