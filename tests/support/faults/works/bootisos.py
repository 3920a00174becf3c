"""Boot ISOs: patched by either engine, built, and read at any place while the base is what it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab import isolayouts
from lab.isolayouts import IsoLayout
from libironic_disk.bootiso import BootIsoSpec, KernelParameters, build_boot_iso, open_iso, patch_with_xorriso
from libironic_disk.errors import Cancelled, DiskError, ProgramError, ToolMissing
from libironic_disk.events import Cancellation, EventSink
from tests.support import bootisos
from tests.support.faults import scenes
from tests.support.faults.work import Of, Scene, State, Try

_CHANGE = bootisos.change("lab.layout=patched")
_OLD = b"what had the name before\n" * 100
_READ = 9973
"""Bytes of one read: of no multiple of anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the ISOs are made from."""

    folder: Path

    @property
    def base(self) -> Path:
        """An ISO for both kinds of firmware."""
        return self.folder / "base.iso"

    @property
    def put(self) -> Path:
        """A file that is put into it."""
        return self.folder / "put.bin"

    def make(self) -> None:
        """Make them."""
        self.folder.mkdir()
        isolayouts.make(IsoLayout.ISOLINUX_XORRISO, self.base)
        for name, content in (("put.bin", b"put"), ("vmlinuz", b"kernel"), ("initrd", b"ramdisk")):
            (self.folder / name).write_bytes(content * 20_000)

    def digests(self) -> Mapping[str, str]:
        """Return what they are."""
        return {path.name: _digest(path) for path in self.folder.iterdir()}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


Make = Callable[[Sources, Path, EventSink, Cancellation], object]
Whole = Callable[[Path, object], None]
"""Asserts that an ISO is all that was asked for, or what was read of it."""


@dataclass(slots=True, kw_only=True)
class IsoTry:
    """An ISO that is made under a name that something else has."""

    scene: Scene
    sources: Sources
    destination: Path
    before: Mapping[str, str]
    make: Make
    whole: Whole
    writes: bool

    def call(self, sink: EventSink, cancel: Cancellation) -> object:
        """Make it."""
        return self.make(self.sources, self.destination, sink, cancel) or "done"

    def found(self, result: object | None) -> State:
        """Look at the file, and at those that it was made from."""
        assert self.sources.digests() == self.before, "a source is another one"
        # What a process that was killed left there goes with the next call.
        assert result is None or not self._beside(), f"left beside the ISO: {self._beside()}"
        is_old = self.destination.read_bytes() == _OLD
        if is_old if self.writes else result is None:
            return State.OLD
        self.whole(self.destination, result)
        return State.NEW

    def told(self, error: BaseException) -> None:
        """An error names a path of the scene, and whatever couldn't be removed."""
        # The caller's own error, out of his sink, names what he likes.
        if isinstance(error, DiskError) and not isinstance(error, Cancelled | ProgramError | ToolMissing):
            places = (*self.scene.folders, *self.scene.sources, self.scene.temporary)
            assert any(str(place) in str(error) for place in places), f"it names no place: {error}"
        beside = {name for name in self._beside() if name not in str(error)}
        assert not beside, f"left beside the ISO: {beside}"

    def _beside(self) -> set[str]:
        return {path.name for path in self.destination.parent.iterdir()} - {self.destination.name}


@contextmanager
def _begin(sources: Sources, make: Make, whole: Whole, *, writes: bool) -> Iterator[Try]:
    with scenes.folder() as where:
        for name in ("tmp", "out"):
            (where / name).mkdir()
        destination = where / "out" / "new.iso"
        destination.write_bytes(_OLD)
        yield IsoTry(
            scene=Scene(folders=(where / "out",), sources=(sources.folder,), temporary=where / "tmp"),
            sources=sources,
            destination=destination,
            before=sources.digests(),
            make=make,
            whole=whole,
            writes=writes,
        )


def _put(sources: Sources) -> dict[str, bytes | Path]:
    return {"/new/put.bin": sources.put, "/new/text": b"some text\n" * 1000}


