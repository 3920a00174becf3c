"""The firmware's boot entries as efibootmgr lists them, and what has to change so that it starts what we want.

An entry is a load option (UEFI 2.10, 3.1.3): a label, the path of a file on a partition, and data for the loader. Which
entry starts which loader is told by partition and path, never by the label, which several may share. :func:`decide`
compares; nothing here writes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

# Version 17 needs -v for paths, version 18 always has them; 18 glues an entry's optional data to a path without File().
_ENTRY: Final = re.compile(r"Boot(?P<number>[0-9A-Fa-f]{4})(?P<active>[* ]) (?P<label>[^\t]*)\t(?P<path>.*)")
_ORDER: Final = re.compile(r"BootOrder: ([0-9A-Fa-f]{4}(?:,[0-9A-Fa-f]{4})*)")
# Version 18 shows the data once more, in hexadecimal.
_DATA: Final = re.compile(r"    data: ((?:[0-9a-f]{2} ?)*)")
_ON_PARTITION: Final = re.compile(
    r"HD\((?P<part>\d+),(?:GPT|MBR),(?P<signature>[0-9A-Fa-fx-]+),[^)]*\)/(?P<rest>(?:File\()?\\.*)"
)
_FILE: Final = re.compile(r"File\((?P<file>\\.*?\.efi)\)|(?P<bare>\\[^)]*\.efi)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """A loader on a partition: what an entry has to point at.

    ``partuuid`` is the partition's, as the kernel writes it. ``path`` has slashes, none at its start. ``options`` are
    what the loader is told, by the entry's optional data in UCS-2.
    """

    disk: str
    number: int
    partuuid: str
    path: str
    options: str = ""

    @property
    def file(self) -> str:
        """The path as the firmware writes it."""
        return "\\" + self.path.replace("/", "\\")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A loader that is to have an entry, and what the firmware's menu is to show for it."""

    loader: Loader
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry: its four hexadecimal digits, and its device path and data as efibootmgr shows them.

    ``data`` is the optional data where it is shown by itself; else it is behind the path, None here.
    """

    number: str
    active: bool
    label: str
    path: str
    data: str | None = None

    def on_partition(self, loader: Loader) -> bool:
        """Whether the entry's path leads to the loader's partition."""
        found = _ON_PARTITION.search(self.path)
        if found is None:
            return False
        signature = found["signature"].lower()
        wanted = loader.partuuid.lower()
        # The signature of an MBR is the disk's: only with the number it names a partition.
        on_mbr = f"{signature.removeprefix('0x'):0>8}-{int(found['part']):02x}"
        return wanted == (on_mbr if signature.startswith("0x") else signature)

    def starts(self, loader: Loader) -> bool:
        """Whether the entry starts this file, whatever it tells it."""
        return self._told(loader) is not None

    def starts_with_options(self, loader: Loader) -> bool:
        """Whether the entry starts this file and tells it the loader's options and nothing else."""
        return self._told(loader) == _shown(loader.options.encode("utf-16-le", "replace"))

    def file(self) -> str:
        """The path of the entry's file on its partition, with slashes inside only; empty where it is unclear."""
        found = _ON_PARTITION.search(self.path)
        file = _FILE.match(found["rest"]) if found else None
        return (file["file"] or file["bare"]).lstrip("\\").replace("\\", "/") if file else ""

    def _told(self, loader: Loader) -> str | None:
        found = _ON_PARTITION.search(self.path)
        if found is None or not self.on_partition(loader):
            return None
        for file in (f"File({loader.file})", loader.file):
            if found["rest"].lower().startswith(file.lower()):
                return self.data if self.data is not None else found["rest"][len(file) :].rstrip(".")
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """What the firmware has: its entries, and the numbers in the order in which it tries them."""

    entries: tuple[Entry, ...] = ()
    order: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What has to be done with the firmware's entries.

    Attributes:
        keep: for each loader that has one, its entry.
        activate: the numbers of those that firmware passes over as they are.
        remove: stale entries, and ours beyond the first for one loader.
        create: the loaders that have none, the first one to be the first in the order.
        order: the boot order of what stays, with those before the others that are kept and weren't in it.
    """

    keep: tuple[tuple[Wanted, Entry], ...] = ()
    activate: tuple[str, ...] = ()
    remove: tuple[Entry, ...] = ()
    create: tuple[Wanted, ...] = ()
    order: tuple[str, ...] = ()

    def order_with(self, made: Sequence[str]) -> tuple[str, ...]:
        """Return the boot order once the new entries have these numbers: they come first."""
        return (*made, *(number for number in self.order if number not in made))

    def __str__(self) -> str:
        lines = [f"keep {entry.number} for {wanted.loader.file}" for wanted, entry in self.keep]
        lines += [f"activate {number}" for number in self.activate]
        lines += [f"remove {entry.number} ({entry.label})" for entry in self.remove]
        lines += [f"create {wanted.label} for {wanted.loader.file}" for wanted in self.create]
        return "\n".join([*lines, f"boot order {','.join(self.order_with(['new'] * len(self.create)))}"])


def parse(text: str) -> Entries:
    """Read what ``efibootmgr --verbose`` prints."""
    entries: list[Entry] = []
    order: tuple[str, ...] = ()
    for line in text.split("\n"):
        if found := _ENTRY.fullmatch(line):
            number, active, label, path = found.group("number", "active", "label", "path")
            entries.append(Entry(number=number.upper(), active=active == "*", label=label, path=path))
        elif found := _ORDER.fullmatch(line):
            order = tuple(found[1].upper().split(","))
        elif entries and (found := _DATA.fullmatch(line)):
            entries[-1] = replace(entries[-1], data=_shown(bytes.fromhex(found[1])))
    return Entries(entries=tuple(entries), order=order)


def decide(found: Entries, wanted: Sequence[Wanted], *, disposable: Callable[[str], bool]) -> Changes:
    """Decide how the firmware comes to have one entry for each loader.

    An entry that starts a loader is kept whatever its label; one that tells it just the loader's options is preferred,
    and where there are options it has to. Of the others those are stale that have a label of ours, lie on the same
    partition and start one of our loaders, or a file that may go.

    Args:
        found: what the firmware has.
        wanted: the loaders, the first one to be tried first.
        disposable: whether an entry for this file on the partition (with slashes, none at its start; empty where that
            isn't clear) may go, because the file is gone or the caller's own.
    """
    kept = _matched(found.entries, wanted)
    stays = {entry.number for entry in kept.values()}
    labels = {each.label for each in wanted}
    # A label may have line ends in it, and what looks like another entry's line.
    times = Counter(entry.number for entry in found.entries)

    def is_stale(entry: Entry) -> bool:
        here = [each.loader for each in wanted if entry.on_partition(each.loader)]
        if entry.number in stays or times[entry.number] > 1 or entry.label not in labels or not here:
            return False
        return any(entry.starts(loader) for loader in here) or disposable(entry.file())

    removed = tuple(entry for entry in found.entries if is_stale(entry))
    gone = {entry.number for entry in removed}
    unreached = [entry.number for entry in kept.values() if entry.number not in found.order]
    return Changes(
        keep=tuple((each, kept[each]) for each in wanted if each in kept),
        activate=tuple(entry.number for entry in kept.values() if not entry.active),
        remove=removed,
        create=tuple(each for each in wanted if each not in kept),
        order=(*unreached, *(number for number in found.order if number not in gone)),
    )


def made_for(found: Entries, loader: Loader, *, known: Collection[Entry]) -> Entry | None:
    """Return the entry that was made for a loader: it isn't among those that were known before."""
    return _entry_for(found.entries, loader, but_for=known, any_options=True)


def _entry_for(
    entries: Sequence[Entry], loader: Loader, *, but_for: Collection[Entry], any_options: bool
) -> Entry | None:
    free = [entry for entry in entries if entry not in but_for and entry.starts(loader)]
    exact = next((entry for entry in free if entry.starts_with_options(loader)), None)
    return exact or next((entry for entry in free if any_options), None)


def _matched(entries: Sequence[Entry], wanted: Sequence[Wanted]) -> dict[Wanted, Entry]:
    # Options first: a loader without any would take what starts the same file with them.
    matched: dict[Wanted, Entry] = {}
    for each in sorted(wanted, key=lambda each: not each.loader.options):
        entry = _entry_for(entries, each.loader, but_for=matched.values(), any_options=not each.loader.options)
        if entry is not None:
            matched[each] = entry
    return {each: matched[each] for each in wanted if each in matched}


def _shown(data: bytes) -> str:
    """Return optional data as efibootmgr 17 shows it, a dot for what isn't printable; dots at its end say nothing."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data).rstrip(".")
