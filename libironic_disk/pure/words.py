"""Values from callers that no type checker has seen: what is right is put in its type, what is wrong is refused.

Words come from JSON and from Ironic as plain strings, and enumerations are compared by identity here: a ``"grub"`` that
stayed a string would take the wrong branch without an error.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from enum import StrEnum
from functools import cache
from pathlib import PurePath
from typing import Final, TypeGuard, TypeVar, cast, get_args, get_origin, get_type_hints

from libironic_disk.errors import LayoutInvalid

_Word = TypeVar("_Word", bound=StrEnum)

_UNION: Final = type(int | None)
_NO_READERS: Final[Mapping[str, tuple[type, Callable[..., object]]]] = {}


def as_word(kind: type[_Word], value: object, field: str) -> _Word:
    """Return the member of an enumeration that a value is or names.

    Raises:
        LayoutInvalid: it is none; names the field and the allowed words.
    """
    for word in kind:
        if isinstance(value, str) and value == word:
            return word
    found = repr(value) if isinstance(value, str) else _a(value)
    raise LayoutInvalid(problems=(f"{field} is {found}: it must be one of {', '.join(kind)}",))


def check_type(kind: type, value: object, field: str) -> None:
    """Refuse a value of another type; a bool is no int.

    Raises:
        LayoutInvalid: names the field and both types.
    """
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise LayoutInvalid(problems=(f"{field} is {_a(value)}: it must be {_article(_name(kind))}",))


def settle(record: object, *, readers: Mapping[str, tuple[type, Callable[..., object]]] = _NO_READERS) -> None:
    """Check the fields of a frozen dataclass against their annotations, and put enumerations in the place of words.

    A list is taken for a tuple or a set of what the annotation says. A protocol has to be ``runtime_checkable``.
    Mappings are left to whoever uses them.

    Args:
        record: just made.
        readers: for a field that may also be given as another type: that type, and what makes the right one of it.

    Raises:
        LayoutInvalid: with every field that holds something else.
    """
    problems: list[str] = []
    for name, hint in _hints(cast("Hashable", type(record))).items():
        try:
            value = getattr(record, name)
            if name in readers and isinstance(value, readers[name][0]):
                value = readers[name][1](value)
            object.__setattr__(record, name, _settled(hint, value, name))
        except LayoutInvalid as error:
            problems += error.problems
    if problems:
        raise LayoutInvalid(problems=tuple(problems))


@cache
def _hints(record: Hashable) -> Mapping[str, object]:
    return get_type_hints(record)


def _settled(hint: object, value: object, field: str) -> object:
    if isinstance(hint, _UNION):
        return _one_of(get_args(hint), value, field)
    if get_origin(hint) in (tuple, frozenset):
        return _collection(hint, value, field)
    if not _is_plain(hint):
        return value
    if issubclass(hint, StrEnum):
        return as_word(hint, value, field)
    check_type(hint, value, field)
    return value


def _one_of(hints: tuple[object, ...], value: object, field: str) -> object:
    kinds = [hint for hint in hints if hint is not type(None)]
    if len(kinds) < len(hints) and value is None:
        return None
    if len(kinds) == 1:
        return _settled(kinds[0], value, field)
    plain = [kind for kind in kinds if _is_plain(kind)]
    if len(plain) == len(kinds) and not isinstance(value, tuple(plain)):
        allowed = " or ".join(_name(kind) for kind in plain)
        raise LayoutInvalid(problems=(f"{field} is {_a(value)}: it must be {_article(allowed)}",))
    return value


def _collection(hint: object, value: object, field: str) -> object:
    kind = get_origin(hint) or tuple
    if not isinstance(value, list | tuple | set | frozenset):
        raise LayoutInvalid(problems=(f"{field} is {_a(value)}: it must be {_article(kind.__name__)}",))
    items = [_settled(get_args(hint)[0], item, f"each of {field}") for item in value]
    return kind(items)


def _is_plain(hint: object) -> TypeGuard[type]:
    return isinstance(hint, type) and get_origin(hint) is None


def _name(kind: type) -> str:
    return f"pathlib.{kind.__name__}" if issubclass(kind, PurePath) else kind.__name__


def _a(value: object) -> str:
    return "None" if value is None else _article(type(value).__name__)


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
