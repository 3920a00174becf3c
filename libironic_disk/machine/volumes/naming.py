"""The names of volume groups: what ``/dev`` has under them, which LVM minds before it makes one."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from libironic_disk.errors import LayoutInvalid
from libironic_disk.machine.disks import sysfs
from libironic_disk.pure.volumes.facts import Holder
from libironic_disk.pure.volumes.planning import PlannedGroup


def check_names(groups: Iterable[PlannedGroup], stops: Sequence[Holder]) -> None:
    """Refuse the name of a group that LVM would: ``/dev`` has such an entry, as it has ``shm`` and ``mapper``.

    The folder of a group that is taken apart first goes away with its volumes, and one that leads nowhere is forgotten.

    Raises:
        LayoutInvalid: lists all of them.
    """
    stopped = {sysfs.block_device_number(holder.node) for holder in stops}
    taken = [Path("/dev", group.name) for group in groups]
    problems = tuple(
        f"a volume group can't be named {path.name!r}: {path} is something else, and LVM would have to put links there"
        for path in taken
        if os.path.lexists(path) and not _goes_away(path, stopped)
    )
    if problems:
        raise LayoutInvalid(problems=problems)


def forget_links(group: str) -> None:
    """Remove the links to a group's volumes that lead nowhere, and their folder with the last one.

    udevd does so where it runs; where it doesn't, LVM makes the links itself, and dmsetup knows nothing of them.
    """
    folder = Path("/dev", group)
    # What is no link, or leads somewhere, is for LVM to refuse.
    with suppress(OSError):
        for link in folder.iterdir():
            if _is_dangling(link):
                link.unlink(missing_ok=True)
        folder.rmdir()


def _goes_away(folder: Path, stopped: Container[int]) -> bool:
    try:
        links = list(folder.iterdir())
        return not folder.is_mount() and all(_is_dangling(link) or _leads_to(link, stopped) for link in links)
    except OSError:
        return False


def _leads_to(link: Path, stopped: Container[int]) -> bool:
    return link.is_symlink() and link.stat().st_rdev in stopped


def _is_dangling(link: Path) -> bool:
    return link.is_symlink() and not link.exists()