def _patch(sources: Sources, destination: Path, sink: EventSink, cancel: Cancellation) -> object:
    with open_iso(sources.base) as iso:
        patched = iso.patch(parameters=_CHANGE, files=_put(sources), initrd_files={"/put/early": b"early"})
        patched.write(destination, sink=sink, cancel=cancel)
    return None


def _by_xorriso(sources: Sources, destination: Path, sink: EventSink, cancel: Cancellation) -> object:
    patch_with_xorriso(
        sources.base,
        destination,
        parameters=_CHANGE,
        files=_put(sources),
        initrd_files={"/put/early": b"early"},
        cancel=cancel,
    )
    return None


def _build(sources: Sources, destination: Path, sink: EventSink, cancel: Cancellation) -> object:
    spec = BootIsoSpec(
        kernel=sources.folder / "vmlinuz",
        ramdisk=sources.folder / "initrd",
        parameters=KernelParameters.parse("console=ttyS0"),
        files={"/more/text": b"some text\n" * 1000},
    )
    build_boot_iso(spec, destination, cancel=cancel)
    return None


def _read(sources: Sources, destination: Path, sink: EventSink, cancel: Cancellation) -> object:
    with open_iso(sources.base) as iso:
        patched = iso.patch(parameters=_CHANGE, files=_put(sources), initrd_files={"/put/early": b"early"})
        digest = hashlib.sha256()
        for offset in range(0, patched.size, _READ):
            piece = patched.read_at(offset, _READ)
            assert len(piece) == min(_READ, patched.size - offset)
            digest.update(piece)
        return digest.hexdigest()


def _check_tree(destination: Path, sources: Sources) -> None:
    """Assert that xorriso and our reader find the change, and all that is on the medium."""
    bootisos.check_medium(destination)
    with scenes.folder() as where:
        files = bootisos.everything(destination, where)
    assert files["/new/put.bin"] == sources.put.read_bytes()
    assert files["/new/text"] == b"some text\n" * 1000
    with open_iso(sources.base) as iso, open_iso(destination) as new:
        assert new.read(isolayouts.KERNEL) == iso.read(isolayouts.KERNEL)
        assert new.read(isolayouts.INITRD).startswith(iso.read(isolayouts.INITRD)[:16])
        assert [(config.kind, len(config.lines)) for config in new.configs] == [
            (config.kind, len(config.lines)) for config in iso.configs
        ]
    assert b"lab.layout=patched" in files[isolayouts.GRUB_ENTRIES]
    assert b"lab.layout=patched" in files[isolayouts.ISOLINUX_ENTRIES]


def works(folder: Path) -> Mapping[str, Of]:
    """Return the works by name; what they need is made in a folder."""
    sources = Sources(folder=folder / "sources")
    sources.make()
    made = {}
    for name, make in (("patched", _patch), ("built", _build)):
        made[name] = folder / f"{name}.iso"
        make(sources, made[name], lambda event: None, Cancellation())
    _check_tree(made["patched"], sources)
    bootisos.check_medium(made["built"])
    with scenes.folder() as where:
        files = bootisos.everything(made["built"], where)
    contents = set(files.values())
    assert {(sources.folder / name).read_bytes() for name in ("vmlinuz", "initrd")} <= contents
    wanted = {name: _digest(path) for name, path in made.items()}

    # What is the same to the byte needs no second look.
    def is_same(name: str, destination: Path, result: object) -> None:
        assert _digest(destination) == wanted[name], "neither what was there before nor what was asked for"

    def is_read(destination: Path, result: object) -> None:
        assert result == wanted["patched"], "other bytes than are written"

    def has_all(destination: Path, result: object) -> None:
        _check_tree(destination, sources)

    rows: tuple[tuple[str, Make, Whole, bool], ...] = (
        ("boot ISO: patch and write", _patch, partial(is_same, "patched"), True),
        ("boot ISO: patch by xorriso", _by_xorriso, has_all, True),
        ("boot ISO: build", _build, partial(is_same, "built"), True),
        ("boot ISO: patch and read", _read, is_read, False),
    )
    return {
        name: Of(name=name, begin=partial(_begin, sources, make, whole, writes=writes))
        for name, make, whole, writes in rows
    }
