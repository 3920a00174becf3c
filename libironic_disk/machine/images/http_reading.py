"""Reading an image from HTTP servers to its end, whatever they do."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import urllib3

from libironic_disk.errors import SourceChanged, SourceFailed
from libironic_disk.events import Cancellation
from libironic_disk.machine.http import Passing
from libironic_disk.machine.images.http_client import Body
from libironic_disk.machine.images.http_identity import Version, check_plain, part_of, total_of_refused, version
from libironic_disk.machine.images.http_line import Line
from libironic_disk.machine.images.http_mirrors import Mirror, Mirrors
from libironic_disk.machine.images.http_parts import Parts, coalesced
from libironic_disk.machine.images.sources import Data, Delivered
from libironic_disk.pure.images.checksums import Algorithm, LiveDigest
from libironic_disk.pure.ranges import ByteRange
from libironic_disk.units import MIB

if TYPE_CHECKING:
    from libironic_disk.machine.images.http_source import HttpImage

_SCRATCH: Final = MIB


class OpenHttpImage:
    """An image on HTTP servers while it is read; made by :meth:`HttpImage.opened`."""

    def __init__(self, image: HttpImage, line: Line, cancel: Cancellation | None, delivered: Delivered | None) -> None:
        self._image = image
        self._line = line
        self._mirrors = Mirrors(image.locations, image.policy, line)
        self._mirrors.current.version = image.known
        self._mirrors.current.gives_parts = image.random_access
        self._parts: Parts | None = None
        self._parts_lock = threading.Lock()
        self._cancel = cancel
        self._delivered = delivered
        # On a machine without instructions for SHA, this one is the fastest.
        needed = delivered is None and (len(image.locations) > 1 or not image.random_access)
        self._digest = LiveDigest(Algorithm.BLAKE2B) if needed else None
        self._body: Body | None = None
        self._size = image.size
        self._position = 0

    def stop(self) -> None:
        """Let whoever waits here end with Cancelled within a fraction of a second; from any thread."""
        self._line.stop()
        with self._parts_lock:
            if self._parts is not None:
                self._parts.stop()

    def close(self) -> None:
        """Close the connections."""
        self.stop()
        self._mirrors.close()
        if self._parts is not None:
            self._parts.close()

    def fill(self, buffer: memoryview) -> Data | None:
        """Return the next piece, as much of it as comes within a moment; see :class:`OpenSource`.

        Raises:
            SourceChanged: it isn't any more what it was when it was inspected.
            ServerRefused: a server answered so.
            SourceTimedOut: not in the policy's time.
            SourceFailed: anything else, also after attempts to resume.
            Cancelled: the caller wished so.
        """
        self._line.check()
        while self._body is None or self._position != self._size:
            try:
                self._body = self._body or self._begin()
                count = self._body.read_into(buffer)
                self._check_piece(buffer[:count])
            except (Passing, SourceFailed) as failure:
                self._body = None
                self._mirrors.failed(failure, self._position)
                continue
            if not count:
                self._size = self._position
                break
            self._mirrors.progressed()
            return self._take(buffer[:count])
        self._check_end(self._body)
        return None

    def read_at(self, offset: int, length: int) -> bytes:
        """Read exactly ``length`` bytes at ``offset``, fewer only at the end, if the image has ``random_access``.

        It takes a connection of its own and may be called from other threads than the one that fills.

        Raises:
            SourceChanged, SourceTimedOut, ServerRefused, SourceFailed, Cancelled: as :meth:`fill`.
        """
        return self.read_ranges([ByteRange(offset, offset + length)])[0]

    def read_ranges(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Read several ranges as :meth:`read_at` does, in fewer requests where they are neighbours."""
        wanted = [self._clipped(each) for each in ranges]
        spans = coalesced([each for each in wanted if each.size])
        found = {span: memoryview(self._open_parts().read(span)) for span in spans}
        return [bytes(_cut(found, each)) for each in wanted]

    def _clipped(self, wanted: ByteRange) -> ByteRange:
        size = self._image.size or 0
        return ByteRange(min(wanted.start, size), min(wanted.end, size))

    def _open_parts(self) -> Parts:
        image = self._image
        if not image.random_access:
            raise SourceFailed(source=image.name, reason="its server doesn't give parts of it")
        with self._parts_lock:
            self._line.check()
            if self._parts is None:
                self._parts = Parts(image.locations[0], image.known, image.policy, self._cancel)
            return self._parts

    def _begin(self) -> Body:
        """Ask for what is still to come, and return it with its first byte next."""
        mirror = self._mirrors.current
        condition = mirror.version.condition if mirror.version and mirror.gives_parts else None
        if self._position and condition:
            response = mirror.client.get({"Range": f"bytes={self._position}-", "If-Range": condition})
            if self._continues(response, mirror):
                return Body(mirror.client, response, self._left)
            mirror.gives_parts = False
            if response.status != 200:
                response = mirror.client.get({})
        else:
            response = mirror.client.get({})
        check_plain(response, source=mirror.name)
        self._identify(mirror, version(response))
        body = Body(mirror.client, response, version(response).size)
        if self._position:
            self._prove(body, mirror.name)
        return body

    @property
    def _left(self) -> int | None:
        return None if self._size is None else self._size - self._position

    def _continues(self, response: urllib3.BaseHTTPResponse, mirror: Mirror) -> bool:
        """Whether an answer is the rest of the version that was begun; False if the server just doesn't give parts."""
        if response.status == 416:
            total = total_of_refused(response)
            if total not in (None, self._size):
                reason = f"it was changed: its size was {self._size} and is {total}"
                raise SourceChanged(source=mirror.name, reason=reason, offset=self._position)
            return False
        known, found = mirror.version, version(response)
        if known is not None:
            known.check_same(found, source=mirror.name, offset=self._position)
        part = part_of(response) if response.status == 206 else None
        if part is None or (part.start, part.end) != (self._position, part.total):
            return False
        if known is not None and known.etag and not found.etag:
            return False
        check_plain(response, source=mirror.name)
        self._identify(mirror, found)
        return True

    def _identify(self, mirror: Mirror, found: Version) -> None:
        """Check that a place has the image that was inspected, as far as it says, and remember its version."""
        if mirror.version is None:
            mirror.version = found
        mirror.version.check_same(found, source=mirror.name, offset=self._position)
        if None not in (self._size, found.size) and found.size != self._size:
            reason = f"it has {found.size} bytes there, and had {self._size} when it was inspected"
            raise SourceChanged(source=mirror.name, reason=reason, offset=self._position)
        self._size = found.size if self._size is None else self._size

    def _prove(self, body: Body, name: str) -> None:
        """Read again what was given away already, and check that it is the same."""
        given = self._delivered(self._position) if self._delivered else self._digest
        if given is None:
            reason = "the server doesn't give the rest of it any more"
            raise SourceFailed(source=name, reason=reason, offset=self._position)
        again = LiveDigest(given.algorithm)
        scratch = memoryview(bytearray(min(_SCRATCH, self._position)))
        while left := self._position - again.position:
            count = body.read_into(scratch[:left])
            if not count:
                break
            again.update(scratch[:count])
        if again.checksum() != given.checksum():
            reason = f"it was changed: its first {self._position} bytes are others than before"
            raise SourceChanged(source=name, reason=reason, offset=self._position)

    def _check_piece(self, piece: memoryview) -> None:
        """Check a piece against what was inspected."""
        end = self._position + len(piece)
        head = self._image.head[self._position : end]
        # Bytes, because memoryviews are compared item by item.
        if bytes(piece[: len(head)]) != head or (not piece and end < len(self._image.head)):
            reason = "it was changed: its first bytes are others than when it was inspected"
            raise SourceChanged(source=self._mirrors.current.name, reason=reason, offset=self._position)
        if self._size is not None and end > self._size:
            reason = f"it goes on behind the {self._size} bytes that it had when it was inspected"
            raise SourceChanged(source=self._mirrors.current.name, reason=reason, offset=self._size)
        if not piece and self._size is not None and end < self._size:
            reason = f"it ended as if it were whole, and it has {self._size} bytes"
            raise SourceFailed(source=self._mirrors.current.name, reason=reason, offset=end)
        most = self._image.max_bytes
        if most is not None and end > most:
            reason = f"it goes on behind the {most} bytes that it may have"
            raise SourceFailed(source=self._mirrors.current.name, reason=reason, offset=most)

    def _check_end(self, body: Body | None) -> None:
        """Check that a body doesn't go on whose length nobody said; whether it ends well doesn't matter any more."""
        more = memoryview(bytearray(1))
        with suppress(Passing):
            self._check_piece(more[: body.read_into(more) if body else 0])

    def _take(self, piece: memoryview) -> Data:
        if self._digest is not None:
            self._digest.update(piece)
        self._position += len(piece)
        return Data(offset=self._position - len(piece), data=piece)


def _cut(found: dict[ByteRange, memoryview], wanted: ByteRange) -> memoryview:
    for span, data in found.items():
        if span.start <= wanted.start and wanted.end <= span.end:
            return data[wanted.start - span.start : wanted.end - span.start]
    return memoryview(b"")
