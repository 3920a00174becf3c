"""Scenes on loop disks: a copy of a disk that boots something old, and a folder of temporary files beside it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from libironic_disk.units import MIB
from tests.support import oracles, wholedisks
from tests.support.disks import LoopDisk, attach, copied
from tests.support.faults.work import Of, Scene, State, Try, Work

_medium: ContextVar[Path | None] = ContextVar("medium", default=None)


def memory() -> str | None:
    """Return a folder in memory, where there is one: a run must not wait for a disk of the machine."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@contextmanager
def folder() -> Iterator[Path]:
    """Give a folder that is gone afterwards."""
    where = Path(tempfile.mkdtemp(prefix="faults-", dir=memory()))
    try:
        yield where
    finally:
        shutil.rmtree(where)


def with_a_medium(work: Work) -> Of:
    """Give the same work on disks that are files in a file system of their own, whose room a fault decides."""

    @contextmanager
    def begin() -> Iterator[Try]:
        with folder() as where:
            oracles.output("mount", "-t", "tmpfs", "-o", "size=100%", "medium", str(where))
            before = _medium.set(where)
            try:
                with work.begin() as attempt:
                    yield attempt
            finally:
                _medium.reset(before)
                # Lazily: whoever looks at all disks of the machine just now keeps a loop device until he is done.
                oracles.output("umount", "--lazy", str(where))

    return Of(name=work.name, begin=begin)


@dataclass(frozen=True, slots=True, kw_only=True)
class OldDisk:
    """A disk that is what it was when the scene was set, until somebody writes to it."""

    disk: LoopDisk
    digest: str

    @property
    def is_unchanged(self) -> bool:
        """Whether each byte of it is what it was."""
        return self.disk.digest() == self.digest

    def old_or_nothing(self) -> State | None:
        """Look at a disk that a deployment was tried on; None if there is a table, of which the rest is to be judged.

        Raises:
            AssertionError: there is no table, and yet something boots.
        """
        if self.is_unchanged:
            return State.OLD
        if wholedisks.opinions(Path(self.disk.node), sector_size=self.disk.sector_size):
            return None
        self.assert_boots_nothing()
        return State.NOTHING

    def assert_boots_nothing(self) -> None:
        """Assert that neither sfdisk, libblkid nor our reader finds a table, and no firmware a boot sector."""
        for path in (Path(self.disk.node), self.disk.file):
            found = wholedisks.opinions(path, sector_size=self.disk.sector_size)
            assert not found, f"{found} find a table on what should boot nothing"
        with self.disk.file.open("rb") as file:
            head = file.read(MIB)
        assert head[510:512] != b"\x55\xaa", "a BIOS takes the first sector for a boot sector"
        assert head[512:520] != b"EFI PART", "the first GPT is there"
        assert "TYPE" not in oracles.blkid(self.disk.node), "the whole disk is taken for a file system"


@contextmanager
def old_disk(base: Path, *, sector_size: int = 512, sources: tuple[Path, ...] = ()) -> Iterator[tuple[OldDisk, Scene]]:
    """Give a disk that is a copy of another one, and a scene with it alone."""
    with folder() as where:
        temporary = where / "tmp"
        temporary.mkdir()
        medium = _medium.get()
        with attach(copied(base, (medium or where) / "disk.img"), sector_size) as disk:
            scene = Scene(nodes=(disk.node,), sources=sources, temporary=temporary, medium=medium)
            yield OldDisk(disk=disk, digest=disk.digest()), scene


@contextmanager
def old_file(base: Path, *, sector_size: int = 512, sources: tuple[Path, ...] = ()) -> Iterator[tuple[str, Scene]]:
    """Give the digest of a plain file that is a copy of a disk, and a scene with it alone."""
    with folder() as where:
        temporary = where / "tmp"
        temporary.mkdir()
        medium = _medium.get()
        file = copied(base, (medium or where) / "disk.img")
        with attach(file, sector_size) as disk:
            digest = disk.digest()
        yield digest, Scene(files=(file,), sources=sources, temporary=temporary, medium=medium)
