"""The file in which a system says which loaders of its own the firmware should start: shim's ``BOOTX64.CSV``.

Its form is that of shim's README.fallback and fallback.c: ``loader,label,options,comment`` on each line, where the
loader lies in the file's own directory. Quotes mean nothing. shim reads UTF-16 of the firmware's byte order, with or
without a byte order mark, up to the first NUL; vendors also ship UTF-8, and UTF-16 of the other order with a mark.

The file comes from a tenant's image, so whatever is in it is read or refused in words, and nothing is raised.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

LARGEST: Final = 16 * 1024
"""Bytes of a file that is still read; a distribution's has about 100."""

MOST_LINES: Final = 64
LONGEST_NAME: Final = 255
LONGEST_LABEL: Final = 64
"""Characters of a label that are kept: the firmware's menu has one line for it, and its memory little room."""

LONGEST_OPTIONS: Final = 512

_MARKS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_COMMAS: Final = ((b",\0", "utf-16-le"), (b"\0,", "utf-16-be"))
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
# What separates directories, and what FAT has in no name (Microsoft's "FAT: General Overview", long names).
_NOT_IN_A_NAME: Final = frozenset('\\/:*?"<>|')
_LAST_OF_TWO_BYTES: Final = "\u07ff"
_LAST_OF_UCS2: Final = "\uffff"


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvLoader:
    """A line: the loader's file in the CSV's own directory, what the menu shows, and what the loader is told."""

    file: str
    label: str
    options: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootCsv:
    """What a file says, in its order, and what is wrong with it; a problem of a line leaves out that line only."""

    loaders: tuple[CsvLoader, ...] = ()
    problems: tuple[str, ...] = ()


def parse(data: bytes) -> BootCsv:
    """Read a file's bytes, whatever they are."""
    if len(data) > LARGEST:
        return BootCsv(problems=(f"it has more than {LARGEST} bytes",))
    try:
        text = _decoded(data)
    except UnicodeDecodeError as error:
        return BootCsv(problems=(f"it is no text in {error.encoding}",))
    lines = [(number, line) for number, line in enumerate(_LINE_END.split(text.partition("\0")[0]), 1) if line.strip()]
    read = [_line(number, line) for number, line in lines[:MOST_LINES]]
    problems = [found for found in read if isinstance(found, str)]
    if len(lines) > MOST_LINES:
        problems.append(f"it has more than {MOST_LINES} lines; the others are left out")
    if not lines:
        problems.append("it names no loader")
    return BootCsv(loaders=tuple(found for found in read if isinstance(found, CsvLoader)), problems=tuple(problems))


def refusal(name: str) -> str:
    """Return why this can't be a file's or directory's name in a boot entry's path; empty if it can.

    Beside what FAT forbids, that is what doesn't get into an entry: its path is UCS-2 (UEFI 2.10, 10.3.4.4), and
    efibootmgr with libefivar 37 writes whatever takes three bytes in UTF-8 as another character.
    """
    if not name or len(name) > LONGEST_NAME:
        return f"its length isn't 1 to {LONGEST_NAME} characters"
    if name in {".", ".."} or _NOT_IN_A_NAME & set(name):
        return "it isn't the name of one file"
    return "" if _is_plain(name) else "it has characters that can't be shown, or put in a boot entry"


def _decoded(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _text(data[len(mark) :], encoding)
    # Each line has a comma, whatever its letters are.
    pairs = {data[at : at + 2] for at in range(0, len(data), 2)}
    for comma, encoding in _COMMAS:
        if comma in pairs:
            return _text(data, encoding)
    return _text(data, "utf-8")


def _text(data: bytes, encoding: str) -> str:
    if encoding != "utf-8" and len(data) % 2 and data.endswith(b"\0"):
        data = data[:-1]
    return data.decode(encoding)


def _line(number: int, line: str) -> CsvLoader | str:
    # Fields that are left out are empty.
    file, label, options, *_ = [*line.split(","), "", ""]
    file, label = file.strip(), label.strip()
    if why := refusal(file):
        return f"line {number}: {file[:LONGEST_NAME]!r} can't be a loader: {why}"
    if not label:
        return f"line {number}: {file!r} has no label"
    options = options if options.strip() else ""
    if len(options) > LONGEST_OPTIONS or not _is_plain(options):
        return f"line {number}: the options of {file!r} are too long, or can't be put in a boot entry"
    return CsvLoader(file=file, label=_shown(label), options=options)


def _shown(label: str) -> str:
    return "".join(each if each.isprintable() and each <= _LAST_OF_UCS2 else "?" for each in label[:LONGEST_LABEL])


def _is_plain(text: str) -> bool:
    return text.isprintable() and all(each <= _LAST_OF_TWO_BYTES for each in text)
