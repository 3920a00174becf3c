"""What a fault is walked through: a call of the library, on a scene that is made anew for each try."""

from __future__ import annotations

import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from libironic_disk.errors import DiskState
from libironic_disk.events import Cancellation, EventSink


class State(StrEnum):
    """What a call left, as programs find it that nobody here wrote."""

    OLD = "old"
    """What was there before, as it was before; it boots what it did."""
    NOTHING = "nothing"
    """Neither the old nor the new: nothing of it boots, or counts as being there."""
    NEW = "new"
    """What was asked for, whole."""


SAYS = {
    DiskState.UNCHANGED: {State.OLD},
    DiskState.INCOMPLETE: {State.OLD, State.NOTHING, State.NEW},
    DiskState.UNBOOTABLE: {State.NOTHING},
    DiskState.FINISHED: {State.NEW},
}
"""What an error says of the disk, and what has to be found there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where one try takes place."""

    nodes: tuple[str, ...] = ()
    """The whole disks that the call writes to."""
    folders: tuple[Path, ...] = ()
    """The folders that it writes to on the caller's wish."""
    files: tuple[Path, ...] = ()
    """The plain files that are disks to the call."""
    sources: tuple[Path, ...] = ()
    """What it only reads, files or folders with such."""
    temporary: Path
    """The folder of temporary files, of which nothing is to be left."""
    keeps: frozenset[str] = field(default_factory=frozenset)
    """What may be left in the folder of temporary files."""
    medium: Path | None = None
    """Where a file system is mounted that has the disks' files and nothing else."""

    def on_disk(self, target: Path) -> bool:
        """Whether a descriptor leads to one of the disks, to a partition of it, or to a file in one of those.

        A path may lead to a file that is only about to be there.
        """
        try:
            status = target.stat()
        except FileNotFoundError:
            return target.parent != target and self.on_disk(target.parent)
        except OSError:
            return False
        number = status.st_rdev if stat.S_ISBLK(status.st_mode) else status.st_dev
        try:
            place = Path(f"/sys/dev/block/{number >> 8 & 0xFFF}:{number & 0xFF | number >> 12 & 0xFFF00}").resolve()
        except OSError:
            return False
        disks = {Path("/sys/class/block", Path(node).name).resolve() for node in self.nodes}
        return bool(disks & {place, *place.parents}) or self._is_in_file(target, place)

    def _is_in_file(self, target: Path, place: Path) -> bool:
        """Whether it is one of the disks that are files, or a loop device on one."""
        for file in self.files:
            if file.samefile(target):
                return True
            for directory in (place, place.parent):
                try:
                    behind = (directory / "loop" / "backing_file").read_text().strip()
                except OSError:
                    continue
                if behind == str(file):
                    return True
        return False

    def in_sources(self, target: Path) -> bool:
        """Whether a descriptor or a path leads to one of the files that are only read."""
        return any(_leads_into(target, file) for file in self.sources)

    def in_folders(self, target: Path) -> bool:
        """Whether a descriptor or a path leads into one of the folders."""
        return any(_leads_into(target, folder) for folder in self.folders)

    def is_temporary(self, target: Path) -> bool:
        """Whether a descriptor or a path leads into the folder of temporary files."""
        return _leads_into(target, self.temporary)


def _leads_into(target: Path, folder: Path) -> bool:
    try:
        # A descriptor's link is read and not followed: what it leads to may have no name any more.
        is_descriptor = len(target.parts) == 5 and target.parts[3] == "fd"
        found = target.readlink() if is_descriptor else target.parent.resolve() / target.name
    except OSError:
        return False
    return found.is_relative_to(folder)


class Try(Protocol):
    """One try: the scene is set, the call not made yet."""

    @property
    def scene(self) -> Scene:
        """Where it takes place."""

    def call(self, sink: EventSink, cancel: Cancellation) -> object:
        """Make the call; in a process of its own, so that what it returns has to be a value."""

    def found(self, result: object | None) -> State:
        """Look at what is there, with the call's result if it returned.

        Raises:
            AssertionError: something half-way that boots, or is neither whole nor gone.
        """


@runtime_checkable
class Demanding(Protocol):
    """A try that asks more of an error than its type."""

    def told(self, error: BaseException) -> None:
        """Compare what an error says with what is there.

        Raises:
            AssertionError: they don't agree.
        """


class Work(Protocol):
    """A call of the library."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    def begin(self) -> AbstractContextManager[Try]:
        """Set a new scene."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Of:
    """A work of a name and a function that sets its scenes."""

    name: str
    begin: Callable[[], AbstractContextManager[Try]]
