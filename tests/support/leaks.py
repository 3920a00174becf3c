"""Leaks of work that is done in this process: looked for before and after, also on the disks that it was done on.

Other runs share the machine, so of loop devices, mounts and locks only those count that have to do with the folders
that are asked about.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

from tests.support.faults import holdings
from tests.support.faults.holdings import Holdings
from tests.support.udevd import until


@contextmanager
def leaving_nothing(*folders: Path, temporary: Path) -> Iterator[None]:
    """Check that a block leaks nothing.

    Args:
        folders: where the files of disks are.
        temporary: an empty folder, for this process's temporary files meanwhile.
    """
    with mock.patch.object(tempfile, "tempdir", str(temporary)):
        before, disks_before = _of_process(), set(on_disks(*folders))
        yield
        assert until(lambda: not _of_process().beyond(before), within=5), _of_process().beyond(before)
        assert until(lambda: set(on_disks(*folders)) <= disks_before, within=5), set(on_disks(*folders)) - disks_before
        assert not holdings.files(temporary)


def _of_process() -> Holdings:
    # Mounts of the machine come and go with other runs; those of ours are looked for by their disks.
    return replace(holdings.held(), mounts=Counter())


def on_disks(*folders: Path) -> Iterator[str]:
    """Yield, in words, each loop device on a file in one of the folders, and each mount, claim and lock of these."""
    for folder in folders:
        loops = [Path("/sys/class/block", Path(node).name) for node in holdings.loop_devices(folder)]
        yield from (f"/dev/{loop.name} is attached" for loop in loops)
        nodes = {f"/dev/{each.name}" for loop in loops for each in (loop, *loop.glob(f"{loop.name}p*"))}
        yield from _mounts(folder, nodes)
        yield from _claims(nodes)


def _mounts(folder: Path, nodes: set[str]) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split(" ")
        if words[4].startswith(f"{folder}/") or nodes & set(words):
            yield line


def _claims(nodes: set[str]) -> Iterator[str]:
    for node in nodes:
        try:
            descriptor = os.open(node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.EBUSY:
                yield f"{node} is claimed"
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield f"{node} is locked"
        finally:
            os.close(descriptor)
