"""A plan for people: a table with a drawn bar for a terminal, and the same as an SVG picture."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from libironic_disk.pure.disks.planning import Action, Plan, PlannedPartition
from libironic_disk.pure.roles import Role
from libironic_disk.units import in_words

_DOES: Final = {
    Action.NOTHING: "already as described, nothing to do",
    Action.MAKE: "a new partition table",
    Action.KEEP: "the partition table stays",
}
_COLUMNS: Final = ("No", "Name", "Start", "Size", "File system", "What happens")
_RIGHT: Final = {"No", "Start", "Size"}


def as_text(plan: Plan, *, width: int = 100) -> str:
    """Return a plan as lines for a terminal of ``width`` columns: what will be, drawn, and what will be lost."""
    return "\n".join(_lines(plan, width))


def _lines(plan: Plan, width: int) -> Iterator[str]:
    yield (
        f"{plan.device}: {in_words(plan.size)} in sectors of {plan.topology.sector_size} bytes, {plan.table} "
        f"{plan.disk_id}: {_DOES[plan.action]}"
    )
    yield ""
    yield from _table([_row(plan, part) for part in plan.partitions])
    yield ""
    yield _bar(plan, width)
    yield f"aligned to {plan.alignment.reason}"
    yield from (f"note: {note}" for note in plan.notes)
    if plan.is_empty:
        return
    if plan.action is Action.MAKE and plan.replaces is not None:
        count = len(plan.replaces.partitions)
        yield f"destroys the {plan.replaces.kind} table {plan.replaces.disk_id} with {count} partitions"
    yield from (f"destroys {signature}" for signature in plan.destroys)


def _row(plan: Plan, part: PlannedPartition) -> tuple[str, ...]:
    filesystem = f"{part.filesystem} {part.label}".strip() if part.filesystem else "-"
    return (
        str(part.number),
        part.name,
        in_words(part.start),
        in_words(part.size),
        filesystem,
        _fate(plan, part),
    )


def _fate(plan: Plan, part: PlannedPartition) -> str:
    if plan.is_empty or part.keep:
        return "kept"
    return f"mkfs {part.filesystem}" if part.filesystem else "left blank"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[at]) for row in (_COLUMNS, *rows)) for at in range(len(_COLUMNS))]
    for row in (_COLUMNS, *rows):
        cells = (
            cell.rjust(size) if name in _RIGHT else cell.ljust(size)
            for name, cell, size in zip(_COLUMNS, row, widths, strict=True)
        )
        yield "  ".join(cells).rstrip()


class _Piece(NamedTuple):
    """A stretch of the disk to draw; ``part`` is None where it is free."""

    start: int
    end: int
    part: PlannedPartition | None


def _pieces(plan: Plan) -> Iterator[_Piece]:
    at = 0
    for part in plan.partitions:
        if part.start > at:
            yield _Piece(at, part.start, None)
        yield _Piece(part.start, part.end, part)
        at = part.end
    if at < plan.size:
        yield _Piece(at, plan.size, None)


def _bar(plan: Plan, width: int) -> str:
    """Draw the disk in one line: every partition gets a cell and its name where there is room, the rest by size."""
    parts = list(plan.partitions)
    spare = max(width - 2 - 2 * len(parts), 0)
    cells = []
    for part in parts:
        room = 1 + spare * part.size // plan.size
        cells.append(part.name[:room].center(room, "▒" if part.keep else " "))
    return f"│{'│'.join(cells)}│"


_COLOURS: Final = {
    Role.ESP: "#8fb8de",
    Role.BIOS_BOOT: "#b7c9d9",
    Role.PREP: "#b7c9d9",
    Role.MULTIBOOT: "#9ad1c6",
    Role.EPHEMERAL: "#e3d6a8",
    Role.SWAP: "#e0a890",
    Role.CONFIG_DRIVE: "#d7b3dd",
    Role.ROOT: "#a6d189",
    Role.DATA: "#c9c9c9",
    Role.LVM: "#e8c4c4",
    Role.RAID: "#c4d3a8",
}
_SVG_WIDTH: Final = 960
_SVG_MARGIN: Final = 8
_NARROWEST: Final = 14
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_svg(plan: Plan) -> str:
    """Return a picture of the planned disk as an SVG document; what the bar can't name is in the legend beneath it."""
    legend = "\n".join(_legend(plan))
    height = 96 + 18 * len(plan.partitions)
    title = f"{plan.device}: {in_words(plan.size)}, {plan.table}, {_DOES[plan.action]}"
    wide, high = _SVG_WIDTH + 2 * _SVG_MARGIN, height + 2 * _SVG_MARGIN
    # White beneath everything: a viewer with a dark page would show black words on it.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" '
        f'viewBox="{-_SVG_MARGIN} {-_SVG_MARGIN} {wide} {high}" style="background: white" '
        f'font-family="sans-serif" font-size="12">\n<text x="0" y="16" font-weight="bold">{_text(title)}</text>\n'
        f"{chr(10).join(_boxes(plan))}\n{legend}\n</svg>\n"
    )


def _text(words: str) -> str:
    """Return text for XML 1.0; a character that it can't hold, not even escaped (section 2.2), is a question mark."""
    return escape(_NOT_IN_XML.sub("?", words))


def _boxes(plan: Plan) -> Iterator[str]:
    pieces = list(_pieces(plan))
    # Small partitions beside a terabyte would be thinner than a pixel: each piece has a least width.
    narrowest = min(_NARROWEST, _SVG_WIDTH / len(pieces))
    stretch = (_SVG_WIDTH - narrowest * len(pieces)) / plan.size
    at = 0.0
    for piece in pieces:
        wide = narrowest + (piece.end - piece.start) * stretch
        colour = "#f4f4f4" if piece.part is None else _COLOURS[piece.part.role]
        name = "free" if piece.part is None else f"{piece.part.number} {piece.part.name}"
        size = in_words(piece.end - piece.start)
        yield (
            f"<g><title>{_text(f'{name}, {size}')}</title>"
            f'<rect x="{at:.1f}" y="28" width="{wide:.1f}" height="36" fill={quoteattr(colour)} stroke="#444"/>'
        )
        if piece.part is not None:
            label = name if wide > 8 * len(name) else str(piece.part.number)
            yield f'<text x="{at + wide / 2:.1f}" y="51" text-anchor="middle">{_text(label)}</text>'
        yield "</g>"
        at += wide


def _legend(plan: Plan) -> Iterator[str]:
    for at, part in enumerate(plan.partitions):
        filesystem = f"{part.filesystem} {part.label}".strip() if part.filesystem else "no file system"
        words = f"{part.number} {part.name}: {in_words(part.size)}, {filesystem}, {_fate(plan, part)}"
        y = 88 + 18 * at
        yield f'<rect x="0" y="{y - 10}" width="12" height="12" fill={quoteattr(_COLOURS[part.role])} stroke="#444"/>'
        yield f'<text x="18" y="{y}">{_text(words)}</text>'
