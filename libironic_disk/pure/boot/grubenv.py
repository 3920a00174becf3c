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
    for line in _lines(body):
        name, separator, value = line.partition("=")
        if separator and not name.startswith("#"):
            yield name, value


def _lines(text: str) -> Iterable[str]:
    """Split at line ends; a backslash takes the character behind it as it is, a line end too."""
    line: list[str] = []
    characters = iter(text)
    for character in characters:
        if character == "\\":
            line.append(next(characters, ""))
        elif character == "\n":
            yield "".join(line)
            line = []
        else:
            line.append(character)


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
