"""Reading ahead in a second thread, so that source and disk work at the same time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple, Self

from libironic_disk.errors import Cancelled
from libironic_disk.machine.images.buffers import Buffer, BufferPool
from libironic_disk.machine.images.sources import Data, OpenSource, Piece

BUFFERS: Final = 8
_TICK_SECONDS: Final = 0.1
_PATIENCE_SECONDS: Final = 0.5


class Leased(NamedTuple):
    """A piece, and the buffer that its bytes are in: held for whoever takes it, None for a piece of zeros."""

    piece: Piece
    buffer: Buffer | None


def nothing() -> None:
    """Do nothing: for callers that need not be asked."""


@contextmanager
def reading_ahead(
    source: OpenSource, *, tick: Callable[[], None] = nothing, buffers: int = BUFFERS
) -> Iterator[Reading]:
    """Read ``source`` by a few buffers ahead of whoever takes its pieces and releases them.

    Each piece fills its buffer, but for one before zeros or the end: however little a server sends at a time, what is
    written has the alignment of the disk. What reading raises is raised where the pieces are taken. When the ``with``
    ends, for whatever reason, the source is stopped and the thread ended; only one that waits for a stream of the
    caller's own is left waiting after a moment, as nobody but the caller can end that, and does nothing any more.

    Args:
        source: read by the thread alone as long as the ``with`` lasts.
        tick: called before every piece and ten times a second while one is waited for; what it raises ends the waiting.
        buffers: how many there are.
    """
    reading = Reading(source, BufferPool(buffers), tick)
    thread = threading.Thread(target=reading.run, name="libironic_disk-read", daemon=True)
    thread.start()
    try:
        yield reading
    finally:
        reading.stop()
        thread.join(_PATIENCE_SECONDS)
        reading.forget()


class Reading:
    """The pieces of a source that is read ahead, each for whoever takes it and once; see :func:`reading_ahead`."""

    def __init__(self, source: OpenSource, pool: BufferPool, tick: Callable[[], None]) -> None:
        self._source = source
        self._pool = pool
        self._tick = tick
        self._stopped = False
        # Bounded by the buffers, and pieces of zeros by how large they are.
        self._full: queue.SimpleQueue[Leased | BaseException | None] = queue.SimpleQueue()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Leased:
        while True:
            self._tick()
            if self._stopped:
                raise Cancelled(during="image")
            try:
                found = self._full.get(timeout=_TICK_SECONDS)
            except queue.Empty:
                continue
            if isinstance(found, BaseException):
                try:
                    raise found
                finally:
                    # Else it holds this frame, which holds it, and both all buffers until the garbage collector comes.
                    del found
            if found is not None:
                return found
            # Reading that was stopped ends like reading that is finished; for whoever takes it as the whole it isn't.
            if self._stopped:
                raise Cancelled(during="image")
            raise StopIteration

    def stop(self) -> None:
        """End the reading, and whoever waits for a piece; from any thread."""
        self._stopped = True
        self._pool.close()
        self._source.stop()

    def forget(self) -> None:
        """Let go of what nobody took; an error among it would hold this object, and all buffers with it."""
        with suppress(queue.Empty):
            while True:
                self._full.get_nowait()

    def run(self) -> None:
        """Read until the end; the thread's whole life."""
        try:
            while not self._stopped and (buffer := self._pool.take()) is not None:
                if not self._fill(buffer):
                    break
            self._full.put(None)
        except BaseException as error:
            self._full.put(error)

    def _fill(self, buffer: Buffer) -> bool:
        """Fill a buffer and hand it over; return whether there may be more."""
        filled, size = 0, len(buffer.view)
        following: Piece | None = None
        while filled < size and not self._stopped:
            following = self._source.fill(buffer.view[filled:])
            if not isinstance(following, Data):
                break
            filled += len(following.data)
            end = following.end
        if filled:
            whole = Data(offset=end - filled, data=buffer.view[:filled])
            self._full.put(Leased(whole, buffer))
        else:
            buffer.release()
        if following is not None and not isinstance(following, Data):
            self._full.put(Leased(following, None))
        return following is not None
