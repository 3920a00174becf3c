"""Calls of ``switching`` on a multiboot partition: GRUB's own code reads the old choice afterwards, or the new one."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from libironic_disk import switching
from libironic_disk.errors import SwitchRefused
from libironic_disk.events import Cancellation, EventSink
from libironic_disk.pure.disks.layout import FileSystem
from libironic_disk.switching import MultibootState
from libironic_disk.units import MIB
from tests.conftest import Bench
from tests.support import multiboot_partition, oracles
from tests.support.disks import LoopDisk, attach, copied
from tests.support.faults.scenes import folder
from tests.support.faults.work import Of, Scene, State, Try
from tests.support.multiboot_partition import image_files

_GRUB = "/boot/grub"
_SIZE = 48 * MIB
_PATIENCE = 5.0
_CAUSES = re.compile(
    "broken on purpose|kill|status -(9|11)|not installed|Input/output error|Too many open files"
    "|Cannot allocate memory|failed to map segment|No such device|No locks available"
)
"""Words of which one has to be in each problem that a fault makes: the cause, and not a guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What GRUB's own code finds: the variables of its block, and the ids and kernels of the menu in force."""

    variables: Mapping[str, str]
    menu: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Systems:
    """Partitions that every work takes a copy of: two systems, of which the second got a newer kernel meanwhile.

    ``choices`` has, by name, a copy of the multiboot partition on which something was chosen already.
    """

    choices: Mapping[str, Path]
    roots: tuple[LoopDisk, ...]
    ids: tuple[str, ...]
    running: Path


@dataclass(slots=True, kw_only=True)
class SwitchTry:
    """A call that changes what boots."""

    disk: LoopDisk
    scene: Scene
    make: Callable[[], MultibootState]
    old: Seen
    new: Seen
    is_made: bool = False
    """Whether what was asked for is there: some calls are refused then."""
    looked: int = 0

    def call(self, sink: EventSink, cancel: Cancellation) -> object:
        """Make the call."""
        try:
            return self.make()
        except SwitchRefused:
            if self.is_made:
                return None
            raise

    def found(self, result: object | None) -> State:
        """Look at the partition: with GRUB's code, with our own, and with the file system's checker."""
        assert_released(self.disk)
        oracles.check_filesystem("ext4", str(self.disk.file))
        seen = as_grub_reads(self.disk.file)
        assert seen in {0: self.old, 1: self.new}.values(), f"neither the old nor the new: {seen}"
        assert as_we_read(self.disk.node) == seen, "GRUB and this library read different things"
        self.looked += 1
        if self.looked > 1:
            left = [name for name in names_in(self.disk.file, _GRUB) if name.startswith(".") and name.strip(".")]
            assert not left, f"files of a call that was killed stay for ever: {left}"
        self.is_made = seen == self.new
        if isinstance(result, MultibootState):
            assert not result.damage
            assert result.boots_next == boots_next(seen.variables)
            if result.unread:
                # All was done that could be, and who asked knows of the rest.
                assert all(_CAUSES.search(each) for each in result.unread), result.unread
                return State.NEW
        return State.NEW if self.is_made else State.OLD


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderTry:
    """A call that only looks."""

    disk: LoopDisk
    scene: Scene
    make: Callable[[Cancellation], object]
    digest: str
    expected: object
    """What it says with no fault; of :func:`libironic_disk.switching.verify` no problems."""

    def call(self, sink: EventSink, cancel: Cancellation) -> object:
        """Make the call."""
        return self.make(cancel)

    def found(self, result: object | None) -> State:
        """See that no byte was written, and that whatever was said is true."""
        assert_released(self.disk)
        assert self.disk.digest() == self.digest, "a call that only looks has written"
        if result is None:
            return State.OLD
        if self.expected == () and isinstance(result, tuple):
            guesses = [problem for problem in result if not _CAUSES.search(str(problem))]
            assert not guesses, f"problems that aren't there: {guesses}"
            return State.NEW
        assert result == self.expected
        return State.NEW


