"""What a process holds, and what the machine holds for it: compared before and after, it shows what was leaked."""

from __future__ import annotations

import gc
import os
import stat
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_PATIENCE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """Descriptors by what they lead to (and a lock goes with its own), threads, mounts and children of one process."""

    descriptors: Counter[str]
    threads: Counter[str]
    mounts: Counter[str]
    children: Counter[str]

    def beyond(self, before: Holdings) -> tuple[str, ...]:
        """Return in words what is held that was not held before."""
        kinds = {
            "descriptor": self.descriptors - before.descriptors,
            "thread": self.threads - before.threads,
            "mount": self.mounts - before.mounts,
            "child": self.children - before.children,
        }
        return tuple(f"{kind}: {what}" for kind, more in kinds.items() for what in more.elements())


def held() -> Holdings:
    """Return what this process holds now."""
    gc.collect()
    return Holdings(
        descriptors=Counter(_descriptors()),
        threads=Counter(thread.name for thread in threading.enumerate()),
        mounts=Counter(_mounts()),
        children=Counter(children().values()),
    )


def leaked_since(before: Holdings) -> tuple[str, ...]:
    """Return what this process holds beyond ``before``; what is just going away gets its time to do so."""
    until = time.monotonic() + _PATIENCE
    while more := held().beyond(before):
        if time.monotonic() > until:
            return more
        time.sleep(0.05)
    return ()


def loop_devices(folder: Path) -> tuple[str, ...]:
    """Return the loop devices on files in a folder."""
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            file = backing.read_text().strip().removesuffix(" (deleted)")
        except OSError:
            continue
        if Path(file).is_relative_to(folder):
            found.append(f"/dev/{backing.parent.parent.name}")
    return tuple(sorted(found))


def files(folder: Path) -> tuple[str, ...]:
    """Return all files and folders in a folder."""
    return tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*")))


def _descriptors() -> list[str]:
    found = []
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208 (a path would hold one more)
        link = Path("/proc/self/fd", number)
        try:
            status = link.stat()
        except OSError:
            continue  # the one that listed them
        kind = stat.S_IFMT(status.st_mode)
        # A socket's or pipe's name has a number that differs each time.
        found.append({stat.S_IFSOCK: "socket", stat.S_IFIFO: "pipe"}.get(kind, str(link.readlink())))
    return found


def _mounts() -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def children() -> dict[int, str]:
    """Return the children of this process, those too that have ended and weren't waited for, and their programs."""
    # The kernel's own list of children is not built into every kernel.
    found, parent = {}, str(os.getpid())
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = entry.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if rest.split()[1] == parent:
            found[int(entry.parent.name)] = name
    return found
