"""fstab(5): read, rendered, and joined from what an image brings and what its volumes are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from libironic_disk.pure.disks.layout import FileSystem

_ESCAPED: Final = {" ": "\\040", "\t": "\\011", "\n": "\\012", "\\": "\\134", "#": "\\043"}
# One character of several bytes is as many escapes, and has to be read as a whole.
_ESCAPES: Final = re.compile(r"(?:\\[0-3][0-7]{2})+")
_CHECKED: Final = frozenset({FileSystem.EXT2, FileSystem.EXT3, FileSystem.EXT4, FileSystem.VFAT})
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
# How a line names a file system that may be on a disk of this machine or not. mount(8), and udev's links to the same.
_BY_TAG: Final = re.compile(r"(UUID|LABEL|PARTUUID|PARTLABEL|ID)=\"?([^\"]*)\"?")
_BY_LINK: Final = re.compile(r"/dev/disk/by-(uuid|label|partuuid|partlabel|id)/(.+)")
_WITHOUT_CASE: Final = frozenset({"UUID", "PARTUUID"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line; ``mount`` is ``none`` for swap. One that isn't ``enabled`` is written as a comment.

    An empty field is refused with ``ValueError``: the field behind it would be read in its place.
    """

    spec: str
    mount: str
    kind: str
    options: str = "defaults"
    dump: int = 0
    passno: int = 0
    enabled: bool = True

    def __post_init__(self) -> None:
        if not (self.spec and self.mount and self.kind and self.options):
            raise ValueError(f"a field of the fstab line for {self.mount or self.spec!r} is empty")

    def __str__(self) -> str:
        """Return the line as fstab has it, without its end."""
        fields = (self.spec, self.mount, self.kind, self.options)
        text = " ".join((*map(_escaped, fields), str(self.dump), str(self.passno)))
        return text if self.enabled else f"#{text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """A line that mounts nothing: a comment, an empty one, or one that can't be understood; without its end."""

    text: str

    def __str__(self) -> str:
        """Return the line as it is."""
        return self.text


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
    """Return a line for each volume, in the order in which they can be mounted: each behind what it lies in."""
    return tuple(_line(volume) for volume in sorted(volumes, key=_depth))


def _depth(volume: Mounted) -> tuple[bool, int]:
    return volume.filesystem is FileSystem.SWAP, len([part for part in volume.mount.split("/") if part])


def _line(volume: Mounted) -> Line:
    spec = f"UUID={volume.uuid}"
    if volume.filesystem is FileSystem.SWAP:
        options = "sw" if volume.options in ("", "defaults") else volume.options
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


def parse(text: str) -> tuple[Line | Other, ...]:
    """Return every line: what mounts nothing as it is, so that ``render`` gives it back."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return tuple(parse_line(each) or Other(text=each) for each in lines)


def render(lines: Iterable[Line | Other]) -> str:
    """Return the text of an fstab; every line has an end."""
    return "".join(f"{line}\n" for line in lines)


def parse_line(text: str) -> Line | None:
    """Return what one line says; None for a comment, an empty one, and one with too few fields.

    The last three fields may be absent. What should be a number and is none counts as 0, as for getmntent(3): a line
    with a comment behind its options mounts something like any other.
    """
    fields = [field for field in re.split(r"[ \t]+", text.rstrip("\r")) if field]
    if len(fields) < 3 or fields[0].startswith("#"):
        return None
    fields += ("defaults", "0", "0")[len(fields) - 3 :]
    spec, mount, kind, options, dump, passno = fields[:6]
    return Line(
        spec=_unescaped(spec),
        mount=_unescaped(mount),
        kind=_unescaped(kind),
        options=_unescaped(options),
        dump=_number(dump),
        passno=_number(passno),
    )


def _number(text: str) -> int:
    return int(text) if _NUMBER.fullmatch(text) else 0


def merge(own: str, ours: Sequence[Line], *, keep: bool, known: frozenset[str]) -> Merged:
    """Join an image's own fstab with the lines for its volumes, which come first.

    A line of the image's own goes where one of ours mounts to the same place, where both are swap, and where it names
    a file system that this machine doesn't have: it would keep the system from coming up.

    Args:
        own: the image's text.
        ours: for its volumes.
        keep: whether anything of the image's own is kept at all.
        known: what the machine has: UUIDs of file systems, and ``LABEL=``, ``PARTUUID=`` or other marks as in fstab,
            and paths of devices whose names stay.
    """
    places = {_place(line.mount) for line in ours if line.kind != "swap"}
    swaps = any(line.kind == "swap" for line in ours)
    kept: list[str] = []
    dropped: list[str] = []
    for text in own.split("\n"):
        line = parse_line(text)
        if line is None:
            if keep:
                kept.append(text)
            continue
        gone = not keep or _place(line.mount) in places or (swaps and line.kind == "swap") or not _is_here(line, known)
        (dropped if gone else kept).append(text)
    body = "\n".join((*map(str, ours), *_without_blank_ends(kept)))
    return Merged(text=f"{body}\n" if body else "", dropped=tuple(dropped))


def _place(mount: str) -> str:
    """Return a mount point in the one way to write it; what is no path as it is."""
    return f"/{'/'.join(part for part in mount.split('/') if part not in ('', '.'))}" if mount[:1] == "/" else mount


def _is_here(line: Line, known: frozenset[str]) -> bool:
    if not (_BY_TAG.fullmatch(line.spec) or line.spec.startswith("/dev/")):
        # A network's, the kernel's own, or a directory or file of the image.
        return True
    return _mark(line.spec) in {_mark(each) if "=" in each or "/" in each else _mark(f"UUID={each}") for each in known}


def _mark(spec: str) -> str:
    """Return a device's mark in the one way to write it."""
    match = _BY_TAG.fullmatch(spec) or _BY_LINK.fullmatch(spec)
    if match is None:
        return spec
    tag = match[1].upper()
    return f"{tag}={match[2].lower() if tag in _WITHOUT_CASE else match[2]}"


def _without_blank_ends(lines: Sequence[str]) -> Iterator[str]:
    last = max((number for number, line in enumerate(lines) if line.strip()), default=-1)
    yield from lines[: last + 1]


def _escaped(field: str) -> str:
    return "".join(_ESCAPED.get(character, character) for character in field)


def _unescaped(field: str) -> str:
    return _ESCAPES.sub(_decoded, field)


def _decoded(match: re.Match[str]) -> str:
    codes = match[0].removeprefix("\\").split("\\")
    return bytes(int(code, 8) for code in codes).decode(errors="surrogateescape")
