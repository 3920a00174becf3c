"""What is taken back after an error; that this fails too never hides the error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from libironic_disk.errors import DiskError, add_aftermath


@contextmanager
def undone_on_error(undo: Callable[[], object], words: str) -> Iterator[None]:
    """Call ``undo`` if the block fails; what that raises is added to the error, behind ``words``."""
    try:
        yield
    except BaseException as first:
        try:
            undo()
        except (OSError, DiskError) as second:
            add_aftermath(first, f"{words}: {(second.strerror if isinstance(second, OSError) else None) or second}")
        raise
