"""Reading parts of an image out of order, where its server was seen to give them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from libironic_disk.errors import SourceChanged, SourceFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine.http import HttpPolicy, Passing
from libironic_disk.machine.images.http_client import Body, Location
from libironic_disk.machine.images.http_identity import Version, part_of, version
from libironic_disk.machine.images.http_line import Line
from libironic_disk.machine.images.http_mirrors import Mirrors
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.units import KIB, MIB

# To read that much more is faster than another request.
_SMALLEST_GAP: Final = 64 * KIB
_LARGEST_REQUEST: Final = 4 * MIB


class Parts:
    """Parts of one version of an image, read over a connection of its own; from any thread, one at a time."""

    def __init__(self, location: Location, known: Version, policy: HttpPolicy, cancel: Cancellation | None) -> None:
        self._name = location.name
        self._known = known
        self._line = Line(self._name, policy, cancel)
        self._mirrors = Mirrors([location], policy, self._line)
        self._stack = ExitStack()
        self._stack.enter_context(self._line)
        self._stack.callback(self._mirrors.close)
        self._lock = threading.Lock()

    def stop(self) -> None:
        """End a reading that waits, and all later ones."""
        self._line.stop()

    def close(self) -> None:
        """Close the connection."""
        self.stop()
        with self._lock:
            self._stack.close()

    def read(self, wanted: ByteRange) -> bytes:
        """Return exactly these bytes, all of which the image has.

        Raises:
            SourceFailed: they can't be had, or are of another version.
            Cancelled: the caller wished so.
        """
        buffer = bytearray(wanted.size)
        with self._lock:
            while True:
                try:
                    body = self._ask(wanted)
                    if body.read_whole(memoryview(buffer)) == wanted.size:
                        self._mirrors.progressed()
                        return bytes(buffer)
                    raise Passing("the connection ended before the body did")
                except (Passing, SourceFailed) as failure:
                    self._mirrors.failed(failure, wanted.start)

    def _ask(self, wanted: ByteRange) -> Body:
        client = self._mirrors.current.client
        condition = str(self._known.condition)
        response = client.get({"Range": f"bytes={wanted.start}-{wanted.end - 1}", "If-Range": condition})
        if response.status == 416:
            raise SourceChanged(source=self._name, reason="it is shorter than it was", offset=wanted.start)
        self._known.check_same(version(response), source=self._name, offset=wanted.start)
        part = part_of(response) if response.status == 206 else None
        if part is None or (part.start, part.end) != wanted:
            reason = "the server sent something else than the part that was asked for"
            raise SourceFailed(source=self._name, reason=reason, offset=wanted.start)
        return Body(client, response, wanted.size)


def coalesced(ranges: Sequence[ByteRange]) -> list[ByteRange]:
    """Return fewer ranges that hold these: neighbours become one while that stays within 4 MiB."""
    spans: list[ByteRange] = []
    for each in sorted(ranges):
        last = spans[-1] if spans else None
        if last and each.start - last.end <= _SMALLEST_GAP and each.end - last.start <= _LARGEST_REQUEST:
            spans[-1] = ByteRange(last.start, max(last.end, each.end))
        elif not (last and each.end <= last.end):
            spans.append(each)
    return spans
