"""A plan carried out in a root, and taken back.

In this order: the manifest, which names everything that is going to be there; loaders; images; configurations, which a
machine reads last. A crash between any two of these leaves a manifest that clean-up goes by, and nothing that a machine
would boot half of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from libironic_disk.errors import BootTaskBusy, InvalidParameterValue, NotEnoughRoom
from libironic_disk.machine.netboot import locking, sources
from libironic_disk.machine.netboot.loaderfiles import LARGEST
from libironic_disk.machine.netboot.rootdir import PRIVATE, PublishedRoot, opened, temporary_name
from libironic_disk.machine.undoing import undone_on_error
from libironic_disk.pure.netboot.addresses import MacAddress
from libironic_disk.pure.netboot.manifest import Manifest, Part, from_json, to_json
from libironic_disk.pure.netboot.names import STATE, Purpose, node_directory
from libironic_disk.pure.netboot.planning import RootPlan

_MANIFESTS: Final = f"{STATE}/nodes"
_CLAIMS: Final = f"{STATE}/macs"
_LARGEST_MANIFEST: Final = 1 << 20
_SPARE: Final = 1 << 20
"""Bytes for directories and the file system's own use."""


def apply(directory: Path, plan: RootPlan, loaders: Mapping[str, bytes]) -> None:
    """Publish what a plan has for a root.

    Args:
        directory: the root.
        plan: for it.
        loaders: the contents of the plan's shared files.

    Raises:
        InvalidParameterValue: the root isn't there, or has a file that isn't ours where a loader should be.
        BootTaskBusy: somebody is at work on the machine, or its address is another one's.
        NotEnoughRoom: it needs more than is free.
        PathFailed: the root can't be written to, or something in it isn't what it should be.
        SourceFailed: a file to be published can't be read, or was changed meanwhile.
    """
    with opened(directory) as root, _held(root, plan.node, plan.macs) as before:
        _check_claims(root, plan)
        _check_configs(root, plan, before)
        if not plan.files:
            # Nothing to remember either: no claim is kept to addresses for which nothing is there.
            _drop(root, before, replace(before.without(plan.purpose), configs=()))
            return
        _check_room(root, plan, loaders)
        with _undone(root, before, plan):
            part = _begin(root, plan, before, loaders)
            _publish_images(root, plan)
            _publish_configs(root, plan)
        after = replace(
            before.with_part(plan.purpose, part),
            macs=plan.macs,
            configs=tuple(plan.configs),
            purpose=plan.purpose,
        )
        _drop(root, before, after)


def clean_up(directory: Path, node: str, purpose: Purpose) -> None:
    """Take back what a purpose of a machine had published, all or half of it; nothing is no error.

    Raises:
        InvalidParameterValue: the root isn't there.
        BootTaskBusy: somebody is at work on the machine.
        PathFailed: something can't be removed.
    """
    with opened(directory) as root:
        path = _manifest_path(node)
        # Else a crash came before the first manifest had its name, or nothing ever was there.
        if root.look(path) is None and root.look(_temporary(path)) is None:
            locking.collect(root)
            return
        with _held(root, node, ()) as before:
            if purpose in before.parts:
                _drop(root, before, before.without(purpose))
            elif not before.parts:
                root.remove(path)
        locking.collect(root)


@contextmanager
def _held(root: PublishedRoot, node: str, macs: tuple[MacAddress, ...]) -> Iterator[Manifest]:
    """Hold the locks of a machine and of all its addresses, those of before too; give its manifest."""
    holder = f"node {node}"
    with ExitStack() as locks:
        locks.enter_context(locking.locked(root, f"node-{node}", holder=holder))
        before = _read(root, node) or Manifest(node=node)
        for mac in sorted({*macs, *before.macs}):
            locks.enter_context(locking.locked(root, str(mac), holder=holder))
        yield before


def _begin(root: PublishedRoot, plan: RootPlan, before: Manifest, loaders: Mapping[str, bytes]) -> Part:
    """Write down what is going to be there, and install the loaders. Return the new part of the manifest."""
    for directory in (_MANIFESTS, _CLAIMS):
        root.make_directories(directory, mode=0o700)
    with locking.whole_root(root, holder=f"node {plan.node}"):
        ours = _ours(root, loaders)
        part = Part(directories=plan.directories, shared=tuple(ours))
        _write(root, _between(before, plan, part))
        for mac in plan.macs:
            root.write(f"{_CLAIMS}/{mac.hyphenated}", plan.node.encode(), mode=PRIVATE)
        for path, data in ours.items():
            if "/" in path:
                root.make_directories(path.rpartition("/")[0])
            if root.read(path, limit=LARGEST) != data:
                root.write(path, data)
    return part


def _between(before: Manifest, plan: RootPlan, part: Part) -> Manifest:
    """Return what is there until a plan is carried out: as much of the old and the new as there may be."""
    # Half old, half new: whichever purpose is cleaned up, nothing of it may stay.
    is_mixed = bool(before.configs) and before.purpose is not plan.purpose
    return replace(
        before.with_part(plan.purpose, before.parts.get(plan.purpose, Part()) | part),
        macs=tuple(dict.fromkeys((*before.macs, *plan.macs))),
        configs=tuple(dict.fromkeys((*before.configs, *plan.configs))),
        purpose=None if is_mixed else plan.purpose,
    )