def assert_released(disk: LoopDisk) -> None:
    """Assert that nobody has a disk mounted, wherever; the end of a process ends its mounts a moment later."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            os.close(os.open(disk.node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError:
            assert time.monotonic() < until, f"{disk.node} is still mounted"
            time.sleep(0.02)
        else:
            subprocess.run(["blockdev", "--flushbufs", disk.node], check=True)
            return


def as_grub_reads(file: Path) -> Seen:
    """Return what GRUB's code reads of a multiboot partition's bytes."""
    with tempfile.NamedTemporaryFile() as block:
        block.write(oracles.grub_cat(file, f"{_GRUB}/grubenv"))
        block.flush()
        said = oracles.output("grub-editenv", block.name, "list")
    variables = dict(line.split("=", 1) for line in said.splitlines())
    generation = "b" if variables.pop("menu_generation") == "b" else "a"
    menu = oracles.grub_cat(file, f"{_GRUB}/menu-{generation}.cfg").decode()
    ids = re.findall(r"^menuentry .* --id '([^']+)'", menu, re.MULTILINE)
    kernels = re.findall(r"^  linux '?([^ ']+)", menu, re.MULTILINE)
    return Seen(variables=variables, menu=tuple(zip(ids, kernels, strict=True)))


def as_we_read(node: str) -> Seen:
    """Return what our own reader finds, in the same words."""
    state = switching.get_state(node)
    assert not state.damage
    switch = state.switch
    left = "c" if switch.confirmed else str(switch.tries_left)
    variables = {
        "saved_entry": switch.default,
        "next_entry": switch.once,
        "trial_entry": switch.trial,
        "trial_left": left if switch.trial else "",
        "trial_failed": switch.failed,
    }
    assert state.boots_next == boots_next(variables)
    return Seen(variables=variables, menu=tuple((entry.id, entry.kernel) for entry in switching.list_entries(node)))


def boots_next(variables: Mapping[str, str]) -> str:
    """Return which entry grub.cfg would start."""
    return variables["next_entry"] or (variables["trial_left"] and variables["trial_entry"]) or variables["saved_entry"]


def names_in(file: Path, path: str) -> list[str]:
    """Return the names in a directory of an ext4, as debugfs lists them."""
    said = oracles.output("debugfs", "-R", f"ls -p {path}", str(file))
    return [line.split("/")[5] for line in said.splitlines() if line.startswith("/")]


@contextmanager
def systems(where: Path) -> Iterator[Systems]:
    """Make what the works start from."""
    with ExitStack() as stack:
        images = {"one": image_files("5.14.0-1", "5.14.0-2"), "two": image_files("3.10.0-1")}
        parts = multiboot_partition.make(Bench(where, stack), images, size=_SIZE)
        multiboot_partition.write(parts.roots["two"], FileSystem.EXT4, image_files("3.10.0-2"))
        entries = switching.list_entries(parts.multiboot)
        ids = tuple(entry.id for entry in entries)
        roots = tuple(_disk(node) for node in parts.roots.values())
        running = where / "proc/cmdline"
        running.parent.mkdir()
        running.write_text(f"root=UUID=x multiboot.entry={ids[2]} panic=10\n")
        file = _disk(parts.multiboot).file
        fresh = copied(file, where / "fresh.img")
        switching.refresh(parts.multiboot, parts.nodes)
        assert_released(_disk(parts.multiboot))
        current = copied(file, where / "current.img")
        with attach(copied(fresh, where / "trial.img"), 512) as disk:
            switching.boot_once(disk.node, ids[1])
            switching.try_boot(disk.node, ids[2], tries=5)
            switching.boot_once(disk.node, ids[1])
        choices = {"fresh": fresh, "current": current, "trial": where / "trial.img"}
        yield Systems(choices=choices, roots=roots, ids=ids, running=running)


def _disk(node: str) -> LoopDisk:
    return LoopDisk(
        node=node,
        file=Path(Path(f"/sys/block/{Path(node).name}/loop/backing_file").read_text().strip()),
        sector_size=512,
    )


@contextmanager
def _begin(base: Path, known: Systems, make: Callable[[str], MultibootState], new: Seen) -> Iterator[Try]:
    with _scene(base, known) as (disk, scene):
        yield SwitchTry(disk=disk, scene=scene, make=partial(make, disk.node), old=as_grub_reads(disk.file), new=new)


@contextmanager
def _begin_reading(base: Path, known: Systems, make: Callable[[str, Cancellation], object]) -> Iterator[Try]:
    with _scene(base, known) as (disk, scene):
        expected = make(disk.node, Cancellation())
        assert_released(disk)
        yield ReaderTry(disk=disk, scene=scene, make=partial(make, disk.node), digest=disk.digest(), expected=expected)


@contextmanager
def _scene(base: Path, known: Systems) -> Iterator[tuple[LoopDisk, Scene]]:
    with folder() as where:
        temporary = where / "tmp"
        temporary.mkdir()
        with attach(copied(base, where / "multiboot.img"), 512) as disk:
            nodes = (disk.node, *(root.node for root in known.roots))
            yield disk, Scene(nodes=nodes, folders=(known.running.parent,), temporary=temporary)


CHANGES = ("set_default", "boot_once", "try_boot", "confirm", "rollback", "refresh")
READERS = ("list_entries", "get_state", "boot_info", "verify")


def change(known: Systems, name: str) -> Of:
    """Return the work of a call that changes something, and what has to be read when it is done."""
    one, older, two = known.ids
    nodes = [root.node for root in known.roots]
    nothing = dict.fromkeys(("saved_entry", "next_entry", "trial_entry", "trial_left", "trial_failed"), "")
    chosen = {**nothing, "saved_entry": one, "next_entry": older, "trial_entry": two, "trial_left": "5"}
    menu = ((one, "/boot/vmlinuz-5.14.0-2"), (older, "/boot/vmlinuz-5.14.0-1"))
    before = (*menu, (two, "/boot/vmlinuz-3.10.0-1"))
    after = (*menu, (two, "/boot/vmlinuz-3.10.0-2"), (f"{two}+3.10.0-1", "/boot/vmlinuz-3.10.0-1"))
    base, make, variables = {
        "set_default": (
            "fresh",
            lambda node: switching.set_default(node, "two"),
            {"saved_entry": two},
        ),
        "boot_once": ("fresh", lambda node: switching.boot_once(node, "two"), {"saved_entry": one, "next_entry": two}),
        "try_boot": (
            "fresh",
            lambda node: switching.try_boot(node, "two", tries=3),
            {"saved_entry": one, "trial_entry": two, "trial_left": "3"},
        ),
        "confirm": (
            "trial",
            lambda node: switching.confirm(node, command_line=known.running),
            {"saved_entry": two, "next_entry": older},
        ),
        "rollback": ("trial", switching.rollback, {"saved_entry": one, "trial_failed": two}),
        "refresh": ("trial", lambda node: switching.refresh(node, nodes), chosen),
    }[name]
    new = Seen(variables=nothing | variables, menu=after if name == "refresh" else before)
    return Of(name=name, begin=partial(_begin, known.choices[base], known, make, new))


def read(known: Systems, name: str) -> Of:
    """Return the work of a call that only looks."""
    nodes = [root.node for root in known.roots]
    make: Callable[[str, Cancellation], object] = {
        "list_entries": lambda node, cancel: switching.list_entries(node),
        "get_state": lambda node, cancel: switching.get_state(node, command_line=known.running),
        "boot_info": lambda node, cancel: switching.boot_info(node),
        "verify": lambda node, cancel: switching.verify(node, nodes, cancel=cancel),
    }[name]
    base = "current" if name == "verify" else "trial"
    return Of(name=name, begin=partial(_begin_reading, known.choices[base], known, make))
