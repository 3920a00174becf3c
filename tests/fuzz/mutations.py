"""Changes of bytes that know nothing of what they mean, and of texts that know a language's words and lines."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from tests.fuzz.engine import Scramble

_BLOCK = 32
_LONGEST = 200
_FORMS = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")


@dataclass
class Draft:
    """Bytes that are being changed, and what may be used for that."""

    data: bytearray
    random: Random
    scramble: Scramble
    words: Sequence[bytes]

    def place(self) -> int:
        """Return where something is, rather than zeros."""
        data, random = self.data, self.random
        for _ in range(40):
            at = random.randrange(len(data) + 1)
            if data[at : at + _BLOCK].strip(b"\0"):
                break
        return at

    def length(self) -> int:
        """Return how much to change: mostly little."""
        return self.random.choice([1, 1, 2, 4, 8, 16, self.random.randint(1, _LONGEST)])

    def lines(self) -> list[bytes]:
        return bytes(self.data).split(b"\n")


def words_of(*rows: bytes) -> tuple[bytes, ...]:
    """Return the words of rows in which ``|`` stands between them."""
    return tuple(word for row in rows for word in row.split(b"|"))


def mutated(data: bytes, random: Random, scramble: Scramble, *, words: Sequence[bytes], fixed: bool = False) -> bytes:
    """Change bytes in one to several ways.

    Args:
        data: what is changed.
        random: decides.
        scramble: libFuzzer's own change.
        words: what means something in them.
        fixed: whether every byte keeps its place, as in an image.
    """
    draft = Draft(bytearray(data), random, scramble, words)
    kinds = _IN_PLACE if fixed else _IN_PLACE + _MOVING
    for _ in range(random.choice([1, 1, 1, 2, 3, 8])):
        random.choice(kinds)(draft)
    return bytes(draft.data)


def crossed(data: bytes, other: bytes, random: Random) -> bytes:
    """Return the start of one and the end of another, cut at line ends or anywhere."""
    if random.random() < 0.5:
        one, two = data.split(b"\n"), other.split(b"\n")
        return b"\n".join(one[: random.randrange(len(one) + 1)] + two[random.randrange(len(two) + 1) :])
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


def _scrambled(draft: Draft) -> None:
    at, length = draft.place(), draft.length()
    before = bytes(draft.data[at : at + length])
    if before:
        after = draft.scramble(before, len(before))[: len(before)]
        draft.data[at : at + length] = after.ljust(len(before), b"\0")


def _bit(draft: Draft) -> None:
    at = draft.place()
    if at < len(draft.data):
        draft.data[at] ^= 1 << draft.random.randrange(8)


def _number(draft: Draft) -> None:
    random, form = draft.random, draft.random.choice(_FORMS)
    size = struct.calcsize(form)
    at = draft.place() // size * size + random.choice([0, 0, 0, 2])
    if at + size > len(draft.data):
        return
    (value,) = struct.unpack_from(form, draft.data, at)
    near = [
        0,
        1,
        2,
        value + 1,
        value - 1,
        2 * value,
        value // 2,
        (1 << 8 * size) - 1,
        1 << 8 * size - 1,
        len(draft.data),
    ]
    struct.pack_into(form, draft.data, at, random.choice(near) % (1 << 8 * size))


def _over(draft: Draft) -> None:
    word = _word(draft)
    at = draft.place()
    draft.data[at : at + len(word)] = word[: len(draft.data) - at]


def _copied(draft: Draft) -> None:
    length = draft.length()
    source, target = draft.place(), draft.place()
    piece = draft.data[source : source + length]
    end = min(target + len(piece), len(draft.data))
    draft.data[target:end] = piece[: end - target]


def _inserted(draft: Draft) -> None:
    at = draft.place()
    draft.data[at:at] = _word(draft)


def _removed(draft: Draft) -> None:
    at = draft.place()
    del draft.data[at : at + draft.length()]


def _repeated(draft: Draft) -> None:
    at = draft.place()
    piece = draft.data[at : at + draft.length()]
    draft.data[at:at] = piece * draft.random.choice([1, 1, 2, 10, 300])


def _cut(draft: Draft) -> None:
    del draft.data[draft.place() :]


def _line_removed(draft: Draft) -> None:
    lines = draft.lines()
    del lines[draft.random.randrange(len(lines))]
    draft.data[:] = b"\n".join(lines)


def _line_copied(draft: Draft) -> None:
    lines = draft.lines()
    lines.insert(draft.random.randrange(len(lines) + 1), draft.random.choice(lines))
    draft.data[:] = b"\n".join(lines)


def _lines_exchanged(draft: Draft) -> None:
    lines = draft.lines()
    one, other = draft.random.randrange(len(lines)), draft.random.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    draft.data[:] = b"\n".join(lines)


def _word(draft: Draft) -> bytes:
    random = draft.random
    return (
        random.choice(draft.words) if draft.words and random.random() < 0.9 else random.randbytes(random.randint(1, 4))
    )


_IN_PLACE: tuple[Callable[[Draft], None], ...] = (_scrambled, _scrambled, _bit, _number, _number, _over, _copied)
_MOVING: tuple[Callable[[Draft], None], ...] = (
    *(_inserted, _inserted, _inserted, _removed, _removed, _repeated, _cut),
    *(_line_removed, _line_copied, _lines_exchanged),
)
