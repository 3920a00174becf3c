"""JSON texts: changed as texts, and as documents with another value somewhere."""

from __future__ import annotations

import json
from random import Random

from tests.fuzz.engine import Scramble
from tests.fuzz.mutations import words_of
from tests.fuzz.plain import Plain

_NEST = 150
_LARGEST_COPY = 2000
_LONGEST = 24 * 1024
_VALUES: tuple[object, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 1.5, 1e300, "", "x", "/", "\ud800", "\0", "a\nb", "1e999"),
    *([], [[]], {}, {"a": 1}, [None] * 20, "x" * 3000, "0x83", "50%", "remaining"),
)


class Json(Plain):
    """A target whose inputs are JSON documents."""

    words = words_of(
        b'{|}|[|]|,|:|"|null|true|NaN|-Infinity|1e999|0|-|\\ud800|\\u0000|\\|\xff|\xe2\x80\xa8|[[[[[[[[',
    )

    def mutate(self, data: bytes, random: Random, scramble: Scramble) -> bytes:
        if random.random() < 0.4:
            return super().mutate(data, random, scramble)
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return super().mutate(data, random, scramble)
        for _ in range(random.choice([1, 1, 2, 5])):
            document = _changed(document, random)
        try:
            changed = json.dumps(document, indent=random.choice([None, 2])).encode()
        except (ValueError, RecursionError):
            return data
        return changed if len(changed) <= _LONGEST else data


def _changed(document: object, random: Random) -> object:
    places = _places(document)
    if not places:
        return _copied(random.choice(_VALUES))
    holder, key = random.choice(places)
    value = holder[key]  # type: ignore[index]
    other, its_key = random.choice(places)
    match random.randrange(7):
        case 0:
            del holder[key]  # type: ignore[attr-defined]
        case 1 if isinstance(holder, dict):
            holder[random.choice(["x", "", "\ud800", "version", *map(str, holder)])] = _copied(random.choice(_VALUES))
        case 1 if isinstance(holder, list):
            holder.insert(random.randrange(len(holder) + 1), _copied(value))
        case 2:
            holder[key] = _copied(other[its_key])  # type: ignore[index]
        case 3 if isinstance(value, int) and not isinstance(value, bool):
            holder[key] = value + random.choice([1, -1, 512, -512, 2**20, -(2**20), value])  # type: ignore[index]
        case 4 if isinstance(value, str):
            holder[key] = _text_near(value, random)  # type: ignore[index]
        case 5 if random.random() < 0.05:
            holder[key] = _nested(random.randint(1, _NEST))  # type: ignore[index]
        case _:
            holder[key] = _copied(random.choice(_VALUES))  # type: ignore[index]
    return document


def _copied(value: object) -> object:
    text = json.dumps(value)
    return json.loads(text) if len(text) <= _LARGEST_COPY else None


def _text_near(text: str, random: Random) -> str:
    at = random.randrange(len(text) + 1)
    piece = random.choice(["", "", "0", " ", "-", "/", "%", "\n", "\0", "ä", "\ud800", "'", "\\", "\u2028", "x" * 300])
    return text[:at] + piece + text[at + random.choice([0, 0, 1, 1, 5]) :]


def _nested(depth: int) -> object:
    value: object = 0
    for _ in range(depth):
        value = [value]
    return value


def _places(document: object) -> list[tuple[object, object]]:
    found: list[tuple[object, object]] = []
    waiting = [document]
    while waiting:
        holder = waiting.pop()
        items = (
            list(holder.items())
            if isinstance(holder, dict)
            else list(enumerate(holder))
            if isinstance(holder, list)
            else []
        )
        for key, value in items:
            found.append((holder, key))
            waiting.append(value)
    return found
