"""GRUB's environment block: the kilobyte in which it remembers from one boot to the next.

GRUB writes it in place, sector by sector, and knows nothing of journals (GRUB's lib/envblk.c; GRUB manual,
"Environment block"): the file keeps its size and its place for ever. What is ours stands first, so that all of it lies
in the first 512 bytes: a write of it is the write of one sector, which a power cut leaves as it was or as it shall be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from libironic_disk.errors import MultibootDamaged

SIZE: Final = 1024
SECTOR: Final = 512
_HEADER: Final = b"# GRUB Environment Block\n"


def parse(block: bytes, *, path: str) -> dict[str, str]:
    """Return the variables of a block, in their order.

    Raises:
        MultibootDamaged: it has another size, which GRUB would not write to, or no header.
    """
    if len(block) != SIZE:
        raise MultibootDamaged(path=path, reason=f"it has {len(block)} bytes and not {SIZE}")
    if not block.startswith(_HEADER):
        raise MultibootDamaged(path=path, reason="it does not begin as GRUB's environment block does")
    return dict(_variables(block[len(_HEADER) :].decode("utf-8", errors="surrogateescape")))


def _variables(body: str) -> Iterable[tuple[str, str]]:
    """Yield them as GRUB reads them.

    A name is whatever stands before the next ``=``, line ends and backslashes too. A value has to end with its line.
    """
    at = 0
    while at < len(body):
        line = at
        if body[at] != "#":
            line = body.find("=", at) + 1
            if not line:
                return
        pieces = [*_pieces(body, line)]
        end = line + sum(map(len, pieces))
        if body[at] != "#":
            if end >= len(body):
                return
            yield body[at : line - 1], "".join(map(_unescaped, pieces))
        at = end + 1


def _pieces(text: str, at: int) -> Iterable[str]:
    """Yield the rest of a line; a backslash takes the character behind it with it, a line end too."""
    while at < len(text) and text[at] != "\n":
        piece = text[at : at + 2] if text[at] == "\\" else text[at]
        yield piece
        at += len(piece)


def _unescaped(piece: str) -> str:
    return piece[1:] if piece.startswith("\\") else piece


def render(variables: Mapping[str, str], *, path: str) -> bytes:
    """Return the block with these variables, in their order.

    Raises:
        MultibootDamaged: they have no room in it.
    """
    lines = "".join(f"{name}={_escaped(value)}\n" for name, value in variables.items())
    block = _HEADER + lines.encode("utf-8", errors="surrogateescape")
    if len(block) > SIZE:
        raise MultibootDamaged(path=path, reason=f"{len(block)} bytes of variables have no room in {SIZE}")
    return block.ljust(SIZE, b"#")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\\n")


def lenient(text: str) -> dict[str, str]:
    """Return what can be read of a block that somebody else wrote, whatever its size."""
    return dict(_variables(text))
