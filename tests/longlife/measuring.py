"""What a process holds, in figures."""

from __future__ import annotations

import ctypes
import gc
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from xml.etree import ElementTree

from libironic_disk.units import MIB
from tests.support import leaks
from tests.support.faults import holdings
from tests.support.udevd import until

_PAGE = 4096
_ALLOWED = {"resident": 16 * MIB, "allocated": 2 * MIB, "objects": 2000}
"""How much more of each is still no growth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one moment at which nothing is being done.

    Attributes:
        resident: bytes of the process in memory (VmRSS).
        allocated: bytes that malloc gave and that were not given back, in all arenas (malloc_info(3)).
        objects: that Python's collector knows, after it has collected.
        descriptors: that are open.
        threads: of the process.
        children: of the process, those too that have ended and weren't waited for.
        loops: loop devices that have a disk of the run.
        claims: mounts, claims and locks of these.
        files: in the folder of temporary files.
    """

    resident: int
    allocated: int
    objects: int
    descriptors: int
    threads: int
    children: int
    loops: int
    claims: int
    files: int

    @property
    def counted(self) -> tuple[int, ...]:
        """Those that have to be exactly what they were."""
        return (self.descriptors, self.threads, self.children, self.loops, self.claims, self.files)

    def row(self) -> str:
        """Return them in a line; memory in KiB."""
        values = [getattr(self, each.name) for each in fields(self)]
        return "".join(f"{value // 1024 if at < 2 else value:>12}" for at, value in enumerate(values))


HEAD = "".join(f"{name:>12}" for name in ("RSS/KiB", "malloc/KiB", *[each.name for each in fields(Figures)][2:]))


def measured(disks: Path, temporary: Path) -> Figures:
    """Measure.

    Args:
        disks: the folder with the files of all disks.
        temporary: the folder of temporary files.
    """
    held = holdings.held()
    on_disks = [*leaks.on_disks(disks)]
    loops = holdings.loop_devices(disks)
    return Figures(
        resident=int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE,
        allocated=allocated(),
        objects=len(gc.get_objects()),
        descriptors=held.descriptors.total(),
        threads=held.threads.total(),
        children=held.children.total(),
        loops=len(loops),
        claims=len(on_disks) - len(loops),
        files=len(holdings.files(temporary)),
    )


def settled(disks: Path, temporary: Path, as_before: Figures) -> Figures:
    """Measure when all that is counted is as it was before, or has had five seconds to become so."""
    until(lambda: measured(disks, temporary).counted == as_before.counted, within=5)
    return measured(disks, temporary)


def allocated() -> int:
    """Return what malloc_info(3) tells of all arenas, those of threads too, which mallinfo2(3) leaves out."""
    with tempfile.TemporaryFile() as file:
        libc = ctypes.CDLL(None)
        libc.fdopen.restype = ctypes.c_void_p
        stream = ctypes.c_void_p(libc.fdopen(os.dup(file.fileno()), b"w"))
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        file.seek(0)
        told = ElementTree.parse(file).getroot()  # noqa: S314 (the C library's own)
    free = sum(int(each.attrib["size"]) for each in told.findall("total") if each.attrib["type"] in {"fast", "rest"})
    mapped = sum(int(each.attrib["size"]) for each in told.findall("total") if each.attrib["type"] == "mmap")
    system = sum(int(each.attrib["size"]) for each in told.findall("system") if each.attrib["type"] == "current")
    return system - free + mapped


def growth(figures: Sequence[Figures]) -> list[str]:
    """Return in words what has grown: of memory, what its lower half did between the second quarter and the last.

    What is counted must never be more than the first time. Memory goes up and down with what was done last, and at the
    beginning up as modules and programs are used for the first time: so it is the least of a quarter that counts.
    """
    found = [
        f"{name}: {each.counted[at]} after {first}" for each in figures for at, name, first in _more(figures[0], each)
    ]
    quarter = len(figures) // 4
    if quarter:
        for name, allowed in _ALLOWED.items():
            early = min(getattr(each, name) for each in figures[quarter : 2 * quarter])
            late = min(getattr(each, name) for each in figures[-quarter:])
            if late - early > allowed:
                found.append(f"{name}: from {early} to {late}")
    return found


def _more(first: Figures, now: Figures) -> Iterator[tuple[int, str, int]]:
    names = [each.name for each in fields(Figures)][3:]
    for at, (name, before, after) in enumerate(zip(names, first.counted, now.counted, strict=True)):
        if after > before:
            yield at, name, before
