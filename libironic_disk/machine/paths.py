"""Files of this machine that callers name: what the kernel refuses is told with their paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from libironic_disk.errors import PathFailed
from libironic_disk.machine.undoing import undone_on_error

HERE: Final = "this machine"
"""What errors call the file system of such a file."""


def read_plain(path: Path | str, limit: int) -> bytes | None:
    """Return at most ``limit`` bytes of a plain file; None for anything else, which is not opened.

    Raises:
        OSError: it can't be read.
        ValueError: it is no path.
    """
    # Opening a device already acts on it.
    if stat.S_ISREG(os.stat(path).st_mode):
        # Without O_NONBLOCK the opening of a pipe that is there by now waits for somebody to write to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return file.read(limit)
    return None


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Raise what goes wrong with a file or directory as what it is: around nothing else.

    Raises:
        PathFailed: in place of any OSError.
    """
    try:
        yield
    except OSError as error:
        raise PathFailed.of(HERE, str(path), error) from error


@contextmanager
def removed_on_error(file: Path) -> Iterator[None]:
    """Remove a file if the block fails; that it can't be removed is the error's aftermath."""
    with undone_on_error(lambda: file.unlink(missing_ok=True), f"{file} is left"):
        yield
