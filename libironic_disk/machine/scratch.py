"""Temporary files: gone when their ``with`` ends, and with errors that say where they had no room."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from libironic_disk.errors import TemporaryFilesFailed
from libironic_disk.machine.undoing import undone_on_error


@contextmanager
def directory(*, prefix: str = "libironic_disk-", parent: Path | None = None) -> Iterator[Path]:
    """Give a private directory; ``parent`` is the system's own place for such by default.

    Raises:
        TemporaryFilesFailed: it can't be made or removed. Where another error passes, not removing it is its aftermath.
    """
    with reported(parent):
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    with _gone_afterwards(made):
        yield made


@contextmanager
def directory_at(path: Path) -> Iterator[Path]:
    """Give a private directory with a name that the caller chose.

    Raises:
        TemporaryFilesFailed: as :func:`directory`.
    """
    with reported(path.parent):
        path.mkdir(mode=0o700)
    with _gone_afterwards(path):
        yield path


@contextmanager
def holding(data: bytes) -> Iterator[Path]:
    """Give a file with these bytes.

    Raises:
        TemporaryFilesFailed: it can't be made, written or removed.
    """
    with directory() as made:
        file = made / "data"
        with reported():
            file.write_bytes(data)
        yield file


@contextmanager
def reported(parent: Path | None = None) -> Iterator[None]:
    """Raise what goes wrong with temporary files as what it is: around nothing else.

    Raises:
        TemporaryFilesFailed: in place of any OSError.
    """
    try:
        yield
    except OSError as error:
        raise TemporaryFilesFailed(directory=place(parent), reason=error.strerror or str(error)) from error


@contextmanager
def _gone_afterwards(made: Path) -> Iterator[None]:
    with undone_on_error(lambda: _remove(made), f"{made} is left"):
        yield
    try:
        _remove(made)
    except OSError as error:
        reason = f"{made} is left: {error.strerror or error}"
        raise TemporaryFilesFailed(directory=str(made.parent), reason=reason) from error


def _remove(made: Path) -> None:
    try:
        shutil.rmtree(made)
    except OSError:
        # Whoever had the last descriptor of this process may be done with it by now.
        shutil.rmtree(made)


def place(parent: Path | None = None) -> str:
    """Return where temporary files are made, for people."""
    try:
        return str(parent or tempfile.gettempdir())
    except OSError:
        # Where none of them takes a file, Python has none to name.
        return "the directories for temporary files"
