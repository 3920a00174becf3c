"""How far the copying of an image is: counted by the threads that do it, told by the one that waits for them."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Final

from libironic_disk.events import BytesMoved, Cancellation, EventSink, Phase

_INTERVAL_SECONDS: Final = 0.1
_RATE_SECONDS: Final = 5.0


class Meter:
    """Counts bytes, and tells a sink about ten times a second at most and once at the end.

    Args:
        sink: called from the thread that calls :meth:`tick` and :meth:`ended`.
        total: the source's size, None where it isn't known.
        cancel: asked by :meth:`tick`.
    """

    def __init__(self, sink: EventSink, total: int | None, cancel: Cancellation | None) -> None:
        self._sink = sink
        self._total = total
        self._cancel = cancel
        self._lock = threading.Lock()
        self._next = 0.0
        self._history = deque([(time.monotonic(), 0)])
        self._source_ended = False
        self.read = 0
        """Bytes that came from the source."""
        self.written = 0
        """Bytes of data that the target got."""
        self.zeroed = 0
        """Bytes of the target that were made zeros."""

    def read_until(self, position: int) -> None:
        """Take note that the source was read up to here."""
        if not self._source_ended:
            self.read = max(self.read, position)

    def source_ended(self) -> None:
        """Take note that the source was read to its end: what is read from now on is a copy of it."""
        self._source_ended = True

    def moved(self, *, written: int = 0, zeroed: int = 0) -> None:
        """Take note of what the target got; from any thread."""
        with self._lock:
            self.written += written
            self.zeroed += zeroed

    def tick(self) -> None:
        """Tell the sink unless that was just done.

        Raises:
            Cancelled: the caller wished so.
        """
        if self._cancel is not None:
            self._cancel.check("image")
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _INTERVAL_SECONDS
            self.ended()

    def ended(self) -> None:
        """Tell the sink, for the last time."""
        now = time.monotonic()
        self._history.append((now, self.read))
        while len(self._history) > 2 and now - self._history[1][0] >= _RATE_SECONDS:
            self._history.popleft()
        since, before = self._history[0]
        rate = (self.read - before) / (now - since) if now > since else 0.0
        self._sink(
            BytesMoved(
                phase=Phase.IMAGE,
                done=self.read,
                written=self.written,
                zeroed=self.zeroed,
                total=self._total,
                rate=rate,
            )
        )
