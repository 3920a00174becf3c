"""Work that another thread cancels, how soon it ends, and what it leaves behind."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest import mock

import pytest

from libironic_disk.errors import Cancelled
from libironic_disk.events import Cancellation
from tests.support.udevd import until

SOON = 1.0


class Switch:
    """A cancellation that another thread throws as soon as somebody says ``now``."""

    def __init__(self) -> None:
        self.cancellation = Cancellation()
        self._said = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.thrown_at = 0.0
        self._thread.start()

    def now(self) -> None:
        """Have it thrown; return at once."""
        self._said.set()

    def join(self) -> None:
        """Wait for the thread."""
        self._said.set()
        self._thread.join()

    def _run(self) -> None:
        self._said.wait()
        # Whoever said it gets as far as it was about to.
        time.sleep(0.1)
        self.thrown_at = time.monotonic()
        self.cancellation.cancel()


@contextmanager
def cancelled_soon(*, left_waiting: int = 0) -> Iterator[Switch]:
    """Check that a block ends with Cancelled soon after the switch was thrown, and its threads with it.

    Only ``left_waiting`` of them are still there, as they wait for a stream of the caller's own.
    """
    switch = Switch()
    try:
        with pytest.raises(Cancelled):
            yield switch
        ended = time.monotonic()
        assert len(threads()) == left_waiting
    finally:
        switch.join()
    assert 0 < ended - switch.thrown_at < SOON


@contextmanager
def leaving_nothing(folder: Path) -> Iterator[None]:
    """Check that no thread, no descriptor and no temporary file outlives a block; these would be in ``folder``."""
    before = _descriptors()
    folder.mkdir()
    with mock.patch.object(tempfile, "tempdir", str(folder)):
        yield
    assert list(folder.iterdir()) == []
    assert threads() == []
    # Those of a test's own server are closed by its threads, a moment later.
    assert until(lambda: _descriptors() <= before, within=5), _descriptors() - before


def threads() -> list[str]:
    """Return the library's threads that are alive."""
    return [each.name for each in threading.enumerate() if each.name.startswith("libironic_disk")]


def _descriptors() -> set[str]:
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(f"{each.name} {each.readlink()}")
    return found
