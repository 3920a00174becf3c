"""Boot entries in the firmware of the machine we run on, by efibootmgr.

They are a convenience where a loader lies at the removable path, which firmware finds without an entry. So whatever
goes wrong here (no EFI variables, no room, firmware that drops what it was told) is a warning and never an error.
What has to change is decided first (:mod:`libironic_disk.pure.boot.efientries`), and then done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from libironic_disk.errors import ProgramError, ProgramTimedOut, ToolMissing
from libironic_disk.machine import process
from libironic_disk.machine.boot.image_loaders import FoundLoaders
from libironic_disk.pure.boot import efientries
from libironic_disk.pure.boot.efientries import Changes, Entries, Entry, Loader, Wanted

EFI_VARIABLES: Final = Path("/sys/firmware/efi/efivars")

_TIMEOUT: Final = 60.0
_TROUBLE: Final = (ProgramError, ToolMissing)


class Outcome(StrEnum):
    """How the search for an entry ended."""

    CREATED = "created"
    REUSED = "reused"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What became of the entry: its four hexadecimal digits where there is one, and what went wrong."""

    outcome: Outcome
    number: str = ""
    warnings: tuple[str, ...] = ()


def available(variables: Path = EFI_VARIABLES) -> bool:
    """Whether this machine was started by UEFI and its variables can be written."""
    try:
        return any(variables.iterdir()) and os.access(variables, os.W_OK)
    except OSError:
        return False


def register(loader: Loader, *, label: str, variables: Path = EFI_VARIABLES) -> Registration:
    """See to it that the firmware has exactly one entry for the loader, and put a new one first in its order.

    An entry that starts this loader is kept whatever its label. Others with our label on the same partition are
    removed. The partition must be in the disk's table by now: efibootmgr reads it.
    """
    if not available(variables):
        return Registration(outcome=Outcome.UNAVAILABLE)
    (done,) = _register((Wanted(loader=loader, label=label),), disposable=lambda _: True)
    return done


def register_loaders(
    found: FoundLoaders, *, disk: str, number: int, partuuid: str, label: str, variables: Path = EFI_VARIABLES
) -> tuple[Registration, ...]:
    """See to it that the firmware has an entry for each loader that an image carries, and put new ones first.

    The loaders are those of the image's CSV files; without any, the one at the removable path. Firmware would find that
    without an entry, but only after those that it has. An entry that starts a loader is kept whatever its label. Of the
    others only those go that have a label of these loaders, lie on this partition, and start a file that is gone or one
    of these loaders. The partition must be in the disk's table by now: efibootmgr reads it.

    Args:
        found: what :func:`libironic_disk.machine.boot.image_loaders.find` found on the partition.
        disk: the disk.
        number: the partition's.
        partuuid: its PARTUUID, as the kernel writes it.
        label: what the firmware's menu shows for the removable path.
        variables: where the EFI variables are.

    Returns:
        What became of each, in the order of ``found.loaders``. Where there is no entry in the end, the warnings say
        what the firmware starts instead.
    """
    wanted = tuple(
        Wanted(
            loader=Loader(disk=disk, number=number, partuuid=partuuid, path=each.path, options=each.options),
            label=each.label,
        )
        for each in found.loaders
    )
    if not wanted and found.removable:
        loader = Loader(disk=disk, number=number, partuuid=partuuid, path=found.removable)
        wanted = (Wanted(loader=loader, label=label),)
    if not wanted:
        return ()
    if available(variables):
        done = _register(wanted, disposable=found.lacks)
    else:
        done = tuple(Registration(outcome=Outcome.UNAVAILABLE) for _ in wanted)
    instead = _instead(wanted, done, found.removable)
    return tuple(_with_consequence(each, one, instead) for each, one in zip(wanted, done, strict=True))


def _with_consequence(wanted: Wanted, done: Registration, instead: str) -> Registration:
    if done.outcome in (Outcome.CREATED, Outcome.REUSED) or (done.outcome is Outcome.UNAVAILABLE and instead):
        return done
    loader = wanted.loader
    if not instead:
        where = f"partition {loader.number} of {loader.disk}"
        says = f"{where} has no loader that firmware starts without an entry: nothing may start {loader.path}"
    elif instead == loader.path:
        says = f"the firmware starts {loader.path} without an entry, but after those that it has"
    else:
        says = f"the firmware starts {instead} and not {loader.path}"
    return replace(done, warnings=(*done.warnings, says))


