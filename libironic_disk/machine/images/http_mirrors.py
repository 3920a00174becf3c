"""The places that have an image, and what becomes of them as they fail."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from libironic_disk.errors import SourceFailed, add_aftermath
from libironic_disk.machine.http import HttpPolicy, Passing
from libironic_disk.machine.images.http_client import Client, Location
from libironic_disk.machine.images.http_identity import Version
from libironic_disk.machine.images.http_line import Line

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0


class Mirror:
    """One place; ``version`` is what it had when it was first asked, ``gives_parts`` is true until it didn't."""

    def __init__(self, location: Location, policy: HttpPolicy, line: Line) -> None:
        self.location = location
        self.name = location.name
        self.client = Client(location, policy, line)
        self.version: Version | None = None
        self.gives_parts = True
        self.failures = 0


class Mirrors:
    """The places that are left, the one in use first.

    As long as nothing was read, the next one is tried as soon as one fails. Later that would mean to read everything
    again, so one is left only after as many failures in a row as the policy has attempts.
    """

    def __init__(self, locations: Sequence[Location], policy: HttpPolicy, line: Line) -> None:
        if not locations:
            raise ValueError("an image without a location")
        self._policy = policy
        self._line = line
        self._left = deque(Mirror(location, policy, line) for location in locations)
        self._lost: list[SourceFailed] = []

    @property
    def current(self) -> Mirror:
        """The one in use.

        Raises:
            SourceFailed: there is none left; why the last one isn't.
        """
        if not self._left:
            raise self._lost[-1]
        return self._left[0]

    def close(self) -> None:
        """Close every connection: nothing is asked for any more."""
        for mirror in self._left:
            mirror.client.hang_up()
        # The last one was raised, and holds whoever was reading.
        self._lost.clear()

    def progressed(self) -> None:
        """Forget the failures: the image came further."""
        for mirror in self._left:
            mirror.failures = 0

    def failed(self, failure: Passing | SourceFailed, offset: int) -> None:
        """Decide what to do about a failure at ``offset``: return, after a pause, to try again with ``current``.

        Raises:
            SourceFailed: there is nowhere left to try.
            Cancelled: the caller wished so.
        """
        self._line.check()
        mirror = self.current
        mirror.client.hang_up()
        mirror.failures += 1
        if isinstance(failure, Passing) and mirror.failures < self._policy.attempts:
            if not offset:
                self._left.rotate(-1)
            self._pause(failure.wait if self.current is mirror else 0.0)
            return
        lost = self._lose(mirror, failure, offset)
        # What raises an error and has a name for it is held by that error, with all that it holds itself.
        del failure
        if lost is not None:
            try:
                raise lost
            finally:
                del lost

    def _pause(self, wanted: float) -> None:
        failures = self.current.failures
        if failures:
            self._line.pause(max(wanted, min(_FIRST_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE)))

    def _lose(self, mirror: Mirror, failure: Passing | SourceFailed, offset: int) -> SourceFailed | None:
        """Leave a mirror for good; return what to raise if it was the last one."""
        if isinstance(failure, Passing):
            reason = f"{failure} (attempts: {mirror.failures})"
            failure = SourceFailed(source=mirror.name, reason=reason, offset=offset)
        elif failure.offset is None:
            failure.offset = offset
        self._left.popleft()
        self._lost.append(failure)
        if self._left:
            return None
        for lost in self._lost[:-1]:
            add_aftermath(failure, str(lost))
        return failure
