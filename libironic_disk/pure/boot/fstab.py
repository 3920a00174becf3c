"""fstab(5): read, rendered, and joined from what an image brings and what its volumes are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from libironic_disk.pure.disks.layout import FileSystem

_ESCAPED: Final = {" ": "\\040", "\t": "\\011", "\n": "\\012", "\\": "\\134", "#": "\\043"}
_ESCAPE: Final = re.compile(r"\\([0-3][0-7]{2})")
_CHECKED: Final = frozenset({FileSystem.EXT2, FileSystem.EXT3, FileSystem.EXT4, FileSystem.VFAT})
# How a line names a file system that may be on a disk of this machine or not.
_BY_IDENTITY: Final = re.compile(r"(?:UUID=|/dev/disk/by-uuid/)\"?([^\"]+)\"?|(?:LABEL|PARTUUID|PARTLABEL)=.*|/dev/.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line; ``mount`` is ``none`` for swap. One that isn't ``enabled`` is written as a comment."""

    spec: str
    mount: str
    kind: str
    options: str = "defaults"
    dump: int = 0
    passno: int = 0
    enabled: bool = True

    def __str__(self) -> str:
        """Return the line as fstab has it, without its end."""
        fields = (self.spec, self.mount, self.kind, self.options)
        text = " ".join((*map(_escaped, fields), str(self.dump), str(self.passno)))
        return text if self.enabled else f"#{text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """A file system and where one image has it; ``mount`` is ``swap`` for a swap area."""

    uuid: str
    mount: str
    filesystem: FileSystem
    options: str = "defaults"
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A whole fstab, and the lines of the image's own that are not in it."""

    text: str
    dropped: tuple[str, ...]


def lines_for(volumes: Sequence[Mounted]) -> tuple[Line, ...]:
    """Return a line for each volume, in the order given, which is that of mounting."""
    return tuple(_line(volume) for volume in volumes)


def _line(volume: Mounted) -> Line:
    spec = f"UUID={volume.uuid}"
    if volume.filesystem is FileSystem.SWAP:
        options = "sw" if volume.options == "defaults" else volume.options
        return Line(spec=spec, mount="none", kind="swap", options=options, enabled=volume.enabled)
    # What checks itself when it is mounted has a check that does nothing, and 0 keeps it from being asked for.
    passno = (1 if volume.mount == "/" else 2) if volume.filesystem in _CHECKED else 0
    return Line(
        spec=spec,
        mount=volume.mount,
        kind=volume.filesystem.value,
        options=volume.options or "defaults",
        passno=passno,
        enabled=volume.enabled,
    )


def parse(text: str) -> tuple[Line, ...]:
    """Return the lines that mount something; comments and what can't be understood are left out."""
    return tuple(line for each in text.split("\n") if (line := parse_line(each)) is not None)


def parse_line(text: str) -> Line | None:
    """Return what one line says; None for a comment, an empty one, and one with too few fields."""
    fields = [field for field in re.split(r"[ \t]+", text.rstrip("\r")) if field]
    if len(fields) < 3 or fields[0].startswith("#"):
        return None
    # The last three may be absent.
    fields += ("defaults", "0", "0")[len(fields) - 3 :]
    spec, mount, kind, options, dump, passno = fields[:6]
    if not (_is_number(dump) and _is_number(passno)):
        return None
    return Line(
        spec=_unescaped(spec),
        mount=_unescaped(mount),
        kind=_unescaped(kind),
        options=_unescaped(options),
        dump=int(dump),
        passno=int(passno),
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def merge(own: str, ours: Sequence[Line], *, keep: bool, known: frozenset[str]) -> Merged:
    """Join an image's own fstab with the lines for its volumes, which come first.

    A line of the image's own goes where one of ours mounts to the same place, where both are swap, and where it names
    a file system that this machine doesn't have: it would keep the system from coming up.

    Args:
        own: the image's text.
        ours: for its volumes.
        keep: whether anything of the image's own is kept at all.
        known: UUIDs of the file systems that the machine has.
    """
    places = {line.mount for line in ours if line.mount != "none"}
    swaps = any(line.kind == "swap" for line in ours)
    kept: list[str] = []
    dropped: list[str] = []
    for text in own.split("\n"):
        line = parse_line(text)
        if line is None:
            if keep:
                kept.append(text)
            continue
        gone = not keep or line.mount in places or (swaps and line.kind == "swap") or not _is_here(line, known)
        (dropped if gone else kept).append(text)
    body = "\n".join((*map(str, ours), *_without_blank_ends(kept)))
    return Merged(text=f"{body}\n" if body else "", dropped=tuple(dropped))


def _is_here(line: Line, known: frozenset[str]) -> bool:
    match = _BY_IDENTITY.fullmatch(line.spec)
    if match is None:
        # A network's, or the kernel's own.
        return True
    return match[1] is not None and match[1].lower() in {uuid.lower() for uuid in known}


def _without_blank_ends(lines: Sequence[str]) -> Iterator[str]:
    last = max((number for number, line in enumerate(lines) if line.strip()), default=-1)
    yield from lines[: last + 1]


def _escaped(field: str) -> str:
    return "".join(_ESCAPED.get(character, character) for character in field)


def _unescaped(field: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)
