"""Boots by the network: what a TFTP or HTTP root gives to each machine, before, between and after."""

from __future__ import annotations

import fcntl
import hashlib
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from libironic_disk.boot import BootTask, HTTPBoot, IPXEBoot, LocalDisk, PXEBoot, Ramdisk, RamdiskInstance
from libironic_disk.boot.network import NetworkBoot
from libironic_disk.errors import BootTaskBusy, DiskError, ProgramError, ToolMissing
from libironic_disk.events import Cancellation, EventSink
from libironic_disk.pure.netboot.names import NODES, STATE
from libironic_disk.pure.roles import Firmware
from tests.support import netboot
from tests.support.faults import scenes
from tests.support.faults.work import Of, Scene, State, Try
from tests.support.netboot import MAC, OTHER_MAC

_THIRD_MAC = type(MAC)("52:54:00:aa:bb:03")
_PER_MACHINE = re.compile(
    rf"(^|.*/)(01-52-54-\S*|grub\.cfg-01-\S*|by-mac/\S*|ipxe/\S*\.ipxe)|{NODES}/.*|{re.escape(STATE)}/.*"
)
_NAMED = re.compile(rf"{NODES}/[A-Za-z0-9._/-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a machine gets that asks for one configuration: the text, and by path what that names."""

    text: bytes
    named: Mapping[str, str | None]
    shared: Mapping[str, str]
    """Loaders, and what they read first; of these there may be more."""

    def is_in(self, other: Given) -> bool:
        """Whether another one gives the same, of the loaders as many at least."""
        return (self.text, self.named) == (other.text, other.named) and self.shared.items() <= other.shared.items()


View = Mapping[str, Given]
"""What there is for all machines, by the path of the configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A network root for TFTP and one for HTTP, in one folder."""

    folder: Path

    @property
    def tftp(self) -> Path:
        """What TFTP serves."""
        return self.folder / "tftp"

    @property
    def http(self) -> Path:
        """What HTTP serves."""
        return self.folder / "http"

    def files(self) -> dict[str, str]:
        """Return the digests of all files, those too that the library remembers things in, and its empty folders."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = str(path.relative_to(self.folder))
            if path.is_file() and not path.is_symlink():
                found[name] = _digest(path)
            elif path.is_dir() and f"/{NODES}/" in name and STATE not in name:
                found[name] = "a folder"
        return found

    def view(self) -> View:
        """Return what machines get."""
        shared, configs = {}, []
        for path in sorted(self.folder.rglob("*")):
            place = path.relative_to(self.folder)
            inside = str(place.relative_to(place.parts[0])) if len(place.parts) > 1 else ""
            if not path.is_file() or inside.startswith((STATE, f"{NODES}/")):
                continue
            if _is_config(inside):
                if not path.name.startswith("."):
                    configs.append(path)
            elif not path.name.startswith("."):
                shared[str(place)] = _digest(path)
        return {str(path.relative_to(self.folder)): self._given(path, shared) for path in configs}

    def _given(self, config: Path, shared: Mapping[str, str]) -> Given:
        root = self.folder / config.relative_to(self.folder).parts[0]
        text = config.read_bytes()
        names = _NAMED.findall(text.decode())
        named = {name: _digest(root / name) if (root / name).is_file() else None for name in names}
        for path in (config, *(root / name for name in names)):
            for place in (path, *path.parents):
                if place.is_relative_to(root) and place.exists():
                    assert place.stat().st_mode & 0o004, f"no server may read {place}"
        return Given(text=text, named=named, shared=shared)

    def copied(self, to: Path) -> Tree:
        """Return a copy, in which names of one file are names of one file too."""
        subprocess.run(["cp", "-a", "--", str(self.folder), str(to)], check=True)
        return Tree(folder=to)


def _is_config(inside: str) -> bool:
    return bool(_PER_MACHINE.fullmatch(inside))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


Interface = Callable[[Tree], NetworkBoot]
Step = Callable[[NetworkBoot, BootTask], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A call, and what was called before it."""

    name: str
    interface: Interface
    task: BootTask
    before: tuple[Step, ...] = ()
    call: Step
    back: tuple[Step, ...]
    """What takes everything back that the calls before and this one have put there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RootScene(Scene):
    """A scene with network roots."""

    tree: Tree
    case: Case

    @property
    def interface(self) -> NetworkBoot:
        """What publishes in them."""
        return self.case.interface(self.tree)


@dataclass(frozen=True, slots=True, kw_only=True)
class RootTry:
    """A call in a root that other machines boot from too."""

    scene: RootScene
    bare: Mapping[str, str]
    old: View
    new: View

    def call(self, sink: EventSink, cancel: Cancellation) -> object:
        """Make the call."""
        return self.scene.case.call(self.scene.interface, self.scene.case.task) or "done"

    def found(self, result: object | None) -> State:
        """Look at what each machine gets: all of the old or all of the new; then see that cleaning up takes it back."""
        now = self.scene.tree.view()
        for path in {*self.old, *self.new, *now}:
            self._check_whole(path, now.get(path))
        if result is not None:
            self._check_nothing_temporary()
        self._check_back()
        is_old = all(_same(now.get(path), self.old.get(path)) for path in {*self.old, *now})
        is_new = all(_same(now.get(path), self.new.get(path)) for path in {*self.new, *now})
        return State.NEW if is_new else State.OLD if is_old else State.NOTHING

    def told(self, error: BaseException) -> None:
        """An error names a path of the scene, or what it is about; what it couldn't remove it says."""
        assert isinstance(error, DiskError)
        if not isinstance(error, BootTaskBusy | ProgramError | ToolMissing):
            places = (self.scene.tree.folder, self.scene.temporary, *self.scene.sources)
            assert any(str(place) in str(error) for place in places), f"it names no place: {error}"
        if not error.aftermath:
            self._check_nothing_temporary()

    def _check_whole(self, path: str, now: Given | None) -> None:
        wanted = (self.old.get(path), self.new.get(path))
        assert any(_same(now, each) for each in wanted), f"{path} gives neither the old nor the new: {now}; {wanted}"

    def _check_nothing_temporary(self) -> None:
        left = [path for path in self.scene.tree.files() if "/." in path.replace(f"/{STATE}/", "/")]
        assert not left, f"left in the root: {left}"
        # Where a lock's file couldn't be removed it stays, until clean-up; the lock itself must not.
        for lock in self.scene.tree.folder.glob(f"*/{STATE}/locks/*"):
            with lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _check_back(self) -> None:
        with scenes.folder() as where:
            copy = self.scene.tree.copied(where / "copy")
            interface = self.scene.case.interface(copy)
            for _ in range(2):
                for step in self.scene.case.back:
                    step(interface, self.scene.case.task)
                found = copy.files()
                assert found == self.bare, f"cleaned up: {_difference(found, self.bare)}"


def _same(one: Given | None, other: Given | None) -> bool:
    return one is other if one is None or other is None else other.is_in(one)


def _difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    more, less = sorted(found.keys() - wanted.keys()), sorted(wanted.keys() - found.keys())
    changed = [key for key in found if found[key] != wanted.get(key, found[key])]
    return f"too much {more}, missing {less}, changed {changed}"


@contextmanager
def _begin(case: Case, template: Tree, bare: Mapping[str, str], new: View, sources: Path) -> Iterator[Try]:
    with scenes.folder() as where:
        temporary = where / "tmp"
        temporary.mkdir()
        tree = template.copied(where / "roots")
        yield RootTry(
            scene=RootScene(folders=(tree.folder,), sources=(sources,), temporary=temporary, tree=tree, case=case),
            bare=bare,
            old=template.view(),
            new=new,
        )


def work_of(folder: Path, case: Case) -> Of:
    """Prepare the roots of a case, as another machine and the calls before leave them."""
    template = Tree(folder=folder / "template")
    for root in (template.tftp, template.http):
        root.mkdir(parents=True)
        (root / "theirs.txt").write_text("nobody's business")
    interface = case.interface(template)
    interface.prepare_ramdisk(replace(case.task, node="other", macs=(_THIRD_MAC,)), {})
    bare = template.files()
    for step in case.before:
        step(interface, case.task)
    after = template.copied(folder / "after")
    case.call(case.interface(after), case.task)
    new = after.view()
    return Of(name=case.name, begin=partial(_begin, case, template, bare, new, folder / "sources"))


def rival_machine(scene: Scene) -> None:
    """Prepare and clean up a boot of another machine that is said to have the same network card."""
    assert isinstance(scene, RootScene)
    interface = scene.interface
    task = replace(scene.case.task, node="rival")
    with suppress(BootTaskBusy):
        interface.prepare_ramdisk(task, {})
    interface.clean_up_ramdisk(task)


def rival_call(scene: Scene) -> None:
    """Make the same call for the same machine."""
    assert isinstance(scene, RootScene)
    with suppress(BootTaskBusy):
        scene.case.call(scene.interface, scene.case.task)


def _ramdisk(interface: NetworkBoot, task: BootTask) -> object:
    return interface.prepare_ramdisk(task, {"a": "b"})


def _newer_ramdisk(interface: NetworkBoot, task: BootTask) -> object:
    instance = task.instance
    assert isinstance(instance, RamdiskInstance)
    return interface.prepare_ramdisk(
        replace(task, ramdisk=Ramdisk(kernel=instance.kernel, ramdisk=instance.ramdisk)), {}
    )


def _instance(interface: NetworkBoot, task: BootTask) -> object:
    return interface.prepare_instance(task)


def _no_network(interface: NetworkBoot, task: BootTask) -> object:
    return interface.prepare_instance(replace(task, instance=LocalDisk(network_fallback=False)))


def _no_ramdisk(interface: NetworkBoot, task: BootTask) -> object:
    interface.clean_up_ramdisk(task)
    return None


def _no_instance(interface: NetworkBoot, task: BootTask) -> object:
    interface.clean_up_instance(task)
    return None


def cases(folder: Path) -> Mapping[str, Case]:
    """Return the cases by a word for each; sources and loaders are made in a folder."""
    ramdisk = netboot.files(folder / "sources")
    newer = netboot.files(folder / "sources" / "newer")
    for path in (newer.kernel, newer.ramdisk):
        Path(path).write_bytes(b"newer" * 400)
    loaders = netboot.small_loaders(folder / "sources" / "loaders")
    instance = RamdiskInstance(kernel=newer.kernel, ramdisk=newer.ramdisk)

    def task(firmware: Firmware) -> BootTask:
        return netboot.task(macs=(MAC, OTHER_MAC), firmware=firmware, ramdisk=ramdisk, instance=instance)

    def pxe(tree: Tree) -> NetworkBoot:
        return PXEBoot(tree.tftp, server="192.0.2.1", loaders=loaders)

    def ipxe(tree: Tree) -> NetworkBoot:
        return IPXEBoot(tree.http, url="http://192.0.2.1/", server="192.0.2.1", tftp_root=tree.tftp, loaders=loaders)

    def http(tree: Tree) -> NetworkBoot:
        return HTTPBoot(tree.http, url="http://192.0.2.1/")

    bios, uefi = task(Firmware.BIOS), task(Firmware.UEFI)
    both = (_no_ramdisk, _no_instance)
    found = (
        Case(name="PXE: prepare_ramdisk", interface=pxe, task=bios, call=_ramdisk, back=(_no_ramdisk,)),
        Case(name="PXE: prepare_instance", interface=pxe, task=bios, before=(_ramdisk,), call=_instance, back=both),
        Case(
            name="PXE: prepare_instance without a network",
            interface=pxe,
            task=bios,
            before=(_ramdisk,),
            call=_no_network,
            back=both,
        ),
        Case(name="PXE: clean_up_ramdisk", interface=pxe, task=uefi, before=(_ramdisk,), call=_no_ramdisk, back=both),
        Case(
            name="PXE: clean_up_instance",
            interface=pxe,
            task=bios,
            before=(_ramdisk, _instance),
            call=_no_instance,
            back=both,
        ),
        Case(
            name="iPXE: prepare_ramdisk with another one",
            interface=ipxe,
            task=uefi,
            before=(_ramdisk,),
            call=_newer_ramdisk,
            back=both,
        ),
        Case(name="iPXE: clean_up_ramdisk", interface=ipxe, task=uefi, before=(_ramdisk,), call=_no_ramdisk, back=both),
        Case(name="HTTP by GRUB: prepare_ramdisk", interface=http, task=uefi, call=_ramdisk, back=(_no_ramdisk,)),
    )
    return {case.name: case for case in found}