@contextmanager
def _undone(root: PublishedRoot, before: Manifest, plan: RootPlan) -> Iterator[None]:
    """Take back what the block published if it fails, so that what was prepared before still is.

    If that fails too, everything stays that a configuration may name, and the manifest that clean-up goes by.
    """
    configs = {path: root.read(path, limit=_LARGEST_MANIFEST) for path in plan.configs}

    def undo() -> None:
        for path, data in configs.items():
            _put_back(root, path, data)
        # What it says is ours: a loader of somebody else's stays.
        _drop(root, _read(root, plan.node) or before, before)

    with undone_on_error(undo, "and cleaning up failed"):
        yield


def _put_back(root: PublishedRoot, path: str, data: bytes | None) -> None:
    if data is None:
        root.remove(path)
    elif root.read(path, limit=_LARGEST_MANIFEST) != data:
        root.write(path, data)


def _publish_configs(root: PublishedRoot, plan: RootPlan) -> None:
    for path, data in plan.configs.items():
        root.make_directories(path.rpartition("/")[0])
        root.write(path, data)


def _publish_images(root: PublishedRoot, plan: RootPlan) -> None:
    for path, file in plan.images.items():
        root.make_directories(path.rpartition("/")[0])
        with ExitStack() as stack:
            copy = None if root.look(sources.stored(file)) else stack.enter_context(sources.copied(root, file))
            stack.enter_context(locking.whole_root(root, holder=f"node {plan.node}"))
            # Somebody may have collected it since.
            if copy is None and root.look(sources.stored(file)) is None:
                copy = stack.enter_context(sources.copied(root, file))
            sources.place(root, file, copy, path)


def _drop(root: PublishedRoot, before: Manifest, after: Manifest) -> None:
    """Remove what was there before and is not to be there any more, configurations first; then write the manifest."""
    for path in before.configs:
        if path not in after.configs:
            root.remove(path)
    kept = {path for part in after.parts.values() for path in part.directories}
    for part in before.parts.values():
        for path in part.directories:
            if path not in kept:
                root.remove_directory(path)
    with locking.whole_root(root, holder=f"node {before.node}"):
        unused = before.shared - after.shared
        if unused:
            unused -= _shared_of_others(root, before.node)
        for path in sorted(unused):
            root.remove(path)
        sources.collect(root)
        for mac in before.macs:
            if not after.parts or mac not in after.macs:
                root.remove(f"{_CLAIMS}/{mac.hyphenated}")
        if after.parts:
            _write(root, after)
            return
        root.remove_if_empty(node_directory(before.node))
        root.remove(_manifest_path(before.node))


def _ours(root: PublishedRoot, loaders: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the shared files that are ours to write: what somebody else has put there stays theirs.

    Raises:
        InvalidParameterValue: a file of somebody else's is another one than the loader.
    """
    found = {path: root.read(path, limit=LARGEST) for path in loaders}
    there = {path for path, data in found.items() if data is not None}
    foreign = there - _shared_of_others(root, "") if there else set()
    wrong = sorted(path for path in foreign if found[path] != loaders[path])
    if wrong:
        problems = tuple(f"{root.name}/{path} is there and was not put there by this library" for path in wrong)
        raise InvalidParameterValue(problems=problems)
    return {path: data for path, data in loaders.items() if path not in foreign}


def _shared_of_others(root: PublishedRoot, node: str) -> set[str]:
    """Return the shared files that machines need; all but one machine."""
    shared: set[str] = set()
    for name in root.names(_MANIFESTS):
        other = name.removesuffix(".json")
        if other in {name, node}:
            continue
        if manifest := _read(root, other):
            shared |= manifest.shared
    return shared


def _check_claims(root: PublishedRoot, plan: RootPlan) -> None:
    for mac in plan.macs:
        claim = root.read(f"{_CLAIMS}/{mac.hyphenated}", limit=_LARGEST_MANIFEST)
        other = claim.decode(errors="replace") if claim else plan.node
        if other == plan.node:
            continue
        manifest = _read(root, other)
        # Else it is what a crash left of a clean-up.
        if manifest and mac in manifest.macs:
            raise BootTaskBusy(subject=str(mac), holder=f"node {other}")


def _check_configs(root: PublishedRoot, plan: RootPlan, before: Manifest) -> None:
    for path in plan.configs:
        if path not in before.configs and root.look(path):
            raise BootTaskBusy(subject=plan.node, holder=f"whoever made {root.name}/{path}")


def _check_room(root: PublishedRoot, plan: RootPlan, loaders: Mapping[str, bytes]) -> None:
    missing = {file.identity: file.size for file in plan.images.values() if root.look(sources.stored(file)) is None}
    wanted = _SPARE + sum(missing.values())
    wanted += sum(len(data) for path, data in loaders.items() if root.look(path) is None)
    wanted += sum(len(data) for data in plan.configs.values())
    available = root.free_bytes()
    if wanted > available:
        raise NotEnoughRoom(directory=root.name, wanted=wanted, available=available)


def _manifest_path(node: str) -> str:
    return f"{_MANIFESTS}/{node}.json"


def _temporary(path: str) -> str:
    directory, _, name = path.rpartition("/")
    return f"{directory}/{temporary_name(name)}"


def _read(root: PublishedRoot, node: str) -> Manifest | None:
    data = root.read(_manifest_path(node), limit=_LARGEST_MANIFEST)
    return None if data is None else from_json(data)


def _write(root: PublishedRoot, manifest: Manifest) -> None:
    root.write(_manifest_path(manifest.node), to_json(manifest), mode=PRIVATE)