def _instead(wanted: Sequence[Wanted], done: Sequence[Registration], removable: str) -> str:
    has_entry = (Outcome.CREATED, Outcome.REUSED)
    entries = (each.loader.path for each, one in zip(wanted, done, strict=True) if one.outcome in has_entry)
    return next(entries, removable)


def _register(wanted: Sequence[Wanted], *, disposable: Callable[[str], bool]) -> tuple[Registration, ...]:
    try:
        found = _listed()
    except _TROUBLE as error:
        return tuple(Registration(outcome=Outcome.FAILED, warnings=(str(error),)) for _ in wanted)
    changes = efientries.decide(found, wanted, disposable=disposable)
    return _Applying(found, changes).run(wanted)


class _Applying:
    """Carries changes out, and keeps what went wrong: with one entry, or with the whole."""

    def __init__(self, found: Entries, changes: Changes) -> None:
        self._found = found
        self._changes = changes
        self._refused: dict[Wanted, str] = {}
        self._warnings: list[str] = []

    def run(self, wanted: Sequence[Wanted]) -> tuple[Registration, ...]:
        changes = self._changes
        # Before one is made: a full store may have room only then.
        for entry in changes.remove:
            self._try("--bootnum", entry.number, "--delete-bootnum")
        for number in changes.activate:
            self._try("--bootnum", number, "--active")
        self._create()
        after = self._after()
        made = self._made(after)
        order = self._put_in_order(after, [entry.number for entry in made.values()])
        kept = {each: Registration(outcome=Outcome.REUSED, number=entry.number) for each, entry in changes.keep}
        done = [kept.get(each) or self._registered(each, made.get(each), order) for each in wanted]
        # What is about the whole is said once.
        done[0] = replace(done[0], warnings=(*self._warnings, *done[0].warnings))
        return tuple(done)

    def _try(self, *argv: str) -> str:
        try:
            return _efibootmgr(*argv)
        except _TROUBLE as error:
            self._warnings.append(str(error))
            return ""

    def _create(self) -> None:
        # The last one first: each new entry is put before those that are there.
        for each in reversed(self._changes.create):
            try:
                _efibootmgr(*_arguments(each))
            except ProgramTimedOut as error:
                # Firmware that hangs isn't asked again.
                self._refuse_all(error)
                return
            except _TROUBLE as error:
                self._refused[each] = str(error)

    def _after(self) -> Entries:
        if not self._changes.create and not self._changes.remove:
            return self._found
        try:
            return _listed()
        except _TROUBLE as error:
            self._refuse_all(error)
            return Entries()

    def _refuse_all(self, error: Exception) -> None:
        for each in self._changes.create:
            self._refused.setdefault(each, str(error))

    def _made(self, after: Entries) -> dict[Wanted, Entry]:
        known = set(self._found.entries)
        made: dict[Wanted, Entry] = {}
        for each in self._changes.create:
            entry = efientries.made_for(after, each.loader, known=known)
            if entry is not None:
                made[each] = entry
                known.add(entry)
        return made

    def _put_in_order(self, after: Entries, made: Sequence[str]) -> tuple[str, ...]:
        order = self._changes.order_with(made)
        others = tuple(number for number in after.order if number not in order)
        if not after.entries or tuple(number for number in after.order if number in order) == order:
            return after.order
        return efientries.parse(self._try("--bootorder", ",".join((*order, *others)))).order or after.order

    def _registered(self, wanted: Wanted, entry: Entry | None, order: Sequence[str]) -> Registration:
        refused = (self._refused[wanted],) if wanted in self._refused else ()
        if entry is None:
            lost = f"the firmware has no entry for {wanted.loader.file} although efibootmgr made one"
            return Registration(outcome=Outcome.FAILED, warnings=refused or (lost,))
        if entry.number not in order:
            unreached = f"the firmware has entry {entry.number} for {wanted.loader.file}, and not in its boot order"
            return Registration(outcome=Outcome.FAILED, number=entry.number, warnings=(*refused, unreached))
        return Registration(outcome=Outcome.CREATED, number=entry.number, warnings=refused)


def _arguments(wanted: Wanted) -> tuple[str, ...]:
    loader = wanted.loader
    options = ("--unicode", "--", loader.options) if loader.options else ()
    place = ("--disk", loader.disk, "--part", str(loader.number))
    return ("--create", *place, "--label", wanted.label, "--loader", loader.file, *options)


def _listed() -> Entries:
    return efientries.parse(_efibootmgr("--verbose"))


def _efibootmgr(*argv: str) -> str:
    # Labels and data are whatever somebody once wrote there.
    return process.run("efibootmgr", *argv, timeout=_TIMEOUT).stdout.decode(errors="replace")
