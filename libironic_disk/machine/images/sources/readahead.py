"""Reading ahead in a second thread, so that source and disk work at the same time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from libironic_disk.events import Cancellation
from libironic_disk.machine.images.sources import OpenSource, Piece
from libironic_disk.units import MIB

_BUFFERS: Final = 4
_BUFFER_SIZE: Final = 4 * MIB
_CANCEL_POLL_SECONDS: Final = 0.1


@contextmanager
def reading_ahead(source: OpenSource, *, cancel: Cancellation | None = None) -> Iterator[Iterator[Piece]]:
    """Read ``source`` by up to four buffers of 4 MiB ahead of whoever takes its pieces.

    A piece is valid until the next one is asked for. What reading raises is raised where the pieces are taken. When the
    ``with`` ends, for whatever reason, so does the thread: at the latest when the read that it is in returns.

    Args:
        source: read by the thread alone as long as the ``with`` lasts.
        cancel: asked before every piece and while waiting for one.
    """
    reader = _Reader(source)
    thread = threading.Thread(target=reader.run, name="libironic_disk-read", daemon=True)
    thread.start()
    try:
        yield reader.pieces(cancel)
    finally:
        reader.stop()
        thread.join()


class _Reader:
    def __init__(self, source: OpenSource) -> None:
        self._source = source
        # Every piece needs a buffer, a piece of zeros too: so the buffers bound how many pieces wait.
        self._free: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[tuple[Piece | None, memoryview] | BaseException] = queue.SimpleQueue()
        for _ in range(_BUFFERS):
            self._free.put(memoryview(bytearray(_BUFFER_SIZE)))
        self._stopped = False

    def run(self) -> None:
        try:
            while (buffer := self._free.get()) is not None and not self._stopped:
                piece = self._source.fill(buffer)
                self._full.put((piece, buffer))
                if piece is None:
                    return
        except BaseException as error:
            self._full.put(error)

    def stop(self) -> None:
        self._stopped = True
        self._free.put(None)

    def pieces(self, cancel: Cancellation | None) -> Iterator[Piece]:
        while True:
            found = self._wait(cancel)
            if isinstance(found, BaseException):
                raise found
            piece, buffer = found
            if piece is None:
                return
            yield piece
            self._free.put(buffer)

    def _wait(self, cancel: Cancellation | None) -> tuple[Piece | None, memoryview] | BaseException:
        while True:
            if cancel is not None:
                cancel.check("image")
            try:
                return self._full.get(timeout=_CANCEL_POLL_SECONDS)
            except queue.Empty:
                continue
