"""Where in a text a kernel's parameters are written, and what has to become of that place for others to be there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from libironic_disk.errors import LoaderConfigRefused
from libironic_disk.pure.boot import loadersyntax
from libironic_disk.pure.boot.kernelparams import EditedWord, KernelParameters, ParameterChange, printable
from libironic_disk.pure.boot.loadersyntax import LoaderSyntax
from libironic_disk.pure.loaders.config import ConfigKind, KernelLine, Reference

# As lib/cmdline.c, but for the byte A0; a quote that isn't closed reaches to the end.
KERNEL_WORD: Final = re.compile(r'(?:[^\t-\r "]|"[^"]*"?)+')
_NOTHING: Final = " -"
"""How a SYSLINUX label says that it has no parameters, not even those for all labels."""
_SYNTAX: Final = {
    ConfigKind.GRUB: LoaderSyntax.GRUB,
    ConfigKind.SYSLINUX: LoaderSyntax.SYSLINUX,
    ConfigKind.LOADER_ENTRY: LoaderSyntax.LOADER_ENTRY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of the text that stands for some parameters.

    Attributes:
        lead: where the blank before it begins, which goes when it goes.
        start: where the piece itself begins.
        end: where it ends.
        words: the parameters, as they are shown; none where it stands for nothing.
        obstacle: why it can't be written anew, if it can't.
        placeholder: whether it says that there are no parameters, and has to go when there are some.
    """

    lead: int
    start: int
    end: int
    words: tuple[str, ...]
    obstacle: str = ""
    placeholder: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Editable:
    """A kernel's line and where it is written.

    Attributes:
        line: what it says.
        pieces: that stand for its parameters, in their order.
        anchor: where the first parameter would be written if there is none.
        opening: what would have to precede it there.
        shared: the number of the first piece that belongs to other lines too, if any do. These stay as they are, and
            what has to be there for this line alone is written at the anchor.
    """

    line: KernelLine
    pieces: tuple[Piece, ...]
    anchor: int
    opening: str = ""
    shared: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A whole text, read."""

    text: str
    lines: tuple[Editable, ...]
    references: tuple[Reference, ...]


class _Edit(NamedTuple):
    start: int
    end: int
    text: str


def parameters_of(pieces: Sequence[Piece]) -> KernelParameters:
    """Return the parameters that pieces stand for."""
    return KernelParameters(words=tuple(word for piece in pieces for word in piece.words))


def kernel_pieces(text: str, start: int, end: int) -> Iterator[Piece]:
    """Yield the pieces of a text that reaches the kernel as it is."""
    before = start
    for match in KERNEL_WORD.finditer(text, start, end):
        words = printable((match[0].replace('"', ""),)).words
        yield Piece(lead=before, start=match.start(), end=match.end(), words=words)
        before = match.end()


def changed(reading: Reading, change: ParameterChange, kind: ConfigKind) -> str:
    """Return the text with the change made to every kernel's parameters.

    Raises:
        KernelParametersInvalid: the loader can't hand one of the new parameters on as it is.
        LoaderConfigRefused: what is to be changed can't be written anew.
    """
    edits: list[_Edit] = []
    for editable in reading.lines:
        edits += _edits(reading.text, editable, change, kind)
    edits.sort(key=lambda edit: (edit.start, edit.end))
    parts: list[str] = []
    position = 0
    for edit in edits:
        parts += [reading.text[position : edit.start], edit.text]
        position = edit.end
    return "".join((*parts, reading.text[position:]))


def _edits(text: str, editable: Editable, change: ParameterChange, kind: ConfigKind) -> Iterator[_Edit]:
    before = editable.line.parameters.words
    after = change.edited(before)
    if [word.origin for word in after] == list(range(len(before))):
        return
    _check(after, _SYNTAX[kind])
    first, *slots = _slots(editable.pieces, after)
    beginning = _rendered(first, kind)
    local = [list(_local(editable, piece, slot, kind)) for piece, slot in zip(editable.pieces, slots, strict=True)]
    if editable.shared is not None:
        yield from _edits_beside_shared(text, editable, beginning, local)
        return
    if beginning:
        yield _Edit(editable.anchor, editable.anchor, editable.opening + beginning)
    yield from (edit for edits in local for edit in edits)
    if after:
        yield from (_Edit(piece.lead, piece.end, "") for piece in editable.pieces if piece.placeholder)


def _edits_beside_shared(
    text: str, editable: Editable, beginning: str, local: Sequence[Sequence[_Edit]]
) -> Iterator[_Edit]:
    own = editable.shared or 0
    if beginning and own:
        yield _Edit(editable.pieces[0].lead, editable.pieces[0].lead, beginning)
        beginning = ""
    yield from (edit for edits in local[:own] for edit in edits)
    copies = (_copied(text, piece, edits) for piece, edits in zip(editable.pieces[own:], local[own:], strict=True))
    written = beginning + "".join(copies)
    yield _Edit(editable.anchor, editable.anchor, editable.opening + (written or _NOTHING))


def _check(after: Sequence[EditedWord], syntax: LoaderSyntax) -> None:
    new = tuple(word.word for word in after if word.origin is None)
    loadersyntax.check(KernelParameters(words=new), syntax)
    # What is there already may be beyond what we would write; how much the kernel keeps is the same for all.
    loadersyntax.check(KernelParameters(words=tuple(word.word for word in after)), LoaderSyntax.KERNEL)


def _slots(pieces: Sequence[Piece], after: Sequence[EditedWord]) -> list[list[EditedWord]]:
    """Return what is to be written before the first piece, and then what with each piece."""
    owners = [number for number, piece in enumerate(pieces, 1) for _ in piece.words]
    slots: list[list[EditedWord]] = [[] for _ in range(len(pieces) + 1)]
    current = 0
    for word in after:
        current = current if word.origin is None else owners[word.origin]
        slots[current].append(word)
    return slots


def _local(editable: Editable, piece: Piece, slot: Sequence[EditedWord], kind: ConfigKind) -> Iterator[_Edit]:
    """Yield what has to become of one piece."""
    count = len(piece.words)
    kept = slot[:count]
    if len(kept) == count and all(word.origin is not None for word in kept):
        if new := _rendered(slot[count:], kind):
            yield _Edit(piece.end, piece.end, new)
        return
    unknown = any("\ufffd" in word.word for word in kept if word.origin is not None)
    if reason := piece.obstacle or ("a character in it can't be written anew" if unknown else ""):
        raise LoaderConfigRefused(kind=kind, entry=editable.line.title, reason=reason)
    yield _Edit(piece.lead, piece.end, _rendered(slot, kind))


def _rendered(words: Sequence[EditedWord], kind: ConfigKind) -> str:
    return "".join(f" {loadersyntax.rendered_word(word.word, _SYNTAX[kind])}" for word in words)


def _copied(text: str, piece: Piece, edits: Sequence[_Edit]) -> str:
    """Return what a piece says after its edits, to be written at another place."""
    changed = "".join(edit.text for edit in edits)
    stays = not piece.placeholder and all(edit.start == edit.end for edit in edits)
    return f" {text[piece.start : piece.end]}{changed}" if stays else changed
