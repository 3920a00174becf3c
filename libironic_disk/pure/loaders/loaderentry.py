"""Entries of the Boot Loader Specification (type 1): one file each in ``loader/entries``.

A line is a key, blanks and a value; ``options`` may come several times (UAPI group, "The Boot Loader Specification").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from libironic_disk.pure.loaders.config import KernelLine, is_kernel, shown
from libironic_disk.pure.loaders.editing import Editable, Piece, Reading, kernel_pieces, parameters_of

_LINE: Final = re.compile(r"^[ \t]*([^\s#][^ \t\r\n]*)[ \t]*([^\r\n]*)", re.ASCII | re.MULTILINE)


class _Field(NamedTuple):
    key: str
    value: str
    key_end: int
    start: int
    end: int


def read(text: str) -> Reading:
    """Return what an entry says; no line where it starts no Linux kernel."""
    fields = list(_fields(text))
    kernels = [field for field in fields if field.key == "linux" and field.value]
    lines = (_editable(text, fields, kernels[-1]),) if kernels and is_kernel(kernels[-1].value) else ()
    return Reading(text=text, lines=lines, references=())


def _fields(text: str) -> Iterator[_Field]:
    for match in _LINE.finditer(text):
        value = match[2].rstrip(" \t")
        yield _Field(match[1].lower(), value, match.end(1), match.start(2), match.start(2) + len(value))


def _editable(text: str, fields: Sequence[_Field], kernel: _Field) -> Editable:
    values: dict[str, list[str]] = {}
    for field in fields:
        values.setdefault(field.key, []).append(field.value)
    options = [field for field in fields if field.key == "options"]
    pieces = tuple(piece for field in options for piece in _pieces(text, field))
    # Where there is no line for options, there will be one after the kernel's.
    anchor = options[0].key_end if options else kernel.end
    line_end = "\r\n" if text[kernel.end : kernel.end + 2] == "\r\n" else "\n"
    return Editable(
        line=KernelLine(
            title=shown((values.get("title") or values.get("version") or [""])[0]),
            kernel=kernel.value,
            initrds=tuple(path for value in values.get("initrd", ()) for path in value.split()),
            parameters=parameters_of(pieces),
        ),
        pieces=pieces,
        anchor=anchor,
        opening="" if options else f"{line_end}options",
    )


def _pieces(text: str, field: _Field) -> Iterator[Piece]:
    return kernel_pieces(text, field.key_end, field.end)
